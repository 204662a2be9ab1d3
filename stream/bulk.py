"""What the table asks of a local copy, and how changelog records get into one, in bulk.

A store also finds stale changelog records: a worker that lost its partitions without knowing may still write, and what
it wrote must not win.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, cast

from aiokafka import ConsumerRecord
from faust.types import TP

from stream.consumer import Consumer
from stream.errors import TableValueError
from stream.followed import fetched_from
from stream.value import is_stale, newest_of

Change = tuple[bytes, bytes | None]


class BulkStore(Protocol):
    """What the table asks of a store, besides what Faust does."""

    #: Users of each partition whose newest changelog record is stale, and the value that should stand there.
    stale: defaultdict[int, dict[bytes, bytes]]
    #: All users of each partition of whom a stale record was met, also where a newer one stands behind it.
    met: defaultdict[int, set[bytes]]
    #: Of each partition the first changelog offset that did not come while it was followed.
    passed_over: dict[int, int]
    #: Changelog records that were applied.
    recovered: int

    def read(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of some users, None for who is not known."""

    def write(
        self,
        tp: TP,
        changes: Iterable[Change],
        offset: int | None,
        time_ms: int | None,
        complete_ms: int | None = None,
    ) -> None:
        """Write values, and with them the changelog offset and partition time where they are not None, at once.

        With the offset goes the time up to which the copy holds all that the changelog does; None: now.
        """

    def partition_time(self, partition: int) -> int | None:
        """The newest accepted event time, ms."""

    def scan(self, partition: int, after: bytes | None, count: int) -> list[tuple[bytes, bytes]]:
        """The next `count` users and values behind user `after`, in the order of the keys; None: from the first.

        Calls from None until fewer than `count` come see every user that is there all the while.
        """

    def users(self, partition: int) -> int:
        """How many users there are; on disk an estimate."""

    def throw_away(self, tp: TP, reason: str) -> None:
        """Forget all of a partition, so that it is recovered whole; the reason is logged."""


class _Merge:
    """Changelog records of one partition, in order, on top of what is stored."""

    def __init__(self, tp: TP, records: Sequence[ConsumerRecord], stored: Callable[[list[bytes]], Sequence[Any]]):
        self.changes: dict[bytes, bytes | None] = {}
        self.stale: dict[bytes, bytes] = {}
        self.met: set[bytes] = set()
        self.newest: int | None = None
        times = _times(tp, records)
        keys = list({record.key for record in records})
        known = dict(zip(keys, stored(keys), strict=True))
        for record, time in zip(records, times, strict=True):
            key, value = record.key, record.value
            before = known[key]
            if before is not None or self.stale:
                self.stale.pop(key, None)
                if before is not None and value is not None and is_stale(value, before):
                    self.stale[key] = before
                    self.met.add(key)
                    continue
            self.changes[key] = known[key] = value
            if time is not None and (self.newest is None or time > self.newest):
                self.newest = time


def _times(tp: TP, records: Sequence[ConsumerRecord]) -> list[int | None]:
    """Time of the newest event of each record's value; None where there is none."""
    values = [record.value for record in records]
    try:
        if None not in values:
            return newest_of(values)
        newest = iter(newest_of([value for value in values if value is not None]))
        return [None if value is None else next(newest) for value in values]
    except TableValueError:
        for record in records:
            try:
                newest_of([record.value] if record.value is not None else [])
            except TableValueError as error:
                raise TableValueError(f"{tp.topic}/{tp.partition} at offset {record.offset}: {error}") from error
        raise


class Bulk:
    """Recovery in bulk; the stores (stream.store) add where things are kept."""

    stale: defaultdict[int, dict[bytes, bytes]]
    met: defaultdict[int, set[bytes]]
    passed_over: dict[int, int]
    recovered: int
    _read_to: dict[int, int]  # behind the last changelog record that was applied

    app: Any
    read: Callable[[int, Sequence[bytes]], list[bytes | None]]
    write: Callable[[TP, Iterable[Change], int | None, int | None, int | None], None]
    partition_time: Callable[[int], int | None]
    persisted_offset: Callable[[TP], int | None]

    def _begin(self) -> None:
        self.stale = defaultdict(dict)
        self.met = defaultdict(set)
        self.passed_over = {}
        self.recovered = 0
        self._read_to = {}

    def _forget(self, partition: int) -> None:
        for kept in (self.stale, self.met, self.passed_over, self._read_to):
            kept.pop(partition, None)

    def apply_changelog_batch(self, batch: Iterable[Any], to_key: Any, to_value: Any) -> None:
        """Take messages of Faust's recovery, each with all records of one fetch."""
        for event in batch:
            message = event.message
            tp, records = message.tp, message.value
            partition = tp.partition
            wanted, start = max(self._wanted(tp), self._begin_of(tp)), fetched_from(message)
            if wanted < start:
                raise TableValueError(
                    f"{tp.topic}/{partition}: expected what follows offset {wanted}, was handed what follows {start}: "
                    "what lies between is trimmed, or lost on its way; start the worker again"
                )
            if not records:  # only what nobody sees, as the markers of transactions
                self._read_to[partition] = message.offset + 1
                continue
            self._follow(tp, records[0].offset, message.offset)
            merge = _Merge(tp, records, lambda keys, p=partition: self.read(p, keys))  # type: ignore[misc]
            time = self.partition_time(partition)
            newest = merge.newest if time is None or (merge.newest is not None and merge.newest > time) else None
            stale = self.stale[partition]
            for key in merge.changes:
                stale.pop(key, None)
            stale.update(merge.stale)
            self.met[partition] |= merge.met
            # A stale record must be met again after a crash, until all that it may hide was written behind it.
            self.write(
                tp,
                merge.changes.items(),
                None if self.met[partition] else message.offset,
                newest,
                records[-1].timestamp,
            )
            self.recovered += len(records)

    def _begin_of(self, tp: TP) -> int:
        """Where the log of the partition began when this recovery did."""
        return cast(Consumer, self.app.consumer).begins.get(tp, 0)

    def _wanted(self, tp: TP) -> int:
        """The offset that the copy goes on from; -1 where there is none."""
        have = self.persisted_offset(tp)
        return max(self._read_to.get(tp.partition, -1), -1 if have is None else have + 1)

    def _follow(self, tp: TP, first: int, last: int) -> None:
        """Note whether these records go on where those before ended; nobody can tell here why they do not."""
        wanted = self._wanted(tp)
        if 0 <= wanted < first:
            self.passed_over.setdefault(tp.partition, wanted)
        self._read_to[tp.partition] = last + 1
