"""Helm and the tools that judge what it renders: in build/tools, where `make chart-test` puts them, or on the PATH."""

import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import yaml

from tests.charts import CHART, ROOT, example

TOOLS = ROOT / "build" / "tools"
#: Lowest and highest version of Kubernetes that the chart is checked for.
VERSIONS = ("1.27", "1.37")

Objects = list[dict[str, Any]]


def tool(name: str) -> str:
    """A program or file of the tools; skips where it is not, unless all must be (`make chart-test`)."""
    place = TOOLS / name
    found = str(place) if place.exists() else shutil.which(name)
    if found is None:
        told = f"{name} is not here: `make chart-test` installs it"
        if os.environ.get("CHART_TOOLS") == "all":
            pytest.fail(told)
        pytest.skip(told)
    return found


def run(*command: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """What a command says; whether it fails is the caller's to judge."""
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, check=False)


@cache
def template(name: str | None, *sets: str, release: str = "shop") -> subprocess.CompletedProcess[str]:
    """`helm template` of an example, or of the chart alone, with values over it."""
    values = ["--values", str(example(name))] if name else []
    values += [word for value in sets for word in ("--set-json", value)]
    version = ("--kube-version", f"{VERSIONS[0]}.0")
    return run(tool("helm"), "template", release, str(CHART), *version, "--namespace", "shop", *values)


@pytest.fixture(scope="session")
def rendered() -> Callable[..., Objects]:
    """All objects of an example, with values over it."""

    def objects(name: str, *sets: str, release: str = "shop") -> Objects:
        result = template(name, *sets, release=release)
        assert 0 == result.returncode, result.stderr
        return list(yaml.safe_load_all(result.stdout))

    return objects
