"""The table over a store in memory: what it says of the changelog, what it trusts, and what ends it. No broker."""

import asyncio
import logging
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import faust
import numpy as np
import pytest
from faust.types import TP

from stream import ending, topics
from stream.contract import EVENT_DTYPE
from stream.errors import BrokerError, TopicError
from stream.followed import changelog_message
from stream.localstate import Changelog
from stream.security import Cluster
from stream.store import RocksStore
from stream.table import SequenceTable
from stream.value import UserState, pack
from stream.worker import STORES

CHANGELOG = Changelog(Cluster("127.0.0.1:9"), "app-users-changelog", uuid.UUID(int=1), 1000)
TP0 = TP(CHANGELOG.topic, 0)
TP1 = TP(CHANGELOG.topic, 1)
EVENTS = TP("events", 0)

#: Metadata and number of records of a record batch.
Ack = tuple[Any, int]


class Ended(BaseException):
    """Instead of the end of the process."""


class Log:
    """The changelog: where each partition starts and ends, and what is sent to it."""

    def __init__(self) -> None:
        self.starts = {TP0: 0, TP1: 0}
        self.begins: dict[TP, int] = {}
        self.next = {TP0: 0, TP1: 0}
        self.sent: list[tuple[bytes | None, bytes | None]] = []
        self.asked: list[set[TP]] = []
        self.codecs: list[str] = []

    async def earliest_offsets(self, *tps: TP) -> dict[TP, int]:
        """As Faust's consumer."""
        self.asked.append(set(tps))
        return {tp: self.starts[tp] for tp in tps}

    async def ends(self, tps: Iterable[TP]) -> dict[TP, int]:
        """As the worker's consumer."""
        return {tp: self.next[tp] for tp in tps}

    async def send_batches(
        self, topic: str, partition: int, entries: Iterable[Any], timestamp_ms: int, codec: str = "none"
    ) -> list[Any]:
        """As the worker's producer: one record batch, acknowledged at once."""
        records, tp = list(entries), TP(topic, partition)
        self.codecs.append(codec)
        self.sent += [(key, value) for key, value, _ in records]
        (metadata, count) = acknowledged(self.next[tp], len(records))
        self.next[tp] += count
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_result(metadata)
        return [(future, count)]


class Recovery:
    """What Faust's recovery remembers of partitions."""

    def __init__(self) -> None:
        self.active_offsets: dict[TP, int] = {}
        self.revoked: list[TP] = []
        self.standby_offsets: dict[TP, int] = {}
        self.standby_highwaters: dict[TP, int] = {}

    def revoke(self, tp: TP) -> None:
        """Forget where a partition was."""
        self.revoked.append(tp)


@pytest.fixture
def log() -> Log:
    """An empty changelog."""
    return Log()


@pytest.fixture
def table(log: Log, monkeypatch: pytest.MonkeyPatch) -> SequenceTable:
    """A table of two partitions in memory."""
    return make(log, monkeypatch, store=STORES["memory"])


def make(log: Log, monkeypatch: pytest.MonkeyPatch, **options: Any) -> SequenceTable:
    """A table of two partitions; the end of the process raises, and the topic is found as it was."""

    def end(code: int, message: str, *arguments: object) -> None:
        raise Ended(code, message % arguments)

    monkeypatch.setattr("stream.table.end", end)
    find(monkeypatch, CHANGELOG.topic_id)
    app = faust.App(
        "app",
        broker="batchkafka://127.0.0.1:9",
        autodiscover=False,
        topic_disable_leader=True,
        Table=SequenceTable,
        **options,
    )
    made: Any = app
    made.tables = SimpleNamespace(recovery=Recovery())
    made.consumer, made.producer = log, log
    return SequenceTable(app, name="users", partitions=2, changelog=CHANGELOG)


def find(monkeypatch: pytest.MonkeyPatch, topic_id: uuid.UUID | None) -> None:
    """The broker describes the changelog with this id, or does not know it."""

    def describe(broker: str, names: Sequence[str]) -> dict[str, Any]:
        return {} if topic_id is None else {name: SimpleNamespace(topic_id=topic_id) for name in names}

    monkeypatch.setattr(topics, "describe", describe)


def recovery_of(table: SequenceTable) -> Recovery:
    """The fake."""
    return cast(Recovery, cast(Any, table.app.tables).recovery)


def acknowledged(offset: int, count: int = 1) -> Ack:
    """A record batch that lies at an offset; -1: nobody knows where."""
    return SimpleNamespace(offset=offset), count


def value(version: int) -> bytes:
    """A table value whose last record was at offset `version`."""
    return pack(UserState(version, 0, {1: version}, np.zeros(1, EVENT_DTYPE)))


def record(offset: int, key: bytes, value: bytes | None) -> Any:
    """A changelog record."""
    return SimpleNamespace(offset=offset, key=key, value=value, timestamp=1, timestamp_type=0)


def apply(table: SequenceTable, records: Sequence[Any], tp: TP = TP0) -> None:
    """As recovery and standby do."""
    message = changelog_message(tp, 0, records, records[-1].offset + 1, 1)
    table.apply_changelog_batch([SimpleNamespace(message=message)])
    recovery_of(table).active_offsets[tp] = message.offset


def recover(table: SequenceTable, *tps: TP) -> None:
    """Recovery is complete."""
    asyncio.run(table.on_recovery_completed(set(tps or (TP0,)), set()))


def rebalance(table: SequenceTable, *assigned: TP) -> None:
    """These partitions are here from now on."""
    asyncio.run(table.on_rebalance(set(assigned), set(), set(assigned)))


# -- writing


def test_full_windows_are_compressed(table: SequenceTable, log: Log) -> None:
    """Values of over half a KiB on average go to the changelog compressed, short ones and tombstones as they are."""
    short, long = b"s" * 100, b"l" * 1500
    for values in ([short, short], [long], [long, short, short], [long, None], [None], []):
        asyncio.run(table.publish(0, [(b"u%d" % n, value) for n, value in enumerate(values)], 1))

    assert ["none", "zstd", "zstd", "zstd", "none", "none"] == log.codecs


def test_ours_follow_ours(table: SequenceTable) -> None:
    """Acknowledged batches that lie one behind the other: values, time and the last offset are written at once (P4)."""
    assert [] == table.write(0, [(b"a", b"1"), (b"b", b"2")], [acknowledged(0, 2)], 7)
    assert [] == table.write(0, [(b"a", b"3"), (b"c", None)], [acknowledged(2), acknowledged(3)], None)

    assert ([b"3", b"2", None], 3, 7) == (
        table.read(0, [b"a", b"b", b"c"]),
        table.persisted_offset(TP0),
        table.store.partition_time(0),
    )
    assert table.persisted_offset(TP1) is None


def test_gaps_hold_the_offset_back(table: SequenceTable, caplog: pytest.LogCaptureFixture) -> None:
    """What others wrote between ours is told as gaps, and the offset stays before the first until somebody looked."""
    assert [(0, 3)] == table.write(0, [(b"a", b"1")], [acknowledged(3)], 1)
    assert table.persisted_offset(TP0) is None
    assert [(0, 3), (4, 9)] == table.write(0, [(b"a", b"2")], [acknowledged(9, 2)], 1)
    assert ["app-users-changelog/0: another writer's records lie behind ours"] == caplog.messages

    table.complete_to(0, 3)
    assert 3 == table.persisted_offset(TP0)
    table.complete_to(0, 9)
    assert 10 == table.persisted_offset(TP0)
    assert [] == table.write(0, [(b"a", b"3")], [acknowledged(11)], 1)
    assert 11 == table.persisted_offset(TP0)


def test_gaps_are_of_a_partition(table: SequenceTable) -> None:
    """A gap in one partition holds back nothing in another."""
    assert [(0, 3)] == table.write(0, [], [acknowledged(3)], 1)
    assert [] == table.write(1, [], [acknowledged(0)], 1)

    assert [None, 0] == [table.persisted_offset(TP0), table.persisted_offset(TP1)]


def test_place_unknown(table: SequenceTable) -> None:
    """A batch that was sent twice, and whose place the broker has forgotten, is looked for in the next gap."""
    assert [] == table.write(0, [(b"a", b"1")], [acknowledged(-1)], 1)
    assert table.persisted_offset(TP0) is None

    assert [(0, 1)] == table.write(0, [(b"a", b"2")], [acknowledged(1)], 1)


def test_another_writer_behind_ours(table: SequenceTable) -> None:
    """Where the changelog goes on behind our last record, that is a gap too, told once and held before."""
    table.write(0, [(b"a", b"1")], [acknowledged(0, 2)], 1)

    assert [] == table.meet(0, 2)
    assert [(2, 5)] == table.meet(0, 5) == table.meet(0, 5)
    assert [(2, 5)] == table.write(0, [(b"a", b"2")], [acknowledged(5)], 1)
    assert 1 == table.persisted_offset(TP0)
    table.complete_to(0, 5)
    assert 5 == table.persisted_offset(TP0)


@pytest.mark.parametrize("offset", [0, 4])
def test_log_has_lost_its_end(offset: int, table: SequenceTable) -> None:
    """Written where there were records before: the topic is another, or has lost its end; nothing is written (R10)."""
    table.write(0, [(b"a", b"1")], [acknowledged(0, 5)], 1)

    with pytest.raises(TopicError) as raised:
        table.write(0, [(b"a", b"2")], [acknowledged(offset)], 1)

    assert str(raised.value) == (
        f"app-users-changelog/0: expected offset 5 or more for what was written, got {offset}: the topic was made anew "
        "or has lost its end; start the worker again, local state is then recovered"
    )
    assert [b"1"] == table.read(0, [b"a"])


# -- recovery


def test_recovery_writes_stale_users_again(table: SequenceTable, log: Log) -> None:
    """A late record of another worker: the newer value is written behind it; its offset waits for the update (P3)."""
    log.next[TP0] = 3
    apply(table, [record(0, b"a", value(2)), record(1, b"b", value(1)), record(2, b"a", value(1))])

    recover(table)

    assert [(b"a", value(2))] == log.sent
    assert {0: [b"a"]} == table.healed
    assert table.persisted_offset(TP0) is None
    table.healed.clear()
    assert [] == table.write(0, [], [], None)
    assert 3 == table.persisted_offset(TP0)


def test_recovery_forgets_what_is_not_ours(table: SequenceTable, log: Log) -> None:
    """Users whose updates were to be renewed are their new worker's once the partition has gone."""
    table.healed = {0: [b"a"], 1: [b"b"]}

    recover(table, TP1)

    assert {1: [b"b"]} == table.healed


def test_value_that_cannot_be_read_ends(table: SequenceTable) -> None:
    """Faust would go on without the records; here the process ends, and the record is named (R26)."""
    with pytest.raises(Ended) as ended:
        apply(table, [record(4, b"a", b"\x7fbroken")])

    code, message = ended.value.args
    assert ending.EXIT_RECOVERY == code
    assert message.startswith("recovery failed: TableValueError: app-users-changelog/0 at offset 4:")


def test_trimmed_under_the_recovery(table: SequenceTable, log: Log, caplog: pytest.LogCaptureFixture) -> None:
    """Records that were trimmed before recovery came to them: it ends, and the copy is not used again (R01)."""
    apply(table, [record(0, b"a", value(1))])
    apply(table, [record(8, b"b", value(1))])
    log.starts[TP0] = 8

    with pytest.raises(Ended) as ended:
        recover(table)

    said = "app-users-changelog/0 was trimmed from 1 to 8 while it was read"
    assert (ending.EXIT_RECOVERY, f"recovery failed: {said}; start the worker again") == ended.value.args
    assert said in caplog.text
    assert [None] == table.read(0, [b"a"])


def test_compacted_under_the_recovery(table: SequenceTable, log: Log) -> None:
    """Records that compaction took are no loss: the log still starts where it did (R04)."""
    apply(table, [record(0, b"a", value(1))])
    apply(table, [record(8, b"a", value(2))])

    recover(table)

    assert ([value(2)], 8) == (table.read(0, [b"a"]), table.persisted_offset(TP0))


def test_age_of_a_copy(log: Log, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A copy on disk is as old as the record it has read, new when recovery is complete, older while users are mended.

    What is behind the offset of a user who is mended was not looked at for good, so tombstones there still count (P7).
    """
    table = make(log, monkeypatch, store=STORES["rocksdb"], datadir=tmp_path)
    store = cast(RocksStore, table.store)
    apply(table, [record(0, b"a", value(2)), record(1, b"b", value(1))])
    assert 1 == store._notes[0].written_ms

    table.healed = {0: [b"a"]}
    recover(table)
    assert 1 == store._notes[0].written_ms

    table.healed = {}
    recover(table)
    assert time.time() * 1000 - 3_600_000 < store._notes[0].written_ms


# -- copies that are here already


def test_fit_copies_stay(table: SequenceTable, log: Log, caplog: pytest.LogCaptureFixture) -> None:
    """A copy that ends in the log, at its end, or where an emptied log starts, is used on (R01, R04)."""
    apply(table, [record(0, b"a", value(1)), record(4, b"a", value(2))])
    apply(table, [record(7, b"b", value(1))], TP1)
    log.next |= {TP0: 5, TP1: 8}
    log.starts[TP1] = 8

    rebalance(table, TP0, TP1, EVENTS)

    assert [value(2)] == table.read(0, [b"a"])
    assert [value(1)] == table.read(1, [b"b"])
    assert [{TP0, TP1}] == log.asked
    assert [] == caplog.messages


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        (0, 4, "it is ahead of the changelog: it expects offset 5 next, the changelog ends at 4"),
        (0, 0, "it is ahead of the changelog: it expects offset 5 next, the changelog ends at 0"),
        (6, 9, "the changelog was trimmed: it starts at offset 6, 5 is missing here"),
        (9, 9, "the changelog was trimmed: it starts at offset 9, 5 is missing here"),
    ],
)
def test_unfit_copies_go(
    start: int, end: int, reason: str, table: SequenceTable, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    """One that is ahead of the log, or behind its start, is recovered whole, and only that one (R10, R01)."""
    apply(table, [record(4, b"a", value(2))])
    apply(table, [record(4, b"a", value(2))], TP1)
    log.starts[TP0] = start
    log.next |= {TP0: end, TP1: 5}

    with caplog.at_level(logging.WARNING):
        rebalance(table, TP0, TP1)

    assert ([None], None) == (table.read(0, [b"a"]), table.persisted_offset(TP0))
    assert [TP0] == recovery_of(table).revoked
    assert caplog.messages == [
        f"partition 0: the local copy is thrown away and recovered whole from the changelog: {reason}"
    ]
    assert ([value(2)], 4) == (table.read(1, [b"a"]), table.persisted_offset(TP1))


def test_standby_that_was_trimmed_under(table: SequenceTable, log: Log, caplog: pytest.LogCaptureFixture) -> None:
    """A standby whose log was trimmed before it came to read has moved on since, and is thrown away all the same."""
    apply(table, [record(4, b"a", value(2))])
    apply(table, [record(20, b"b", value(1))])
    log.starts[TP0], log.next[TP0] = 20, 21

    rebalance(table, TP0)

    assert [None] == table.read(0, [b"a"])
    assert "it starts at offset 20, 5 is missing here" in caplog.text


def test_no_copy_is_no_question(table: SequenceTable, log: Log) -> None:
    """Without a copy there is nothing to ask the broker."""
    rebalance(table, TP0, EVENTS)

    assert [] == log.asked


@pytest.mark.parametrize("found", [uuid.UUID(int=2), None], ids=["made anew", "deleted"])
def test_topic_changed_meanwhile(
    found: uuid.UUID | None, table: SequenceTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changelog that was made anew or deleted since the start ends the worker at the next rebalance (R10)."""
    rebalance(table, TP0)
    rebalance(table, TP0)
    find(monkeypatch, found)

    with pytest.raises(Ended) as ended:
        rebalance(table, TP0)

    assert ending.EXIT_RECOVERY == ended.value.args[0]
    assert f"topic app-users-changelog: expected id {uuid.UUID(int=1)}, got {found}" in ended.value.args[1]


def test_broker_does_not_describe(
    table: SequenceTable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A broker that does not answer what the topic is, is warned of; offsets are still compared."""

    def describe(broker: str, names: Sequence[str]) -> dict[str, Any]:
        raise BrokerError("no broker answers")

    rebalance(table, TP0)
    monkeypatch.setattr(topics, "describe", describe)

    rebalance(table, TP0)

    assert ["whether app-users-changelog is still the same topic is not known: no broker answers"] == caplog.messages


def test_ends_are_not_known(table: SequenceTable, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer where the changelog ends no copy is used: the process ends (R09)."""
    apply(table, [record(4, b"a", value(2))])

    async def no_answer(tps: object) -> dict[TP, int]:
        raise TimeoutError("no answer")

    monkeypatch.setattr(log, "ends", no_answer)

    with pytest.raises(Ended) as ended:
        rebalance(table, TP0)

    assert (ending.EXIT_RECOVERY, "recovery failed: TimeoutError: no answer") == ended.value.args


def test_how_much_was_read_is_told(table: SequenceTable, caplog: pytest.LogCaptureFixture) -> None:
    """A recovery says how many records it read, each recovery its own, and standby copies when they are level."""
    caplog.set_level(logging.INFO, "interest")
    rebalance(table, TP0)
    apply(table, [record(0, b"a", value(1)), record(1, b"b", value(1))])
    recover(table)
    recovery = recovery_of(table)
    recovery.standby_highwaters = {TP1: 5}
    asyncio.run(table.on_recovery_completed({TP0}, {TP1}))
    for offset in (4, 5):
        recovery.standby_offsets = {TP1: offset}
        apply(table, [record(offset, b"c", value(offset))], TP1)

    told = [message.partition(" records")[0] for message in caplog.messages]
    assert ["recovered: 2", "standby copies have caught up: 2"] == told
