"""Workers that are made ill from within (tests/inject): the clock, the model. The outcome is what the rules say."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from stream.contract import hash64
from tests.bundles import random_bundle
from tests.faults.outcome import newest_updates, read, read_outcome
from tests.faults.proxy import free_port
from tests.integration.conftest import Names
from tests.integration.probes import metrics
from tests.integration.sender import Keyed, send
from tests.integration.workers import Topics, Worker, create_topics, wait_for
from tests.reference import Model, Rules, read_value

INJECT = Path(__file__).parents[1] / "inject"
TIME_MS = 1_760_000_000_000
ITEMS = 20
#: Small windows and batches, so that windows are cut, and go on from a kept state, within a few events.
RULES = Rules(max_events=6, keep_events=3)
SETTINGS: dict[str, object] = {
    "window_max_events": RULES.max_events,
    "window_keep_events": RULES.keep_events,
    "batch_max_events": 20,
    "session_timeout_s": 2,
    "heartbeat_s": 0.5,
    "commit_interval_s": 0.2,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A small random model."""
    items = [f"i{n}" for n in range(ITEMS)]
    return Model(
        random_bundle(tmp_path_factory.mktemp("ill") / "bundle", item_ids=items, item_categories=["c"] * ITEMS)
    )


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers import tests/inject/sitecustomize.py; what FAULT names befalls them."""
    monkeypatch.setenv("PYTHONPATH", str(INJECT), prepend=os.pathsep)


def events(user: str, numbers: Iterable[int], **fields: object) -> list[Keyed]:
    """Clicks of one user, `number` seconds after the start."""
    return [
        (
            user.encode(),
            json.dumps(
                {
                    "user_id": user,
                    "type": "click",
                    "item_id": f"i{number % (ITEMS - 1)}",
                    "timestamp": TIME_MS + 1000 * number,
                    **fields,
                }
            ).encode(),
        )
        for number in numbers
    ]


def many(numbers: range, users: int = 10) -> list[Keyed]:
    """Events of several users, one user's after the other's in turn."""
    return [event for number in numbers for user in range(users) for event in events(f"u{user}", [number])]


def test_model_fails(names: Names, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that raises, or gives nothing fit and not its golden vectors either, is tried again; then the process
    ends and names the place; nothing is committed. One that takes far longer than the session for a call, and raises
    once, costs neither the partitions nor an event; nor does a wall clock that jumps an hour back and forth all the
    while (P2, P3, P4, P8; D01, R19, R20)."""
    create_topics(names, 2)
    send(names.broker, names.event_topic, many(range(10)))
    with Topics(names) as topics:
        for fault, what in (("encoder_raises", "the model is ill"), ("encoder_all_nan", "a deviation of nan")):
            monkeypatch.setenv("FAULT", fault)
            with Worker(names, model.bundle.folder, tmp_path / "state", **SETTINGS) as worker:
                assert 1 == worker.process.wait(60)
                last = worker.said.splitlines()[-1]
                assert f"batch ({names.event_topic}/" in last
                assert "from 0" in last
                assert what in last
                assert 2 == worker.said.count("the model failed, it is tried again")
                assert "Traceback" not in worker.said
            assert (0, 0) == (topics.done(), topics.updates())

        port = free_port()
        monkeypatch.setenv("FAULT", "clock,encoder_raises_once,encoder_slow=5")
        with Worker(
            names, model.bundle.folder, tmp_path / "state", health_address=f"127.0.0.1:{port}", **SETTINGS
        ) as worker:
            topics.wait_done(worker)
            for start in (10, 20):
                send(names.broker, names.event_topic, many(range(start, start + 10)))
                topics.wait_done(worker)
            assert 1 == metrics(port)["interest_model_retries_total"]
            assert 0 == metrics(port)["interest_dropped_batches_total"]
            assert 1 == worker.said.count("ready: ")
            assert "eartbeat" not in worker.said
            assert 0 == worker.stop()

    outcome = read_outcome(names, model, RULES)
    assert outcome.exact, str(outcome)
    assert 300 == outcome.accepted


def test_rows_not_finite(names: Names, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whose vector is NaN keeps the window and gets no update, so consumers keep the last good vector; it is
    counted and the user named; the others go on, exact. Once the model can, the next event brings the update (P5,
    D01, I15)."""
    struck = ITEMS - 1  # an item that no other event names
    row = 1 + struck
    assert model.bundle.catalog.item_ids[row] == f"i{struck}"
    create_topics(names, 2)
    port = free_port()
    monkeypatch.setenv("FAULT", f"encoder_nan={row}")
    with (
        Worker(
            names, model.bundle.folder, tmp_path / "state", health_address=f"127.0.0.1:{port}", **SETTINGS
        ) as worker,
        Topics(names) as topics,
    ):
        send(names.broker, names.event_topic, [*many(range(3)), *events("ill", range(2))])
        topics.wait_done(worker)
        send(names.broker, names.event_topic, [*many(range(3, 6)), *events("ill", [3], item_id=f"i{struck}")])
        topics.wait_done(worker)
        send(names.broker, names.event_topic, [*many(range(6, 8)), *events("ill", [4])])
        topics.wait_done(worker)
        wait_for(lambda: metrics(port)["interest_unfit_vectors_total"] == 2, 60, [worker])
        assert 2 == worker.said.count("no updates for: ill")
        assert 0 == worker.stop()

    stored = {record.key: read_value(record.value) for record in read(names.broker, names.changelog_topic)}
    assert 4 == stored[b"ill"].version
    assert hash64(f"i{struck}") == stored[b"ill"].events[2].item
    assert 2 == newest_updates(read(names.broker, names.update_topic))[b"ill"]["version"]

    monkeypatch.setenv("FAULT", "")
    with Worker(names, model.bundle.folder, tmp_path / "state", **SETTINGS) as worker, Topics(names) as topics:
        send(names.broker, names.event_topic, events("ill", [5]))
        topics.wait_done(worker)
        assert 0 == worker.stop()

    outcome = read_outcome(names, model, RULES)
    assert outcome.exact, str(outcome)
    assert 85 == outcome.accepted
