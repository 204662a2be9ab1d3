"""Users idle for too long are forgotten everywhere: through a kill -9, another data folder, and a rebalance."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import pytest
import rocksdict

from stream.publisher import partition_of
from tests.bundles import random_bundle
from tests.faults.outcome import read_outcome
from tests.integration.conftest import Names
from tests.integration.sender import send
from tests.integration.workers import Topics, Worker, create_topics, last_values, read, reasons, wait_for
from tests.reference import Model, Rules, read_value

DAY_MS = 86_400_000
TIME_MS = 1_700_000_000_000
PARTITIONS = 2
IDLE = [f"idle-{number}" for number in range(40)]
CLOCKS = ["clock-0", "clock-1"]  # move partition time, one in each partition
ALIVE = [f"alive-{number}" for number in range(10)]
SETTINGS = {
    "idle_ttl_days": 2,
    "window_max_age_days": 1,
    "session_timeout_s": 3,
    "heartbeat_s": 0.5,
    "commit_interval_s": 0.2,
}
RULES = Rules(max_age_ms=DAY_MS, idle_ttl_ms=2 * DAY_MS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A small random model."""
    folder = tmp_path_factory.mktemp("model") / "bundle"
    return Model(random_bundle(folder, item_ids=["i0", "i1", "i2"], item_categories=["c0", "c1", "c0"]))


def send_events(names: Names, users: Iterable[str], *times_ms: int) -> None:
    """Clicks of each user at these times."""
    events = [
        (user, {"user_id": user, "type": "click", "item_id": f"i{number}", "timestamp": at})
        for number, at in enumerate(times_ms)
        for user in users
    ]
    send(names.broker, names.event_topic, [(user.encode(), json.dumps(event).encode()) for user, event in events])


def forgotten(names: Names, topic: str) -> set[str]:
    """Users whose last record on the topic is a tombstone."""
    return {key.decode() for key, record in last_values(read(names.broker, topic)).items() if record.value is None}


def are_forgotten(names: Names, users: set[str]) -> bool:
    """Whether exactly these are, on updates and changelog."""
    return users == forgotten(names, names.update_topic) == forgotten(names, names.changelog_topic)


def local_copy(folder: Path, partition: int) -> rocksdict.Rdict:
    """A stopped worker's copy of a partition."""
    (path,) = folder.rglob(f"users-{partition}.db")
    return rocksdict.Rdict(str(path), options=rocksdict.Options(raw_mode=True))


def test_idle_users_are_forgotten(names: Names, model: Model, tmp_path: Path) -> None:
    """Who is idle by partition time gets tombstones in updates and changelog and leaves the table (P7, W01, T07).

    Nothing expires and nothing is late by an event of tomorrow, which is refused. State that comes from the changelog
    and is never touched expires as well, while partitions move to a second worker. Who returns starts anew, what comes
    late stays late, and everything is what the rules say of the log. At last a value that nobody can read ends the
    process and is named (W04). A record without a key leaves none on the compacted topics (L10).
    """
    create_topics(names, PARTITIONS)
    assert [0, 1] == sorted(partition_of(user.encode(), PARTITIONS) for user in CLOCKS)
    tomorrow = [f"tomorrow-{number}" for number in range(4)]
    folder = model.bundle.folder
    with Topics(names) as topics:
        with Worker(names, folder, tmp_path / "one", **SETTINGS) as one:
            send_events(names, IDLE, TIME_MS, TIME_MS + 1000)
            send_events(names, ALIVE, TIME_MS + DAY_MS)
            send_events(names, tomorrow, int(time.time() * 1000) + DAY_MS)
            send_events(names, ALIVE, TIME_MS + DAY_MS + 1)
            send(names.broker, names.event_topic, [(None, b'{"user_id": "u", "type": "click", "item_id": "i0"}')])
            topics.wait_done(one)
            one.kill()
        assert are_forgotten(names, set())

        with Worker(names, folder, tmp_path / "two", sweep_users=8, **SETTINGS) as two:
            two.wait_ready()
            assert are_forgotten(names, set())
            # Partition time moves on; a second worker joins while the sweep is half through: 20 users at 4 a second.
            with Worker(names, folder, tmp_path / "three", sweep_users=8, **SETTINGS) as three:
                send_events(names, CLOCKS, TIME_MS + 2 * DAY_MS + 2000)
                wait_for(lambda: len(two.partitions()) == len(three.partitions()) == 1, 60, [two, three])
                wait_for(lambda: are_forgotten(names, set(IDLE)), 60, [two, three])
                assert three.stop() == 0
            send_events(names, IDLE[:3], TIME_MS + 2 * DAY_MS)
            send_events(names, IDLE[3:6], TIME_MS + 1500)  # late by rule 0
            topics.wait_done(two)
            wait_for(lambda: are_forgotten(names, set(IDLE[3:])), 60, [two])
            assert two.stop() == 0

        outcome = read_outcome(names, model, RULES)
        assert outcome.exact, outcome
        assert {"timestamp_in_future": 4, "missing_key": 1} == reasons(read(names.broker, names.deadletter_topic))
        assert {user.encode() for user in [*ALIVE, *CLOCKS, *IDLE[:3]]} == held(tmp_path / "two")
        values = last_values(read(names.broker, names.changelog_topic))
        assert None not in values
        assert None not in last_values(read(names.broker, names.update_topic))
        assert 1 == read_value(values[IDLE[0].encode()].value).version

        copy = local_copy(tmp_path / "two", 0)
        copy[b"unreadable"] = b"\x7fbroken"
        copy.close()
        with Worker(names, folder, tmp_path / "two", **SETTINGS) as four:
            assert 1 == four.process.wait(60)
            assert "user 'unreadable' in the table: format byte is 7f" in four.said
            assert "Traceback" not in four.said


def held(folder: Path) -> set[bytes]:
    """Users in a stopped worker's table."""
    keys: set[bytes] = set()
    for partition in range(PARTITIONS):
        copy = local_copy(folder, partition)
        keys |= {cast(bytes, key) for key in copy.keys()}  # noqa: SIM118  # iterating it gives keys and values
        copy.close()
    return {key for key in keys if b"\0" not in key}  # the copy's own have one
