"""The alert rules: each fires when it should and only then, asks for what a worker shows, and has a page to go to."""

import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from stream.metrics import Metrics, Totals
from stream.partitioning import Placement
from stream.progress import Phase, Progress, Reached
from tests import prometheus

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "alerts" / "interest-stream.yaml"
TESTS = DEPLOY / "alerts" / "tests.yaml"
RUNBOOK = DEPLOY / "docs" / "runbook.md"


def rules() -> list[dict[str, Any]]:
    """All alerts."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def shown() -> set[str]:
    """The names of all samples that a worker shows which has met everything."""
    progress, totals = Progress(time.monotonic()), Totals()
    progress.enter(Phase.RUNNING, time.monotonic())
    progress.recover({("log", 0): Reached(1, 2)})
    progress.reach({("events", 0): Reached(1, 2)}, time.monotonic())
    totals.placements[0] = Placement()
    totals.models, totals.partitions = {"serving": "v1"}, {"events": 1}
    text = Metrics(totals, progress, 60.0, provider="cpu").render().decode()
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


def asked(expression: str) -> set[str]:
    """The metrics that an expression asks for."""
    return set(re.findall(r"\b(?:interest|process|python)_\w+", re.sub(r'"[^"]*"', "", expression)))


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_metrics_are_shown(rule: dict[str, Any]) -> None:
    """An alert on a metric that nobody has never fires."""
    names = asked(rule["expr"])

    assert names
    assert set() == names - shown()


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_says_what_to_do(rule: dict[str, Any]) -> None:
    """Whom it wakes, what happened, and where to read on; no alert fires at the first look."""
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert re.fullmatch(r"\d+[mh]", rule["for"])
    assert {"summary", "description", "runbook_url"} == rule["annotations"].keys()
    assert f"deploy/docs/runbook.md#{rule['alert'].lower()}" == rule["annotations"]["runbook_url"]


def test_runbook() -> None:
    """A section for each alert and for nothing else; each says where to look and what to do."""
    sections = re.split(r"^### ", RUNBOOK.read_text(), flags=re.MULTILINE)[1:]

    assert sorted(rule["alert"] for rule in rules()) == sorted(section.partition("\n")[0] for section in sections)
    for section in sections:
        assert "\nLook: " in section, section
        assert "\nDo: " in section, section


def test_each_is_tested() -> None:
    """Each alert has a case in which it fires and one in which it does not."""
    cases = yaml.safe_load(TESTS.read_text())["tests"]
    quiet = {one["alertname"] for case in cases for one in case["alert_rule_test"] if not one["exp_alerts"]}
    loud = {
        name
        for case in cases
        for one in case.get("promql_expr_test", ())
        if one["exp_samples"]
        for name in re.findall(r'ALERTS{alertname="(\w+)"', one["expr"])
    }

    names = {rule["alert"] for rule in rules()}
    assert (names, names) == (quiet, loud)


@pytest.mark.parametrize("arguments", [("check", "rules", RULES), ("test", "rules", TESTS)], ids=["check", "test"])
def test_promtool(arguments: tuple[str | Path, ...]) -> None:
    """Prometheus reads the rules, and they fire as their tests say."""
    command = [prometheus.require("promtool"), *map(str, arguments)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert 0 == done.returncode, done.stdout + done.stderr
