"""`interest erase` on a real broker, with workers: every copy forgets, and only what is new comes back."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest
import rocksdict
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from stream.commands import run
from stream.publisher import partition_of
from stream.value import UserState, unpack
from tests.bundles import random_bundle
from tests.integration.conftest import Names
from tests.integration.workers import Topics, Worker, create_topics, environment, interest, read, wait_for

PARTITIONS = 2
HOME, SPLIT, STAYS, UNKNOWN = "home", "split", "stays", "never-seen"

#: Event or erase record of a user, and the partition where it is put.
Placed = tuple[int, dict[str, Any]]
#: Partition and user id.
Place = tuple[int, bytes]


def event(user: str, time_ms: int) -> dict[str, Any]:
    """A click."""
    return {"user_id": user, "type": "click", "item_id": "i1", "timestamp": time_ms}


def send(names: Names, placed: Iterable[Placed]) -> None:
    """Put records on partitions, one after the other."""
    producer = KafkaProducer(bootstrap_servers=names.broker)
    try:
        for partition, record in placed:
            key = record["user_id"].encode()
            producer.send(names.event_topic, orjson.dumps(record), key, partition=partition).get(30)
    finally:
        producer.close()


def home(user: str) -> int:
    """Where Java's partitioner puts a user."""
    return partition_of(user.encode(), PARTITIONS)


def stored(names: Names) -> dict[Place, UserState]:
    """What the changelog has last of each user, by partition."""
    records = read(names.broker, names.changelog_topic)
    return {(record.partition, record.key): unpack(record.value) for record in records if record.key}


def updates(names: Names) -> dict[Place, bytes | None]:
    """The last update of each user, by partition; None: a tombstone."""
    return {(record.partition, record.key): record.value for record in read(names.broker, names.update_topic)}


def on_disk(folder: Path, partition: int, user: str) -> UserState | None:
    """What a worker that has ended holds of a user."""
    (path,) = [path for path in folder.rglob("*.db") if path.name.endswith(f"-{partition}.db")]
    db = rocksdict.Rdict(str(path), rocksdict.Options(raw_mode=True), access_type=rocksdict.AccessType.read_only())
    try:
        value = db.get(user.encode())
        return None if value is None else unpack(bytes(value))
    finally:
        db.close()


def rewind(names: Names) -> None:
    """Let the workers, who must have ended, begin again with the first event."""
    admin = KafkaAdminClient(bootstrap_servers=names.broker)
    try:
        first = {TopicPartition(names.event_topic, p): OffsetAndMetadata(0, "", -1) for p in range(PARTITIONS)}
        admin.alter_group_offsets(names.app_id, first)
    finally:
        admin.close()


def test_every_copy_forgets(names: Names, tmp_path: Path) -> None:
    """Table, standby, changelog and updates forget on every partition; older events don't bring a user back (P7)."""
    random_bundle(tmp_path / "model", item_ids=["i1"], item_categories=["c1"])
    create_topics(names, PARTITIONS)
    now = int(time.time() * 1000)
    old = [(home(user), event(user, now - 2000 + n)) for n in range(2) for user in (HOME, SPLIT, STAYS)]
    old.append((1 - home(SPLIT), event(SPLIT, now - 1500)))
    send(names, old)
    folders = [tmp_path / "a" / "state", tmp_path / "b" / "state"]
    for folder in folders:
        folder.parent.mkdir()
    settings = {"session_timeout_s": 3, "heartbeat_s": 1}
    everywhere = [(partition, user.encode()) for partition in range(PARTITIONS) for user in (HOME, SPLIT, UNKNOWN)]

    def assert_forgotten() -> None:
        states, last = stored(names), updates(names)
        assert {(0, 0)} == {(states[place].version, len(states[place].events)) for place in everywhere}
        assert {None} == {last[place] for place in everywhere}
        assert 2 == states[home(STAYS), STAYS.encode()].version
        assert last[home(STAYS), STAYS.encode()] is not None

    with (
        Worker(names, tmp_path / "model", folders[0], **settings) as one,
        Worker(names, tmp_path / "model", folders[1], **settings) as two,
        Topics(names) as topics,
    ):
        topics.wait_done(one, two)
        wait_for(lambda: sorted(one.partitions() + two.partitions()) == [0, 1], 60, [one, two])
        assert {2, 1} == {state.version for state in stored(names).values()}

        (tmp_path / "users").write_text(f"{SPLIT}\n{UNKNOWN}\n{SPLIT}\n")
        done = interest("erase", HOME, env=environment(names))
        assert 0 == done.returncode, done.stderr
        assert (
            f"asked to forget 1 user: an erase record of each to 2 partitions of {names.event_topic}\n" == done.stdout
        )
        done = interest("erase", "--file", tmp_path / "users", env=environment(names))
        assert 0 == done.returncode, done.stderr
        assert done.stdout.startswith("asked to forget 2 users: ")
        assert done.stderr.endswith("users: 1 line repeat a user id\n")
        topics.wait_done(one, two)
        assert_forgotten()

        send(names, [placed for placed in old if placed[1]["user_id"] != STAYS])  # a producer sends them once more
        topics.wait_done(one, two)
        assert_forgotten()

        # Each has the other's partition as standby; the one that is left goes on with what that holds.
        one.kill()
        wait_for(lambda: two.partitions() == [0, 1], 60, [two])
        send(names, [*old[:2], (home(HOME), event(HOME, int(time.time() * 1000)))])
        topics.wait_done(two)
        anew = orjson.loads(updates(names)[home(HOME), HOME.encode()] or b"{}")
        assert (1, 1) == (anew["version"], anew["events"])
        assert 0 == two.stop()

    states = stored(names)
    for partition, user in everywhere:
        state = on_disk(folders[1], partition, user.decode())
        assert state is not None
        assert (states[partition, user].version, states[partition, user].floor) == (state.version, state.floor)

    rewind(names)
    before = {place: (state.version, state.floor) for place, state in states.items()}
    sent = len(read(names.broker, names.update_topic))
    with Worker(names, tmp_path / "model", tmp_path / "fresh", **settings) as again, Topics(names) as topics:
        topics.wait_done(again)
        assert 0 == again.stop()
    assert before == {place: (state.version, state.floor) for place, state in stored(names).items()}
    assert len(read(names.broker, names.update_topic)) > sent
    came_back = {place for place, value in updates(names).items() if value is not None and place in everywhere}
    assert {(home(HOME), HOME.encode())} == came_back


def test_topics(names: Names, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every event topic is written to, or the one named; where one is missing, nothing is sent."""
    second = f"{names.event_topic}-app"
    for variable, setting in names.environment.items():
        monkeypatch.setenv(variable, setting)
    monkeypatch.setenv("INTEREST_EVENT_TOPICS", f"{names.event_topic},{second}")
    assert 1 == run(["erase", "u1"])
    assert f"error: missing on {names.broker}: {names.event_topic}, {second}; " in capsys.readouterr().err
    assert 0 == run(["topics", "create", "--partitions", "3"])
    capsys.readouterr()

    assert 0 == run(["erase", "u1"])
    assert 2 == len(capsys.readouterr().out.splitlines())
    for topic in (names.event_topic, second):
        records = read(names.broker, topic)
        assert [0, 1, 2] == sorted(record.partition for record in records)
        assert {(b"u1", b'{"type":"erase","user_id":"u1"}')} == {(record.key, record.value) for record in records}
    assert 1 == run(["erase", "u1", "--topic", "elsewhere"])
    assert f"error: missing on {names.broker}: elsewhere; " in capsys.readouterr().err
    assert 0 == run(["erase", "u2", "--topic", second])
    assert (3, 6) == (len(read(names.broker, names.event_topic)), len(read(names.broker, second)))
