"""A real Prometheus scrapes a real worker under load: every panel shows something, every alert has what it asks for."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import prometheus
from tests.bundles import random_bundle
from tests.faults.proxy import free_port
from tests.integration.conftest import Names
from tests.integration.probes import answer
from tests.integration.sender import Keyed, send
from tests.integration.workers import Topics, Worker, create_topics, wait_for
from tests.prometheus import Prometheus

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "alerts" / "interest-stream.yaml"
DASHBOARD = json.loads((DEPLOY / "dashboards" / "interest-stream.json").read_text())
NAMESPACE, JOB = "shop", "interest"
TIME_MS = 1_760_000_000_000
USERS = 60
#: A range that holds some scrapes, and how many there are to be before anything is asked.
RATE_INTERVAL, SCRAPES = "10s", 15
#: Windows are cut soon, so that events can be late; not all states are kept; a start reads the whole changelog.
SETTINGS: dict[str, object] = {
    "store": "memory",
    "window_max_events": 4,
    "window_keep_events": 2,
    "state_cache_users": USERS // 2,
    "standby_replicas": 0,
}


def load() -> Iterator[list[Keyed]]:
    """Rounds of events in which everything occurs: every third item is unknown, some are late, twice there, or bad."""
    second = 0
    while True:
        records: list[Keyed] = []
        for number in range(USERS):
            second += 1
            records.append(event(number, second, event_id=f"e{second}"))
        records.append(event(0, second, event_id=f"e{second - USERS + 1}"))  # twice
        records.append(event(1, 0))  # late, once the window was cut
        records.append(event(2, second, type="review", text="good " * 3000))
        records += [(b"u1", b"hello"), (b"u2", b"{}"), (None, b"{}")]
        yield records


def event(user: int, second: int, **fields: object) -> Keyed:
    """An event of a user."""
    made = {"user_id": f"u{user}", "type": "click", "item_id": f"i{second % 3}", "timestamp": TIME_MS + 1000 * second}
    return f"u{user}".encode(), json.dumps(made | fields).encode()


def panels() -> list[tuple[str, str]]:
    """Title and expression of every query, with the variables as Grafana puts them in."""
    filled = {"$__rate_interval": RATE_INTERVAL, "$namespace": NAMESPACE, "$job": JOB}
    found = []
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            expression: str = target["expr"]
            for name, value in filled.items():
                expression = expression.replace(name, value)
            found.append((panel["title"], expression))
    return found


def selectors(expression: str) -> set[str]:
    """The series that an expression asks for."""
    return set(re.findall(r"\b(?:interest|process)_\w+(?:{[^}]*})?", expression))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random model that knows two of three items."""
    folder = tmp_path_factory.mktemp("m") / "bundle"
    return random_bundle(folder, item_ids=["i0", "i1"], item_categories=["c", "c"]).folder


def test_every_query(names: Names, model: Path, tmp_path: Path) -> None:
    """Each query of the dashboard gives a number, each series that an alert asks for is there, and promtool finds
    nothing to say about names, units and help texts."""
    promtool = prometheus.require("promtool")
    create_topics(names, 2)
    port, rounds = free_port(), load()
    with Topics(names) as topics:
        send(names.broker, names.event_topic, next(rounds))
        with Worker(names, model, tmp_path / "state", **SETTINGS) as worker:
            topics.wait_done(worker)
            assert 0 == worker.stop()
        with (
            Worker(names, model, tmp_path / "state", **SETTINGS, health_address=f"127.0.0.1:{port}") as worker,
            Prometheus(tmp_path / "prometheus", RULES, port, namespace=NAMESPACE, job=JOB) as scraping,
        ):
            wait_for(lambda: scraping.scrapes() > 0, 60, [worker])
            while scraping.scrapes() < SCRAPES:
                send(names.broker, names.event_topic, next(rounds))
                time.sleep(0.2)
                assert worker.process.poll() is None, worker.said

            assert [] == [f"{title}: {query}" for title, query in panels() if not gives_a_number(scraping, query)]
            assert [] == missing(scraping)
            assert {"ok"} == health_of_rules(scraping)
            scrape = answer(port, "/metrics")[1]
            assert 0 == worker.stop()
    done = subprocess.run([promtool, "check", "metrics"], input=scrape, capture_output=True, text=True, check=False)
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def gives_a_number(scraping: Prometheus, expression: str) -> bool:
    """Whether at least one value is a finite number."""
    return any(abs(value) < float("inf") for value in scraping.values(expression))


def missing(scraping: Prometheus) -> list[str]:
    """Alerts and the series that they ask for and that are not there."""
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    asked = [(rule["alert"], selector) for rule in rules for selector in sorted(selectors(rule["expr"]))]
    assert len(rules) <= len(asked)
    return [f"{alert}: {selector}" for alert, selector in asked if not scraping.values(selector)]


def health_of_rules(scraping: Prometheus) -> set[str]:
    """What Prometheus says of each alert that it evaluates."""
    wait_for(lambda: all(rule["lastEvaluation"] > "1" for rule in evaluated(scraping)), 30)
    return {rule["health"] for rule in evaluated(scraping)}


def evaluated(scraping: Prometheus) -> list[dict[str, Any]]:
    """The rules as Prometheus has them."""
    return [rule for group in scraping.get("rules")["groups"] for rule in group["rules"]]


def test_dashboard_is_whole() -> None:
    """Each panel has a title of its own, a description, a unit and queries on the chosen data source and fleet; rows
    do not overlap."""
    shown = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    titles = [panel["title"] for panel in shown]
    assert len(titles) == len(set(titles))
    assert len(DASHBOARD["panels"]) == len({panel["id"] for panel in DASHBOARD["panels"]})
    for panel in shown:
        assert panel["description"], panel["title"]
        assert panel["type"] == "table" or panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        for target in panel["targets"]:
            assert {"type": "prometheus", "uid": "${datasource}"} == target["datasource"] == panel["datasource"]
            for selector in selectors(target["expr"]):
                assert 'namespace=~"$namespace", job=~"$job"' in selector, panel["title"]
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
