"""The ACLs that deploy/docs/security.md lists: its table is what the tests grant, its commands are compared with it."""

import re
from pathlib import Path

from stream.access import Need

DOCUMENT = (Path(__file__).parents[1] / "deploy" / "docs" / "security.md").read_text()


def by_table() -> dict[str, list[Need]]:
    """What each role needs, in the table's order."""
    roles: dict[str, list[Need]] = {}
    for role, operations, kind, name in re.findall(
        r"^\| (\S+) \| (\w+(?:, \w+)*) \| (\S+) (\S+) \|$", DOCUMENT, re.MULTILINE
    ):
        roles.setdefault(role, []).extend(Need(operation, kind, name) for operation in operations.split(", "))
    return roles


def by_commands() -> dict[str, list[Need]]:
    """What the commands grant."""
    roles: dict[str, list[Need]] = {}
    command = r"^kafka-acls\.sh \$K --add --allow-principal User:(\S+) ((?:--operation \w+ )+)--(\S+) (\S+)$"
    for role, operations, kind, name in re.findall(command, DOCUMENT, re.MULTILINE):
        told = operations.replace("--operation ", "").split()
        roles.setdefault(role, []).extend(Need(operation, kind, name) for operation in told)
    return roles
