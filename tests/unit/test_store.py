"""The two local copies, on their own: in memory and on disk, in bulk."""

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import faust
import numpy as np
import pytest
import rocksdict
from faust.types import TP

from stream import ending, localstate, store
from stream.contract import EVENT_DTYPE, EVENT_TYPES
from stream.errors import TableValueError
from stream.followed import changelog_message
from stream.localstate import Changelog, Note
from stream.security import Cluster
from stream.store import MemoryStore, RocksStore
from stream.table import SequenceTable
from stream.value import UserState, newest_ms, newest_of, pack
from stream.worker import STORES

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
CHANGELOG = Changelog(Cluster("127.0.0.1:9"), "app-users-changelog", uuid.UUID(int=1), 7 * DAY_MS)
TP0 = TP(CHANGELOG.topic, 0)
TP1 = TP(CHANGELOG.topic, 1)

Store = MemoryStore | RocksStore
Open = Callable[..., Store]


class Ended(BaseException):
    """Instead of the end of the process."""


def ending_of(call: Callable[[], object]) -> tuple[int, str]:
    """Exit code and message with which a call ends the process."""
    try:
        call()
    except Ended as ended:
        return ended.args[0], ended.args[1]
    raise AssertionError("it did not end")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The stores' clock, at NOW_MS until a test sets it; the end of the process raises."""
    clock = SimpleNamespace(ms=NOW_MS)

    def end(code: int, message: str, *arguments: object) -> None:
        raise Ended(code, message % arguments)

    monkeypatch.setattr("stream.store.time.time", lambda: clock.ms / 1000)
    monkeypatch.setattr(store, "end", end)
    return clock


def make(kind: str, folder: Path, changelog: Changelog | None = CHANGELOG) -> Store:
    """A store as a worker's table makes it; on disk, it opens what is there."""
    app = faust.App(
        "app",
        broker="batchkafka://127.0.0.1:9",
        store=STORES[kind],
        datadir=folder,
        autodiscover=False,
        topic_disable_leader=True,
        Table=SequenceTable,
    )
    return cast(Store, SequenceTable(app, name="users", partitions=2, changelog=changelog).store)


@pytest.fixture(params=["memory", "rocksdb"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Each kind, empty."""
    return make(request.param, tmp_path)


def close(rocks: Store) -> Path:
    """Let go of partition 0; where it lies."""
    assert isinstance(rocks, RocksStore)
    path: Path = rocks.partition_path(0)
    for db in rocks._dbs.values():
        db.close()
    rocks._dbs.clear()
    return path


def value(version: int, at: int) -> bytes:
    """A table value whose last record was at offset `at`."""
    return pack(UserState(version, 0, {1: at}, np.zeros(1, EVENT_DTYPE)))


def record(offset: int, key: bytes, value: bytes | None, timestamp: int = NOW_MS) -> Any:
    """A changelog record."""
    return SimpleNamespace(offset=offset, key=key, value=value, timestamp=timestamp, timestamp_type=0)


def recover(into: Store, records: Sequence[Any], tp: TP = TP0, start: int = 0) -> None:
    """As Faust's recovery hands over one fetch, which began at offset `start`."""
    message = changelog_message(tp, start, records, records[-1].offset + 1, 1)
    into.apply_changelog_batch([SimpleNamespace(message=message)], None, None)


def all_of(store: Store, partition: int, page: int) -> list[tuple[bytes, bytes]]:
    """A whole pass."""
    rows: list[tuple[bytes, bytes]] = []
    after = None
    while True:
        found = store.scan(partition, after, page)
        rows += found
        if len(found) < page:
            return rows
        after = found[-1][0]


def test_values_come_back(either: Store) -> None:
    """What was written is read, in the order asked for; unknown users are None; partitions are apart."""
    either.write(TP0, [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")], 7, 99)
    either.write(TP1, [(b"a", b"other")], None, None)
    either.write(TP0, [(b"b", None), (b"a", b"4")], None, None)

    assert [b"3", None, b"4", None] == either.read(0, [b"c", b"b", b"a", b"x"])
    assert [b"other"] == either.read(1, [b"a"])
    assert [7, None] == [either.persisted_offset(TP0), either.persisted_offset(TP1)]
    assert [99, None] == [either.partition_time(0), either.partition_time(1)]


def test_users(either: Store) -> None:
    """How many users there are; what the store notes for itself is none."""
    assert 0 == either.users(0)
    either.write(TP0, [(b"u%d" % number, b"v") for number in range(100)], 7, 99)
    assert 100 == either.users(0)


def test_keys_of_any_bytes(either: Store) -> None:
    """User ids of control characters and any bytes of UTF-8 are written, read and scanned as they are (K06)."""
    keys = sorted([b"\x01", b"\x7f\n", "名\u2028".encode(), b"__faust", b"__interest", b"zzz", b'"u1"'])
    either.write(TP0, [(key, b"v" + key) for key in keys], 1, 1)

    assert [b"v" + key for key in keys] == either.read(0, keys)
    assert [(key, b"v" + key) for key in keys] == either.scan(0, None, 100)


@pytest.mark.parametrize("page", [1, 2, 3, 5, 100])
def test_pages_hold_all_once_in_order(either: Store, page: int) -> None:
    """A pass in pages of any size gives every user once, in the order of the keys, and nothing of the store's own."""
    rows = [(b"u%02d" % number, b"%d" % number) for number in range(10)]
    either.write(TP0, reversed(rows), 3, 5)

    assert rows == all_of(either, 0, page)
    assert [] == all_of(either, 1, page)


def test_a_pass_survives_changes(either: Store) -> None:
    """Users deleted between two pages, also the last one seen, are left out; those who stay are all seen (W01)."""
    either.write(TP0, [(b"u%d" % number, b"v") for number in range(8)], 3, 5)

    first = either.scan(0, None, 3)
    either.write(TP0, [(b"u2", None), (b"u4", None), (b"a", b"new")], 4, 5)
    rest = either.scan(0, first[-1][0], 100)

    assert [b"u0", b"u1", b"u2"] == [key for key, _ in first]
    assert [b"u3", b"u5", b"u6", b"u7"] == [key for key, _ in rest]
    assert [b"a", b"u0", b"u1"] == [key for key, _ in either.scan(0, None, 3)]


def test_recovery_takes_the_last_value(either: Store) -> None:
    """Changelog records in their order: the last value of each user stays, one with a tombstone is absent (R24)."""
    recover(either, [record(0, b"a", value(1, 1)), record(1, b"b", value(1, 2)), record(2, b"a", value(2, 3))])
    recover(either, [record(3, b"b", None)])

    assert [value(2, 3), None] == either.read(0, [b"a", b"b"])
    assert 3 == either.persisted_offset(TP0)
    assert 4 == either.recovered
    assert ({}, set()) == (either.stale[0], either.met[0])


def test_stale_record_does_not_win(either: Store) -> None:
    """A late record of a worker that had lost the partition: the newer value stays, the offset stays before (P3)."""
    recover(either, [record(0, b"a", value(2, 20)), record(1, b"b", value(1, 5))])
    recover(either, [record(2, b"a", value(1, 10)), record(3, b"b", value(2, 6))])

    assert [value(2, 20), value(2, 6)] == either.read(0, [b"a", b"b"])
    assert {b"a": value(2, 20)} == either.stale[0]
    assert {b"a"} == either.met[0]
    assert 1 == either.persisted_offset(TP0)

    recover(either, [record(4, b"a", value(3, 30))])

    assert {} == either.stale[0]
    assert {b"a"} == either.met[0]
    assert 1 == either.persisted_offset(TP0)


def test_bad_record_is_named(either: Store) -> None:
    """A changelog value that cannot be read is an error that says where it is, and nothing of it is written (R26)."""
    with pytest.raises(TableValueError, match=r"^app-users-changelog/0 at offset 8: .*format"):
        recover(either, [record(7, b"a", value(1, 1)), record(8, b"b", b"\x7fbroken")])

    assert [None] == either.read(0, [b"a"])
    assert either.persisted_offset(TP0) is None


def test_offsets_that_did_not_come_are_noted(either: Store) -> None:
    """The first changelog offset that was passed over while it was followed is known, and never a later one."""
    recover(either, [record(5, b"a", value(1, 1))])
    recover(either, [record(6, b"a", value(2, 2))])
    assert {} == either.passed_over

    recover(either, [record(9, b"a", value(3, 3))])
    recover(either, [record(20, b"a", value(4, 4))])

    assert {0: 7} == either.passed_over


def test_reading_again_is_no_gap(either: Store) -> None:
    """With the offset held back, what was read is known all the same; reading it once more is no gap either (R11)."""
    recover(either, [record(0, b"a", value(2, 20))])
    recover(either, [record(1, b"a", value(1, 10))])
    recover(either, [record(2, b"b", value(1, 1))])
    recover(either, [record(0, b"a", value(2, 20)), record(2, b"b", value(1, 1))])

    assert 0 == either.persisted_offset(TP0)
    assert {} == either.passed_over


def test_thrown_away(either: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A partition that is thrown away is empty and of use again; the others stay; one line says why."""
    recover(either, [record(0, b"a", value(2, 20)), record(1, b"a", value(1, 10))])
    recover(either, [record(9, b"a", value(3, 10))], TP1)

    with caplog.at_level(logging.WARNING, "stream.store"):
        either.throw_away(TP0, "it is ahead")

    assert ["partition 0: the local copy is thrown away and recovered whole from the changelog: it is ahead"] == (
        caplog.messages
    )
    assert ([], None, None) == (all_of(either, 0, 5), either.persisted_offset(TP0), either.partition_time(0))
    assert (set(), {}) == (either.met[0], either.stale[0])
    assert 1 == len(all_of(either, 1, 5))
    recover(either, [record(3, b"b", value(1, 1))])
    assert {} == either.passed_over
    assert [(b"b", value(1, 1))] == all_of(either, 0, 5)


@pytest.mark.parametrize("kind", ["memory", "rocksdb"])
def test_partitions_go(kind: str, tmp_path: Path) -> None:
    """A partition that goes takes what memory holds of it along, with or without an offset; the others stay (R12)."""
    store = make(kind, tmp_path)
    cast(Any, store.app).assignor = SimpleNamespace(assigned_standbys=set)
    for tp in (TP0, TP1):
        recover(store, [record(0, b"a", value(2, 20)), record(1, b"a", value(1, 10))], tp)
        recover(store, [record(5, b"b", value(1, 1))], tp)

    asyncio.run(store.on_rebalance({TP1}, {TP0}, set()))

    assert ({1}, {1}, {1: 2}) == ({*store.stale}, {*store.met}, store.passed_over)
    assert 2 == len(store.scan(1, None, 5))
    assert (0 if kind == "memory" else 2) == len(store.scan(0, None, 5))


# -- on disk


def test_restart_keeps_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was written is there after a restart: values, offset, partition time, what was passed over (W06)."""
    before = make("rocksdb", tmp_path)
    recover(before, [record(4, b"a", value(1, 1))])
    recover(before, [record(6, b"b", value(1, 2))])
    before.write(TP0, [], None, 77)
    close(before)

    after = make("rocksdb", tmp_path)

    assert [(b"a", value(1, 1)), (b"b", value(1, 2))] == after.scan(0, None, 10)
    assert (6, 77, {0: 5}) == (after.persisted_offset(TP0), after.partition_time(0), after.passed_over)
    assert [] == caplog.messages


def test_empty_copy_is_no_news(tmp_path: Path, clock: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    """A copy without data is nothing to throw away, however old and whosever it is."""
    before = make("rocksdb", tmp_path)
    before.users(0)
    close(before)
    clock.ms += 100 * DAY_MS

    after = make("rocksdb", tmp_path)
    after.write(TP0, [(b"a", b"1")], 1, 1)

    assert [] == caplog.messages
    close(after)
    assert [b"1"] == make("rocksdb", tmp_path).read(0, [b"a"])


def other(**changed: Any) -> Changelog:
    """The changelog, but for some of it."""
    known = {name: getattr(CHANGELOG, name) for name in ("broker", "topic", "topic_id", "delete_retention_ms")}
    return Changelog(**known | changed)


@pytest.mark.parametrize(
    ("now", "later_ms", "reason"),
    [
        (other(topic="b-users-changelog"), 0, "it is of changelog app-users-changelog, expected b-users-changelog"),
        (other(topic_id=uuid.UUID(int=2)), 0, "0001, expected 00000000-0000-0000-0000-000000000002: the topic was"),
        (CHANGELOG, 3.6 * DAY_MS, "it was last written 86.4 hours ago, over half of the 168.0 hours"),
        (CHANGELOG, -3.6 * DAY_MS, "it was last written 86.4 hours ahead of the clock"),
    ],
    ids=["another application", "topic made anew (R10)", "too old", "from the future"],
)
def test_judged_by_its_note(
    now: Changelog,
    later_ms: float,
    reason: str,
    tmp_path: Path,
    clock: SimpleNamespace,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A copy that is not of this changelog, or too old for its tombstones, is not opened but thrown away (R10, P7)."""
    before = make("rocksdb", tmp_path)
    before.write(TP0, [(b"a", b"1")], 1, 1)
    before.write(TP1, [(b"a", b"1")], 1, 1)
    close(before)
    clock.ms += round(later_ms)

    after = make("rocksdb", tmp_path, now)

    assert ([None], None) == (after.read(0, [b"a"]), after.persisted_offset(TP0))
    assert 1 == len(caplog.messages)
    assert reason in caplog.messages[0]
    after.write(TP0, [(b"b", b"2")], 1, 1)
    close(after)
    assert [b"2"] == make("rocksdb", tmp_path, now).read(0, [b"b"])


@pytest.mark.parametrize(
    ("note", "reason"),
    [
        (None, "it does not say of which changelog it is"),
        (b"", "what it says of itself cannot be read"),
        (b"\x01\x02", "what it says of itself cannot be read"),
        (b'{"format":2,"something":"else"}', "it is of format 2, expected 1"),
        (b'{"format":1}', "what it says of itself cannot be read"),
    ],
    ids=["none", "empty", "bytes", "a later format", "cut short"],
)
def test_judged_by_its_format(
    note: bytes | None, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A copy in the format of another version, or without any note but with data, is thrown away."""
    before = make("rocksdb", tmp_path)
    before.write(TP0, [(b"a", b"1")], 1, 1)
    path = close(before)
    db = rocksdict.Rdict(str(path), options=rocksdict.Options(raw_mode=True))
    if note is None:
        db.delete(store._NOTE_KEY)
    else:
        db.put(store._NOTE_KEY, note)
    db.close()

    assert [None] == make("rocksdb", tmp_path).read(0, [b"a"])
    assert 1 == len(caplog.messages)
    assert reason in caplog.messages[0]


def noted(rocks: Store) -> Note:
    """What the copy of partition 0 says of itself."""
    assert isinstance(rocks, RocksStore)
    return localstate.unpack(rocks._db_for_partition(0).get(store._NOTE_KEY))


def test_time_of_the_last_write(tmp_path: Path, clock: SimpleNamespace) -> None:
    """It is noted with an offset, once a minute at most; never without an offset, which would hide what is not read."""
    rocks = make("rocksdb", tmp_path)
    rocks.write(TP0, [(b"a", b"1")], 1, 1)
    clock.ms += 59_000
    rocks.write(TP0, [(b"a", b"2")], 2, 1)
    assert NOW_MS == noted(rocks).written_ms

    clock.ms += 1_000
    rocks.write(TP0, [(b"a", b"3")], None, 1)
    assert NOW_MS == noted(rocks).written_ms

    rocks.write(TP0, [(b"a", b"3")], 3, 1)
    assert NOW_MS + 60_000 == noted(rocks).written_ms


def test_recovery_is_as_old_as_its_records(
    tmp_path: Path, clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    """A recovery that a crash cut short is as old as the record it came to: tombstones behind that may go (P7)."""
    rocks = make("rocksdb", tmp_path)
    recover(rocks, [record(0, b"a", value(1, 1), NOW_MS - 9 * DAY_MS)])
    assert NOW_MS - 9 * DAY_MS == noted(rocks).written_ms
    close(rocks)

    assert [None] == make("rocksdb", tmp_path).read(0, [b"a"])
    assert "last written 216.0 hours ago" in caplog.text


def flushed(folder: Path) -> Path:
    """A copy with 2,000 users in a file of RocksDB; where it lies."""
    rocks = make("rocksdb", folder)
    rocks.write(TP0, [(b"u%04d" % number, b"%d" % number * 50) for number in range(2000)], 1, 1)
    assert isinstance(rocks, RocksStore)
    rocks._db_for_partition(0).flush()
    return close(rocks)


def cut_table(path: Path) -> None:
    """The file that holds the values lacks its second half."""
    (table,) = path.glob("*.sst")
    table.write_bytes(table.read_bytes()[: table.stat().st_size // 2])


def empty_current(path: Path) -> None:
    """The file that names the others is empty."""
    (path / "CURRENT").write_bytes(b"")


def cut_manifest(path: Path) -> None:
    """The list of files is cut short."""
    (manifest,) = path.glob("MANIFEST-*")
    manifest.write_bytes(manifest.read_bytes()[:30])


def lose_table(path: Path) -> None:
    """The file that holds the values is gone."""
    (table,) = path.glob("*.sst")
    table.unlink()


def garble(path: Path, at: int = 0) -> None:
    """Some bytes of the values are others."""
    (table,) = path.glob("*.sst")
    data = bytearray(table.read_bytes())
    data[at : at + 300] = b"\xff" * 300
    table.write_bytes(data)


@pytest.mark.parametrize("damage", [cut_table, empty_current, cut_manifest, lose_table, garble])
def test_half_written(damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A copy that cannot be opened is thrown away, and of use again at once."""
    damage(flushed(tmp_path))

    rocks = make("rocksdb", tmp_path)

    assert [None] == rocks.read(0, [b"u0001"])
    assert "it cannot be opened: Corruption" in caplog.text
    assert 1 == len(caplog.messages)
    rocks.write(TP0, [(b"u0001", b"new")], 2, 2)
    close(rocks)
    assert [b"new"] == make("rocksdb", tmp_path).read(0, [b"u0001"])


def test_thrown_away_by_halves(tmp_path: Path) -> None:
    """A crash in the middle of throwing away leaves nothing that could be taken for a copy."""
    path = flushed(tmp_path)
    path.rename(path.with_name(path.name + ".thrown-away"))

    assert [None] == make("rocksdb", tmp_path).read(0, [b"u0001"])


Use = Callable[[Store], object]
USES: dict[str, Use] = {
    "read": lambda rocks: rocks.read(0, [b"u%04d" % number for number in range(2000)]),
    "scan": lambda rocks: all_of(rocks, 0, 100),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_damage_met_at_work(use: Use, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Bytes that changed under the worker end it with a plain line; the next start throws that copy away."""
    path = flushed(tmp_path)
    garble(path, 5000)
    rocks = make("rocksdb", tmp_path)

    code, message = ending_of(lambda: use(rocks))

    assert ending.EXIT_FAILURE == code
    assert message.startswith(f"data folder {path.parent}: the local copy of partition 0 cannot be used (Corruption")
    assert "\n" not in message
    close(rocks)
    caplog.clear()
    after = make("rocksdb", tmp_path)
    assert [None] == after.read(0, [b"u0001"])
    assert "it could not be read: Corruption" in caplog.text
    close(after)
    caplog.clear()
    make("rocksdb", tmp_path).users(0)
    assert [] == caplog.messages


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("No space left on device", "there is no room to write"),
        ("File too large", "there is no room to write"),
        ("Disk quota exceeded", "there is no room to write"),
        ("Too many open files", "it cannot be used"),
        ("Read-only file system", "it cannot be used"),
    ],
)
def test_disk_is_full(said: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room to write ends the process with a line that names the folder, and the copy is not blamed for it."""
    rocks = make("rocksdb", tmp_path)
    rocks.write(TP0, [(b"a", b"1")], 1, 1)
    assert isinstance(rocks, RocksStore)
    path = rocks.partition_path(0)

    def refuse(batch: object) -> None:
        raise Exception(f"IO error: While appending to file: {path}/000012.log: {said}")

    with monkeypatch.context() as patched:
        patched.setitem(rocks._dbs, 0, SimpleNamespace(write=refuse))
        code, message = ending_of(lambda: rocks.write(TP0, [(b"a", b"2")], 2, 2))

    assert ending.EXIT_FAILURE == code
    assert message.startswith(f"data folder {path.parent}: {told} (IO error")
    close(rocks)
    assert [b"1"] == make("rocksdb", tmp_path).read(0, [b"a"])


@pytest.mark.parametrize("said", ["No space left on device", "Permission denied", "Too many open files"])
def test_cannot_be_opened_for_now(said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that something else keeps from being opened is not thrown away: the process ends, the copy stays."""
    rocks = make("rocksdb", tmp_path)
    rocks.write(TP0, [(b"a", b"1")], 1, 1)
    path = close(rocks)

    def refuse(*arguments: object, **options: object) -> None:
        raise Exception(f"IO error: While opening: {path}/MANIFEST-000005: {said}")

    with monkeypatch.context() as patched:
        patched.setattr("faust.stores.rocksdb.DB", refuse)
        code, message = ending_of(lambda: rocks.read(0, [b"a"]))

    assert ending.EXIT_FAILURE == code
    assert said in message
    assert [b"1"] == make("rocksdb", tmp_path).read(0, [b"a"])


def test_open_elsewhere_is_not_thrown_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A copy whose lock is held is left alone: Faust tries again, until the one that holds it has let go."""
    rocks = make("rocksdb", tmp_path)
    rocks.write(TP0, [(b"a", b"1")], 1, 1)

    with pytest.raises(Exception, match="lock"):
        make("rocksdb", tmp_path).read(0, [b"a"])

    assert [] == caplog.messages
    close(rocks)
    assert [b"1"] == make("rocksdb", tmp_path).read(0, [b"a"])


def test_fetch_that_is_missing(either: Store) -> None:
    """A fetch that does not go on where the copy is ends recovery, and names both: what was handed over and lost on its
    way would be missing for whoever takes the copy over. Compacted offsets within a fetch are no gap (R04, R12)."""
    recover(either, [record(0, b"a", value(1, 0)), record(5, b"b", value(1, 1))])
    recover(either, [record(9, b"a", value(2, 2))], start=6)

    with pytest.raises(TableValueError, match="expected what follows offset 10, was handed what follows 11"):
        recover(either, [record(11, b"a", value(3, 3))], start=11)
    assert [value(2, 2)] == either.read(0, [b"a"])


def test_first_fetch_is_missing(either: Store) -> None:
    """The first fetch of an empty copy begins where the log does; else something was lost on its way (R01, R12)."""
    either.app.consumer.begins[TP0] = 7
    with pytest.raises(TableValueError, match="expected what follows offset 7, was handed what follows 8"):
        recover(either, [record(8, b"a", value(1, 1))], start=8)

    recover(either, [record(7, b"a", value(1, 0))], start=7)

    assert [value(1, 0)] == either.read(0, [b"a"])


def mixed_values() -> list[bytes]:
    """Windows of many lengths, markers, reviews with and without text, and users with none and two sources."""
    random = np.random.default_rng(3)
    values = []
    for number in range(60):
        events = np.zeros(number % 7, EVENT_DTYPE)
        events["timestamp"] = np.sort(random.integers(0, NOW_MS, len(events)))
        events["type"] = random.integers(0, 7, len(events)) if number % 3 == 0 else EVENT_TYPES["click"]
        tokens = [[1, 2][: number % 3] if kind == EVENT_TYPES["review"] else [] for kind in events["type"]]
        values.append(pack(UserState(number, 5, dict.fromkeys(range(1, 1 + number % 4), 9), events, tokens)))
    return values


def test_newest_of_many_is_as_of_each() -> None:
    """Looking at many values at once tells what looking at each does, also in how it refuses one that is damaged."""
    values = mixed_values()
    assert list(map(newest_ms, values)) == newest_of(values)
    assert [] == newest_of([])

    for number, cut in enumerate(values):
        for damaged in (cut[:-1], cut + b"\0", cut[:10], b"", b"\2" + cut[1:]):
            with pytest.raises(TableValueError) as one:
                newest_ms(damaged)
            with pytest.raises(TableValueError) as many:
                newest_of([*values[:number], damaged, *values[number:]])
            assert str(one.value) == str(many.value)


def test_rocksdb_shares_its_memory(tmp_path: Path) -> None:
    """All partitions have one block cache and one budget of write buffers, however many they are."""
    rocks = cast(Any, make("rocksdb", tmp_path))
    for tp in (TP0, TP1):
        rocks.write(tp, [(b"%d" % n, bytes(1000)) for n in range(1000)], 1, 1)
    used = rocks.rocksdb_options.write_buffers.get_usage()
    capacities = {db.property_int_value("rocksdb.block-cache-capacity") for db in rocks._dbs.values()}
    one, two = (db.property_int_value("rocksdb.cur-size-all-mem-tables") for db in rocks._dbs.values())

    assert {store.CACHE_BYTES} == capacities
    assert min(one, two) > 1_000_000
    assert used >= one + two
