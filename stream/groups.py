"""Consumer groups: who is in one, how far it has come, and whether the user may be."""

import logging
import time
from collections.abc import Callable
from typing import Any

from kafka import KafkaAdminClient
from kafka.errors import KafkaError, RetriableError

from stream.access import Need, denied, explain, lacking
from stream.connect import admin
from stream.security import Cluster

COORDINATOR_S = 30.0
REFUSED = "GroupAuthorizationFailed"

# kafka-python cannot read what Faust's members say of themselves, and would write so, with all of it.
logging.getLogger("kafka.admin._groups").setLevel(logging.ERROR)


def check(broker: Cluster, group: str) -> None:
    """Return if the user may be a member of the group.

    Raises:
        AccessError: it may not.
    """
    _describe(broker, group, "Read")


def members(broker: Cluster, group: str, operation: str = "Describe") -> int:
    """How many live members a group has; `operation` (Read) is what is to be done with it, too."""
    return len(_describe(broker, group, operation)["members"])


def committed(broker: Cluster, group: str) -> dict[tuple[str, int], int]:
    """What a group has committed: the next offset by topic and partition."""
    need = Need("Describe", "group", group)
    found = _ask(broker, need, lambda client: client.list_group_offsets(group).get(group, {}))
    return {(tp.topic, tp.partition): at.offset for tp, at in found.items() if at.offset >= 0}


def _describe(broker: Cluster, group: str, operation: str) -> Any:
    need = Need(operation, "group", group)
    found = _ask(broker, need, lambda client: client.describe_groups([group])[group])
    if REFUSED in (found["error"] or "") or lacking([need], found):
        raise denied(broker, [need])
    return found


def _ask(broker: Cluster, need: Need, ask: Callable[[KafkaAdminClient], Any]) -> Any:
    """Ask for a group; a broker that never had one makes the topic for groups first, which takes a moment."""
    until = time.monotonic() + COORDINATOR_S
    with admin(broker) as client:
        while True:
            try:
                return ask(client)
            except RetriableError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)
            except KafkaError as error:
                raise explain(error, broker, need) from error
