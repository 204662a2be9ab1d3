"""Late records of a worker that had lost its partitions: the test writes them, and the owner writes its own behind."""

import json
import signal
from collections.abc import Iterable
from pathlib import Path

import pytest

from stream.publisher import partition_of
from tests.bundles import random_bundle
from tests.faults.outcome import read_outcome
from tests.integration.conftest import Names
from tests.integration.sender import send
from tests.integration.workers import Topics, Worker, create_topics, last_values, read, wait_for
from tests.reference import Model, Rules

TIME_MS = 1_700_000_000_000
USERS = [f"user-{number}" for number in range(12)]
PARTITIONS = 2
SETTINGS = {"session_timeout_s": 3, "heartbeat_s": 0.5, "commit_interval_s": 0.2}

Last = dict[str, bytes | None]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A small random model."""
    folder = tmp_path_factory.mktemp("model") / "bundle"
    return Model(random_bundle(folder, item_ids=["i0", "i1", "i2"], item_categories=["c0", "c1", "c0"]))


def send_events(names: Names, numbers: Iterable[int], users: Iterable[str] = USERS) -> None:
    """A click of each user for each number, so many seconds after the start."""
    events = [
        {"user_id": user, "type": "click", "item_id": f"i{number % 4}", "timestamp": TIME_MS + 1000 * number}
        for number in numbers
        for user in users
    ]
    send(
        names.broker,
        names.event_topic,
        [(str(event["user_id"]).encode(), json.dumps(event).encode()) for event in events],
    )


def last(names: Names, topic: str) -> Last:
    """The last value of each user, as a compacted topic keeps it."""
    return {key.decode(): record.value for key, record in last_values(read(names.broker, topic)).items()}


class Zombie:
    """A worker that had these values and updates in hand when it lost its partitions."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._values = last(names, names.changelog_topic)
        self._updates = last(names, names.update_topic)

    def write(self, values: Iterable[str] = (), updates: Iterable[str] = (), *, tombstones: bool = False) -> None:
        """Its late records of some users, behind all that is there."""
        for topic, users, had in (
            (self._names.changelog_topic, values, self._values),
            (self._names.update_topic, updates, self._updates),
        ):
            records = [(user.encode(), None if tombstones else had[user]) for user in users]
            if records:
                send(self._names.broker, topic, records)


def wait_mended(names: Names, model: Model, *workers: Worker) -> None:
    """Return once the last records of all users, in both topics, are the newest ones, and all is exact (P2, P3)."""
    wait_for(lambda: read_outcome(names, model, Rules()).exact, 60, workers)


def test_late_records_do_not_win(names: Names, model: Model, tmp_path: Path) -> None:
    """What a zombie writes behind the owner's records is written over: while the owner is idle, and while it works.

    So it is when the owner is killed before it has noticed: its successor meets the records in recovery, from the local
    copy and without one. The last record of each user, which compaction keeps, is the newest again (P2, W06).
    """
    create_topics(names, PARTITIONS)
    assert {0, 1} == {partition_of(user.encode(), PARTITIONS) for user in USERS[:3]}
    with Topics(names) as topics:
        with Worker(names, model.bundle.folder, tmp_path / "one", **SETTINGS) as worker:
            send_events(names, range(3))
            topics.wait_done(worker)
            zombie = Zombie(names)
            send_events(names, range(3, 6))
            topics.wait_done(worker)

            # The owner has nothing to do.
            zombie.write(values=USERS[:4], updates=USERS[2:6])
            zombie.write(values=USERS[6:7], updates=USERS[7:8], tombstones=True)
            assert not read_outcome(names, model, Rules()).exact
            wait_mended(names, model, worker)

            # The owner writes, of others and of one of them.
            zombie.write(values=USERS[:4], updates=USERS[2:6])
            send_events(names, [6], USERS[3:])
            topics.wait_done(worker)
            wait_mended(names, model, worker)
            assert "older than ours, are written again" in worker.said

            kill_behind(zombie, worker)
            assert not read_outcome(names, model, Rules()).exact
        with Worker(names, model.bundle.folder, tmp_path / "one", **SETTINGS) as worker:
            wait_mended(names, model, worker)
            kill_behind(zombie, worker)
            assert not read_outcome(names, model, Rules()).exact
        with Worker(names, model.bundle.folder, tmp_path / "two", **SETTINGS) as worker:
            wait_mended(names, model, worker)
            assert worker.stop() == 0
    outcome = read_outcome(names, model, Rules())
    assert outcome.exact, outcome


def kill_behind(zombie: Zombie, worker: Worker) -> None:
    """The zombie's records come while the owner cannot see them, and it is killed before it can."""
    worker.process.send_signal(signal.SIGSTOP)
    zombie.write(values=USERS[:6], updates=USERS[:6])
    worker.kill()
