"""Local copies of the sequence table, read and written in bulk: one in memory, one on Faust's RocksDB store.

Each knows up to which changelog offset it is complete, and the partition time; both are written together with the
values. A store also finds stale changelog records: a worker that lost its partitions without knowing may still write,
and what it wrote must not win.
"""

import struct
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

import rocksdict
from aiokafka import ConsumerRecord
from faust.stores import base, rocksdb
from faust.types import TP

from stream.errors import TableValueError
from stream.value import is_stale, newest_ms

Change = tuple[bytes, bytes | None]

_TIME_KEY = b"__interest\0partition-time__"  # a user id has no NUL
_time = struct.Struct("<q")


class BulkStore(Protocol):
    """What the table asks of a store, besides what Faust does."""

    #: Users of each partition whose newest changelog record is stale, and the value that should stand there.
    stale: defaultdict[int, dict[bytes, bytes]]
    #: All users of each partition of whom a stale record was met, also where a newer one stands behind it.
    met: defaultdict[int, set[bytes]]
    #: Changelog records that were applied.
    recovered: int

    def read(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of some users, None for who is not known."""

    def write(self, tp: TP, changes: Iterable[Change], offset: int | None, time_ms: int | None) -> None:
        """Write values, and with them the changelog offset and partition time where they are not None, at once."""

    def partition_time(self, partition: int) -> int | None:
        """The newest accepted event time, ms."""

    def scan(self, partition: int, after: bytes | None, count: int) -> list[tuple[bytes, bytes]]:
        """The next `count` users and values behind user `after`, in the order of the keys; None: from the first.

        Calls from None until fewer than `count` come see every user that is there all the while.
        """

    def users(self, partition: int) -> int:
        """How many users there are; on disk an estimate."""


class _Merge:
    """Changelog records of one partition, in order, on top of what is stored."""

    def __init__(self, tp: TP, records: Sequence[ConsumerRecord], stored: Callable[[list[bytes]], Sequence[Any]]):
        self.changes: dict[bytes, bytes | None] = {}
        self.stale: dict[bytes, bytes] = {}
        self.met: set[bytes] = set()
        self.newest: int | None = None
        keys = list({record.key for record in records})
        known = dict(zip(keys, stored(keys), strict=True))
        for record in records:
            key, value = record.key, record.value
            self.stale.pop(key, None)
            if value is None:
                self.changes[key] = known[key] = None
                continue
            before = known[key]
            try:
                time = newest_ms(value)
                if before is not None and is_stale(value, before):
                    self.stale[key] = before
                    self.met.add(key)
                    continue
            except TableValueError as error:
                raise TableValueError(f"{tp.topic}/{tp.partition} at offset {record.offset}: {error}") from error
            self.changes[key] = known[key] = value
            if time is not None and (self.newest is None or time > self.newest):
                self.newest = time


class _Bulk:
    """Recovery in bulk; the stores below add where things are kept."""

    stale: defaultdict[int, dict[bytes, bytes]]
    met: defaultdict[int, set[bytes]]
    recovered: int

    read: Callable[[int, Sequence[bytes]], list[bytes | None]]
    write: Callable[[TP, Iterable[Change], int | None, int | None], None]
    partition_time: Callable[[int], int | None]

    def apply_changelog_batch(self, batch: Iterable[Any], to_key: Any, to_value: Any) -> None:
        """Take messages of Faust's recovery, each with all records of one fetch."""
        for event in batch:
            message = event.message
            tp, records = message.tp, message.value
            partition = tp.partition
            merge = _Merge(tp, records, lambda keys, p=partition: self.read(p, keys))  # type: ignore[misc]
            time = self.partition_time(partition)
            newest = merge.newest if time is None or (merge.newest is not None and merge.newest > time) else None
            stale = self.stale[partition]
            for key in merge.changes:
                stale.pop(key, None)
            stale.update(merge.stale)
            self.met[partition] |= merge.met
            # A stale record must be met again after a crash, until all that it may hide was written behind it.
            self.write(tp, merge.changes.items(), None if self.met[partition] else message.offset, newest)
            self.recovered += len(records)


class MemoryStore(_Bulk, base.Store[bytes, bytes]):
    """Values in dictionaries; after a restart all is read from the changelog again."""

    def __post_init__(self) -> None:
        self.stale = defaultdict(dict)
        self.met = defaultdict(set)
        self.recovered = 0
        self._values: defaultdict[int, dict[bytes, bytes]] = defaultdict(dict)
        self._offsets: dict[TP, int] = {}
        self._times: dict[int, int] = {}
        self._scanned: dict[int, list[bytes]] = {}  # keys in order, as they were when the pass began

    def read(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        values = self._values[partition]
        return [values.get(key) for key in keys]

    def write(self, tp: TP, changes: Iterable[Change], offset: int | None, time_ms: int | None) -> None:
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
        for tp in [tp for tp in self._offsets if tp not in assigned]:
            del self._offsets[tp]
            self._values.pop(tp.partition, None)
            self._times.pop(tp.partition, None)
            self._scanned.pop(tp.partition, None)
            self.stale.pop(tp.partition, None)
            self.met.pop(tp.partition, None)

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


class RocksStore(_Bulk, rocksdb.Store):
    """Values in one RocksDB for each partition; a restart reads only the tail of the changelog."""

    _own_keys = frozenset({rocksdb.Store.offset_key, _TIME_KEY})

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.stale = defaultdict(dict)
        self.met = defaultdict(set)
        self.recovered = 0
        super().__init__(*args, **kwargs)

    def read(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        get = self._db_for_partition(partition).get
        return [get(key) for key in keys]

    def write(self, tp: TP, changes: Iterable[Change], offset: int | None, time_ms: int | None) -> None:
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in changes:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        if offset is not None:
            batch.put(self.offset_key, str(offset).encode())
        if time_ms is not None:
            batch.put(_TIME_KEY, _time.pack(time_ms))
        self._db_for_partition(tp.partition).write(batch)

    def partition_time(self, partition: int) -> int | None:
        found = self._db_for_partition(partition).get(_TIME_KEY)
        return None if found is None else int(_time.unpack(found)[0])

    def scan(self, partition: int, after: bytes | None, count: int) -> list[tuple[bytes, bytes]]:
        at = self._db_for_partition(partition).iter()
        at.seek(b"" if after is None else after)
        found: list[tuple[bytes, bytes]] = []
        while at.valid() and len(found) < count:
            key = at.key()
            if key != after and key not in self._own_keys:
                found.append((key, at.value()))
            at.next()
        at.status()  # an iterator that cannot read just ends; here is why
        return found

    def users(self, partition: int) -> int:
        keys: int = self._db_for_partition(partition).property_int_value("rocksdb.estimate-num-keys") or 0
        return max(0, keys - len(self._own_keys))
