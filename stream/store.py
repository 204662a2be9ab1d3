"""Local copies of the sequence table, read and written in bulk: one in memory, one on Faust's RocksDB store.

Each knows up to which changelog offset it is complete, and the partition time; both are written together with the
values.
"""

import logging
import struct
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NoReturn, cast

import rocksdict
from faust.stores import base, rocksdb
from faust.types import TP

from stream import localstate
from stream.bulk import Bulk, Change
from stream.ending import EXIT_FAILURE, end
from stream.localstate import NOTE_MS, Changelog, Note

log = logging.getLogger(__name__)

# RocksDB of all partitions together. Faust's defaults allow 2 GiB of cache and 192 MiB of write buffers for each.
CACHE_BYTES = 128 << 20
WRITE_BUFFERS_BYTES = 128 << 20
_BLOOM_BITS = 10  # of 100 users who are not there, 1 is looked for on disk
_MEMTABLE_BLOOM = 0.02  # of a write buffer

_TIME_KEY = b"__interest\0partition-time__"  # a user id has no NUL
_NOTE_KEY = b"__interest\0note__"
_time = struct.Struct("<q")


class MemoryStore(Bulk, base.Store[bytes, bytes]):
    """Values in dictionaries; after a restart all is read from the changelog again."""

    def __post_init__(self) -> None:
        self._begin()
        self._values: defaultdict[int, dict[bytes, bytes]] = defaultdict(dict)
        self._offsets: dict[TP, int] = {}
        self._times: dict[int, int] = {}
        self._scanned: dict[int, list[bytes]] = {}  # keys in order, as they were when the pass began

    def read(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        values = self._values[partition]
        return [values.get(key) for key in keys]

    def write(
        self,
        tp: TP,
        changes: Iterable[Change],
        offset: int | None,
        time_ms: int | None,
        complete_ms: int | None = None,
    ) -> None:
        values = self._values[tp.partition]
        for key, value in changes:
            if value is None:
                values.pop(key, None)
            else:
                values[key] = value
        if offset is not None:
            self._offsets[tp] = offset
        if time_ms is not None:
            self._times[tp.partition] = time_ms

    def partition_time(self, partition: int) -> int | None:
        return self._times.get(partition)

    def scan(self, partition: int, after: bytes | None, count: int) -> list[tuple[bytes, bytes]]:
        values = self._values[partition]
        if after is None or partition not in self._scanned:
            self._scanned[partition] = sorted(values)
        keys = self._scanned[partition]
        start = 0 if after is None else bisect_right(keys, after)
        there = ((key, values[key]) for key in islice(keys, start, None) if key in values)
        found = list(islice(there, count))
        if len(found) < count:
            del self._scanned[partition]
        return found

    def users(self, partition: int) -> int:
        return len(self._values[partition])

    def persisted_offset(self, tp: TP) -> int | None:
        return self._offsets.get(tp)

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        self._offsets[tp] = offset

    def reset_state(self) -> None:
        self._values.clear()
        self._offsets.clear()
        self._times.clear()
        self._scanned.clear()

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Let go of partitions that are neither active nor standby here any more."""
        topic = cast(Any, self.table).changelog_topic_name
        here = {tp.partition for tp in assigned if tp.topic == topic}
        for partition in [partition for partition in self._values if partition not in here]:
            self._forget_values(TP(topic, partition))

    def throw_away(self, tp: TP, reason: str) -> None:
        self._forget_values(tp)
        _tell(tp.partition, reason)

    def _forget_values(self, tp: TP) -> None:
        self._forget(tp.partition)
        self._offsets.pop(tp, None)
        for kept in (self._values, self._times, self._scanned):
            kept.pop(tp.partition, None)

    async def backup_partition(self, tp: Any, flush: bool = True, purge: bool = False, keep: int = 1) -> None:
        raise TypeError("a table in memory has no backups: the changelog is its copy")

    def restore_backup(self, tp: Any, latest: bool = True, backup_id: int = 0) -> None:
        raise TypeError("a table in memory has no backups: the changelog is its copy")

    def __getitem__(self, key: bytes) -> bytes:
        for values in self._values.values():
            if key in values:
                return values[key]
        raise KeyError(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError("the sequence table is written in bulk only")

    def __delitem__(self, key: Any) -> None:
        raise TypeError("the sequence table is written in bulk only")

    def __len__(self) -> int:
        return sum(map(len, self._values.values()))

    def __iter__(self) -> Iterator[bytes]:
        for values in self._values.values():
            yield from values


class _SharedOptions(rocksdb.RocksDBOptions):
    """Faust's options of a RocksDB, but one cache and one budget of write buffers for all partitions."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._cache = rocksdict.Cache(CACHE_BYTES)
        #: Counts what the write buffers of all partitions hold.
        self.write_buffers = rocksdict.WriteBufferManager(WRITE_BUFFERS_BYTES, False)

    def as_options(self) -> Any:
        """The options of one partition."""
        options = super().as_options()
        table = rocksdict.BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_bloom_filter(_BLOOM_BITS, block_based=False)
        options.set_block_based_table_factory(table)
        options.set_memtable_whole_key_filtering(True)
        options.set_memtable_prefix_bloom_ratio(_MEMTABLE_BLOOM)
        options.set_write_buffer_manager(self.write_buffers)
        return options


class RocksStore(Bulk, rocksdb.Store):
    """Values in one RocksDB for each partition; a restart reads only the tail of the changelog.

    Copies are judged when they are opened (stream.localstate). What RocksDB cannot do later ends the process.
    """

    _own_keys = frozenset({rocksdb.Store.offset_key, _TIME_KEY, _NOTE_KEY})

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._begin()
        self._notes: dict[int, Note] = {}
        super().__init__(*args, **kwargs)
        self.rocksdb_options = _SharedOptions(**(self.options or {}))

    @property
    def _changelog(self) -> Changelog | None:
        return cast(Changelog | None, cast(Any, self.table).changelog)

    def read(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._at_work(partition) as db:
            return [db.get(key) for key in keys]

    def write(
        self,
        tp: TP,
        changes: Iterable[Change],
        offset: int | None,
        time_ms: int | None,
        complete_ms: int | None = None,
    ) -> None:
        partition = tp.partition
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in changes:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        if time_ms is not None:
            batch.put(_TIME_KEY, _time.pack(time_ms))
        with self._at_work(partition) as db:
            if offset is not None:
                batch.put(self.offset_key, str(offset).encode())
                self._note(partition, batch, complete_ms)
            db.write(batch)

    def _note(self, partition: int, into: Any, complete_ms: int | None) -> None:
        """Put a new note, where the time or what was passed over has changed enough."""
        note, changelog = self._notes.get(partition), self._changelog
        if changelog is None:
            return
        now = round(time.time() * 1000)
        written_ms = now if complete_ms is None else min(now, complete_ms)
        passed_over = self.passed_over.get(partition)
        if note is None or note.passed_over != passed_over or abs(written_ms - note.written_ms) >= NOTE_MS:
            self._notes[partition] = note = Note.of(changelog, written_ms, passed_over)
            into.put(_NOTE_KEY, localstate.pack(note))

    def partition_time(self, partition: int) -> int | None:
        with self._at_work(partition) as db:
            found = db.get(_TIME_KEY)
        return None if found is None else int(_time.unpack(found)[0])

    def persisted_offset(self, tp: TP) -> int | None:
        with self._at_work(tp.partition) as db:
            found = db.get(self.offset_key)
        return None if found is None else int(found)

    def scan(self, partition: int, after: bytes | None, count: int) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        with self._at_work(partition) as db:
            at = db.iter()
            at.seek(b"" if after is None else after)
            while at.valid() and len(found) < count:
                key = at.key()
                if key != after and key not in self._own_keys:
                    found.append((key, at.value()))
                at.next()
            at.status()  # an iterator that cannot read just ends; here is why
        return found

    def users(self, partition: int) -> int:
        with self._at_work(partition) as db:
            keys: int = db.property_int_value("rocksdb.estimate-num-keys") or 0
        return max(0, keys - len(self._own_keys))

    def throw_away(self, tp: TP, reason: str) -> None:
        db = self._dbs.pop(tp.partition, None)
        if db is not None:
            db.close()
        self._remove(tp.partition, reason)

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Let go of what is kept in memory of partitions that are not here any more, then as Faust does."""
        for tp in revoked:
            if tp.topic in self.table.changelog_topic.topics:
                self._forget(tp.partition)
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    def _open_for_partition(self, partition: int) -> Any:
        """Open a copy that is fit; one that is not is thrown away first."""
        try:
            db = None
            reason = localstate.read_mark(self.partition_path(partition))
            if reason is None:
                try:
                    db = super()._open_for_partition(partition)
                    reason = self._judge(partition, db)
                except Exception as error:
                    if localstate.is_locked(error) or localstate.is_blocked(error):
                        raise
                    reason = f"it cannot be opened: {_line(error)}"
            if reason is None:
                return db
            if db is not None:
                db.close()
            self._remove(partition, reason)
            db = super()._open_for_partition(partition)
            self._note(partition, db, None)
            return db
        except Exception as error:
            if localstate.is_locked(error):
                raise  # Faust tries again
            self._fail(partition, error)

    def _judge(self, partition: int, db: Any) -> str | None:
        """Why a copy that was opened must not be used."""
        changelog = self._changelog
        if changelog is None:
            return None
        self._notes.pop(partition, None)
        at = db.iter()
        at.seek_to_first()
        has_data = False
        while at.valid() and not has_data:
            has_data = at.key() != _NOTE_KEY
            at.next()
        at.status()
        if not has_data:
            self._note(partition, db, None)
            return None
        stored = db.get(_NOTE_KEY)
        reason = localstate.judge_note(stored, changelog, round(time.time() * 1000))
        if reason is None:
            self._notes[partition] = note = localstate.unpack(stored)
            if note.passed_over is not None:
                self.passed_over[partition] = note.passed_over
        return reason

    def _remove(self, partition: int, reason: str) -> None:
        self._forget(partition)
        self._notes.pop(partition, None)
        _tell(partition, reason)
        localstate.remove(self.partition_path(partition))

    @contextmanager
    def _at_work(self, partition: int) -> Iterator[Any]:
        """The RocksDB of a partition; what it cannot do ends the process."""
        db = self._db_for_partition(partition)
        try:
            yield db
        except Exception as error:  # noqa: BLE001  # rocksdict raises nothing more particular
            self._fail(partition, error)

    def _fail(self, partition: int, error: Exception) -> NoReturn:
        path = self.partition_path(partition)
        if localstate.is_blocked(error):
            end(
                EXIT_FAILURE,
                "data folder %s: %s (%s); mend that, then start the worker again",
                path.parent,
                "there is no room to write" if localstate.is_full(error) else "it cannot be used",
                _line(error),
            )
        try:
            localstate.mark(path, f"it could not be read: {_line(error)}")
        except OSError as refused:
            log.warning("%s cannot be marked as damaged: %s; remove it", path, refused)
        end(
            EXIT_FAILURE,
            "data folder %s: the local copy of partition %d cannot be used (%s); start the worker again, the copy is "
            "then thrown away and recovered from the changelog",
            path.parent,
            partition,
            _line(error),
        )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _tell(partition: int, reason: str) -> None:
    log.warning(
        "partition %d: the local copy is thrown away and recovered whole from the changelog: %s", partition, reason
    )
