"""`interest topics grow` on a real broker: a topic grows under a worker, and all goes on with more partitions."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from aiokafka import AIOKafkaProducer
from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from stream.carrier import Carrier
from stream.commands import run
from stream.connect import admin
from stream.consume import read_all
from stream.ending import EXIT_MOVED
from stream.publisher import partition_of
from stream.topics import describe, make
from tests.bundles import random_bundle
from tests.integration.conftest import Names
from tests.integration.sender import send
from tests.integration.workers import Topics, Worker, create_topics, environment, interest, last_values, wait_for
from tests.judge import judge
from tests.reference import Model, Reference, read_value

OLD, GROWN, NEW = 4, 6, 8
TIME_MS = round(time.time() * 1000) - 3_600_000
USERS = [f"u{number}" for number in range(40)]
ERASED = "erased"
SETTINGS = {"session_timeout_s": 2, "heartbeat_s": 0.5}

Event = dict[str, Any]


class KilledError(Exception):
    """Stands for a kill."""


class Shop:
    """Makes events, each later than the one before, and knows what all of them must give.

    Every fourth user's have ids; without one, an event that comes twice counts twice.
    """

    def __init__(self) -> None:
        self.reference = Reference()
        self._count = 0

    def clicks(self, rounds: int, users: Iterable[str] = USERS) -> list[Event]:
        """So many clicks of each user."""
        made = []
        for _ in range(rounds):
            for user in users:
                self._count += 1
                event_id = f"e{self._count}" if user in USERS[::4] else None
                made.append(click(user, TIME_MS + self._count, event_id, f"i{self._count % 3}"))
        return made

    def send(self, names: Names, events: Sequence[Event]) -> None:
        """Publish events that must count."""
        records = [(event["user_id"].encode(), orjson.dumps(event)) for event in events]
        send(names.broker, names.event_topic, records, headers=[("trace", b"\xff")])
        for offset, (key, value) in enumerate(records):
            found = judge(key, value, int(time.time() * 1000)).value
            assert found is not None
            self.reference.accept(0, self._count * 1000 + offset, 0, key, found)


def click(user: str, time_ms: int, event_id: str | None, item: str = "i1") -> Event:
    """A click."""
    return {"user_id": user, "type": "click", "item_id": item, "timestamp": time_ms, "event_id": event_id}


def grown(names: Names) -> Names:
    """The names that growing gives."""
    return replace(
        names,
        app_id=f"{names.app_id}-{NEW}",
        event_topic=f"{names.event_topic}-{NEW}",
        update_topic=f"{names.update_topic}-{NEW}",
    )


def grow_topic(names: Names, topic: str, partitions: int) -> None:
    """What an operator does who knows no better."""
    with admin(names.cluster) as client:
        client.create_partitions({topic: partitions})


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A small random model."""
    return Model(random_bundle(tmp_path / "bundle", item_ids=["i0", "i1", "i2"], item_categories=["c0", "c1", "c0"]))


@pytest.fixture(autouse=True)
def environ(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that names the old topics."""
    for variable, setting in names.environment.items():
        monkeypatch.setenv(variable, setting)


def grow(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[str]:
    """Run the command; the lines that it printed, or its error."""
    capsys.readouterr()
    ended = run(["topics", "grow", "--partitions", str(NEW), *arguments])
    shown = capsys.readouterr()
    assert code == ended, shown.err
    return (shown.out if code == 0 else shown.err).splitlines()


def wait_stopped(names: Names) -> None:
    """Return once the group has no members any more."""

    def is_empty() -> bool:
        with admin(names.cluster) as client:
            return not client.describe_groups([names.app_id])[names.app_id]["members"]

    wait_for(is_empty, 60)


def kill(monkeypatch: pytest.MonkeyPatch, word: str, call: int, *, after: bool = False) -> None:
    """Run the command, and end it before or after its nth word of this kind to the broker."""
    do = getattr(AIOKafkaProducer, word)
    calls = 0

    async def say(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            raise KilledError
        answer = await do(*arguments, **named)
        if calls == call:
            raise KilledError
        return answer

    async def leave(*_arguments: object) -> None:
        """A process that was killed aborts nothing."""

    with monkeypatch.context() as patch:
        patch.setattr("stream.grow.CHUNK_RECORDS", 20)
        patch.setattr(Carrier, "_abort", leave)
        patch.setattr(AIOKafkaProducer, word, say)
        with pytest.raises(KilledError):
            run(["topics", "grow", "--partitions", str(NEW), "--send"])


def last(names: Names, topic: str, users: Iterable[str] = USERS) -> dict[bytes, Any]:
    """The last record of each of these users; one who lies on two partitions is a failure."""
    keys = {user.encode() for user in users}
    return last_values([record for record in read_all(names.cluster, topic) if record.key in keys])


def assert_exact(names: Names, shop: Shop, model: Model) -> None:
    """Every user has one window, version and update: those that all events together give."""
    stored, updates = last(names, names.changelog_topic), last(names, names.update_topic)
    keys = [user.encode() for user in USERS]
    for key in keys:
        wanted, found = shop.reference.shown(key), read_value(stored[key].value)
        assert wanted is not None
        assert (wanted.version, wanted.floor, wanted.events) == (found.version, found.floor, found.events), key
        assert partition_of(key, NEW) == stored[key].partition == updates[key].partition
    said = [orjson.loads(updates[key].value) for key in keys]
    assert [shop.reference.users[key].version for key in keys] == [update["version"] for update in said]
    vectors = model.vectors([shop.reference.users[key].events for key in keys])
    assert np.abs(np.array([update["vector"] for update in said], np.float32) - vectors).max() < 1e-5


def test_a_topic_grows_under_a_worker(
    names: Names, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The worker stops (K10), none starts (K09); everything is carried, each event counts once (P3, P4).

    Nothing that the worker has applied is committed; users whose keys moved were applied on two partitions; one update
    is missing; the command is killed again and again. What comes to the old topics later is carried by another run.
    """
    create_topics(names, OLD)
    shop, folder, to = Shop(), model.bundle.folder, grown(names)
    shop.send(names, shop.clicks(3))
    with Topics(names) as topics, Worker(names, folder, tmp_path / "old", commit_interval_s=600, **SETTINGS) as worker:
        wait_for(lambda: topics.has_updates(len(USERS)), 60, [worker])
        assert grow(capsys, "--send", code=1)[-1].startswith(
            f"error: group {names.app_id} has 1 live member: stop all workers first; "
        )
        grow_topic(names, names.event_topic, GROWN)
        time.sleep(0.5)
        shop.send(names, shop.clicks(2))
        assert EXIT_MOVED == worker.process.wait(60)
        counts = f"topic {names.event_topic} has {GROWN} partitions, {OLD} expected"
        assert f"keys have moved: {counts}; stop all workers and run `interest topics grow`" in worker.said
    applied = {(record.key, record.partition) for record in read_all(names.cluster, names.changelog_topic)}
    assert len(applied) > len(USERS), "no user was applied on two partitions"

    start = interest("worker", env=environment(names, model=folder, data_dir=tmp_path / "old"))
    assert 1 == start.returncode
    assert f"{names.event_topic} has {GROWN}, {names.update_topic} has {OLD}" in start.stderr
    assert "`interest topics grow`" in start.stderr

    shop.send(names, shop.clicks(2, USERS[20:]))  # the others' updates must come without an event
    erased, before_ms = ERASED.encode(), round(time.time() * 1000)
    send(names.broker, names.event_topic, [(erased, orjson.dumps(click(ERASED, before_ms, None)))])
    assert 0 == run(["erase", ERASED])
    after_ms = round(time.time() * 1000) + 1000
    send(names.broker, names.event_topic, [(erased, orjson.dumps(click(ERASED, after_ms, None)))])
    send(names.broker, names.update_topic, [(USERS[0].encode(), None)])
    wait_stopped(names)

    assert "nothing was done: --send does it" == grow(capsys)[-1]
    assert {} == describe(names.cluster, [to.event_topic, to.update_topic, to.changelog_topic])
    for call in (1, 12, 30):  # before the note; in front of the events; in the table
        kill(monkeypatch, "send_batch", call)
    kill(monkeypatch, "send_offsets_to_transaction", 1)
    for after in (False, True, True):
        kill(monkeypatch, "commit_transaction", 1, after=after)
    lines = grow(capsys, "--send")
    assert [f"  INTEREST_APP_ID={to.app_id}", f"  INTEREST_EVENT_TOPICS={to.event_topic}"] == lines[-4:-2]
    assert (
        "LogAppendTime" == describe(names.cluster, [to.event_topic])[to.event_topic].configs["message.timestamp.type"]
    )
    assert {("trace", b"\xff")} == {
        header
        for record in read_all(names.cluster, to.event_topic)
        if record.key != erased
        for header in record.headers
    }
    originals = {(record.value, record.timestamp) for record in read_all(names.cluster, names.event_topic)}
    assert {(record.value, record.timestamp) for record in read_all(names.cluster, to.event_topic)} <= originals

    with Worker(to, folder, tmp_path / "new", **SETTINGS) as worker, Topics(to) as topics:
        topics.wait_done(worker)
        assert_exact(to, shop, model)
        shop.send(to, shop.clicks(1))
        topics.wait_done(worker)
        shop.send(names, shop.clicks(1))  # by a publisher that was forgotten
        assert f"  events: {len(USERS)} that no worker had taken, " in "\n".join(grow(capsys, "--send"))
        assert "  events: 0 that no worker had taken, " in "\n".join(grow(capsys, "--send"))
        topics.wait_done(worker)
        assert 0 == worker.stop()
    assert_exact(to, shop, model)
    home = partition_of(ERASED.encode(), NEW)
    found = {r.partition: read_value(r.value) for r in read_all(names.cluster, to.changelog_topic) if r.key == erased}
    assert set(range(NEW)) == set(found)
    assert (1, [after_ms]) == (found[home].version, [event.timestamp for event in found[home].events])
    assert {0} == {state.version for partition, state in found.items() if partition != home}
    assert all(before_ms <= state.floor <= after_ms for state in found.values())


def test_what_is_refused(names: Names, capsys: pytest.CaptureFixture[str]) -> None:
    """Too few partitions, new topics that are not ours, and a worker that began too early: each is named."""
    to = grown(names)
    new = {to.event_topic, to.update_topic, to.changelog_topic}
    assert f"error: missing on {names.broker}: {names.event_topic}, {names.update_topic}, " in refused(capsys)
    create_topics(names, OLD)
    grow_topic(names, names.update_topic, NEW + 1)
    assert refused(capsys, code=2) == (
        f"error: wrong --partitions {NEW}: expected more than the {OLD} of {names.changelog_topic}, and no fewer than "
        f"{NEW + 1}, to which others have grown"
    )
    with admin(names.cluster) as client:
        client.delete_topics([names.update_topic])
    create_topics(names, OLD)
    assert "expected more than the 4 of " in refused(capsys, "--partitions", str(OLD), code=2)

    with admin(names.cluster) as client:
        make(client, names.cluster, {to.update_topic: {"retention.ms": "-1"}}, NEW, 1)
    send(names.broker, to.update_topic, [(b"u1", b"foreign")])
    assert refused(capsys) == (
        f"error: topic {to.update_topic} exists with records that are not of this command; delete it first"
    )
    with admin(names.cluster) as client:
        client.delete_topics([to.update_topic])
        make(client, names.cluster, {to.update_topic: {}}, OLD, 1)
    assert f"error: topic {to.update_topic} exists with {OLD} partitions, expected {NEW}; delete it" == refused(capsys)
    with admin(names.cluster) as client:
        client.delete_topics([to.update_topic])
        make(client, names.cluster, {to.event_topic: {}}, NEW, 1)
        client.alter_group_offsets(to.app_id, {TopicPartition(to.event_topic, 0): OffsetAndMetadata(0, "", -1)})
    assert refused(capsys).startswith(f"error: group {to.app_id} has worked before everything was carried: ")
    with admin(names.cluster) as client:
        client.delete_groups([to.app_id])

    send(names.broker, names.event_topic, [(None, b"no key"), (b"u1", b"no event")])
    assert "  events: 2 that no worker had taken, " in "\n".join(grow(capsys, "--send"))
    assert {(None, b"no key"), (b"u1", b"no event")} == {
        (record.key, record.value) for record in read_all(names.cluster, to.event_topic)
    }
    configs = {name: info.configs["cleanup.policy"] for name, info in describe(names.cluster, new).items()}
    assert {to.event_topic: "delete", to.update_topic: "compact", to.changelog_topic: "compact"} == configs
    assert refused(capsys, "--partitions", "16").startswith(f"error: {names.app_id} was carried to {NEW} partitions, ")
    with admin(names.cluster) as client:
        client.delete_topics([to.update_topic])
    assert refused(capsys).startswith(f"error: topic {to.update_topic} was deleted or made anew since it was carried; ")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    """The one line of an error."""
    (line,) = grow(capsys, "--send", *arguments, code=code)
    return line
