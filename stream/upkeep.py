"""What a worker does between batches: users idle for too long are forgotten, and what another writer left is mended."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import orjson
from aiokafka.errors import KafkaError
from faust.types import TP
from mode import get_logger

from stream.batch import renew
from stream.consume import read_range
from stream.consumer import Consumer
from stream.errors import TableValueError
from stream.outbox import Outbox
from stream.serving import Serving
from stream.settings import Settings
from stream.table import Gap, SequenceTable
from stream.update import UpdateFormat
from stream.value import is_stale, last_ms, unpack

log = get_logger(__name__)

Row = tuple[bytes, bytes]

#: Slices from one look at what lies behind our last records to the next.
LOOK_EVERY = 5
ANSWER_S = 2.0


class Upkeep:
    """One slice of each task at a time, while no batch is in hand. `run` runs a function on the model's thread."""

    def __init__(
        self,
        settings: Settings,
        sources: Sequence[int],
        serving: Serving,
        table: SequenceTable,
        outbox: Outbox,
        run: Callable[[Callable[[], Any]], Any],
    ) -> None:
        self._settings = settings
        self._sources = sources
        self._serving = serving
        self._table = table
        self._outbox = outbox
        self._totals = serving.totals
        self._run = run
        self._form = UpdateFormat(settings.update_format, settings.update_categories)
        self._after: dict[int, bytes] = {}  # where the sweep of each partition has come to
        self._slices = 0
        self.gaps: dict[int, list[Gap]] = {}  # between our records of the changelog, by partition

    # -- users idle for too long

    async def sweep(self, consumer: Consumer, generation: int) -> None:
        """Look at the next users of each partition; who has been idle for longer than `idle_ttl` is forgotten.

        Which users, rule 0 decides, by partition time; the sweep only publishes what follows. The tombstone for the
        consumers is acknowledged before the changelog's is sent: after a crash the user is still here to be swept.
        """
        partitions = sorted({tp.partition for tp in consumer.positions})
        for partition in partitions:
            rows = self._next(partition, max(1, self._settings.sweep_users // len(partitions)))
            keys = idle(rows, self._table.store.partition_time(partition), self._settings.rules.idle_ttl_ms)
            if not keys:
                continue
            tombstones = [(key, None) for key in keys]
            await consumer.check_owner(generation)
            await self._outbox.publish_updates(partition, tombstones)
            await self._outbox.publish_beside(partition, self._serving.beside(keys))
            await consumer.check_owner(generation)
            acknowledged = await self._outbox.publish_values(partition, tombstones)
            await consumer.check_owner(generation)
            self.gaps[partition] = self._table.write(partition, tombstones, acknowledged, None)
            self._serving.forget([(partition, key) for key in keys])
            self._totals.swept += len(keys)
            self._totals.updates += len(keys)

    def _next(self, partition: int, count: int) -> list[Row]:
        rows = self._table.store.scan(partition, self._after.get(partition), count)
        if len(rows) < count:
            self._after.pop(partition, None)  # once more from the first
        else:
            self._after[partition] = rows[-1][0]
        return rows

    # -- what another writer left

    async def mend(self, consumer: Consumer, generation: int) -> None:
        """Where records of a worker that had lost its partitions lie behind newer ones of ours, write ours again.

        Compaction keeps a user's last record, so a late one of such a worker would win. The changelog's topic keeps
        all records for an hour before it compacts them (`min.compaction.lag.ms`), which is the time that this has.
        """
        owned = sorted({tp.partition for tp in consumer.positions})
        if self._slices % LOOK_EVERY == 0 and owned:
            await self._look(consumer, owned)
        self._slices += 1
        wanted = self._table.healed.keys() | self._outbox.foreign.keys() | {p for p, gaps in self.gaps.items() if gaps}
        for partition in owned:
            if partition in wanted:
                await self._mend(consumer, generation, partition)

    async def _look(self, consumer: Consumer, partitions: Sequence[int]) -> None:
        """Note what another writer left behind our last records: who is idle would not meet it by writing."""
        updates, changelog = self._settings.update_topic, self._settings.changelog_topic
        try:
            asked = consumer.ends([TP(topic, partition) for topic in (updates, changelog) for partition in partitions])
            ends = await asyncio.wait_for(asked, ANSWER_S)
        except (KafkaError, TimeoutError) as error:
            log.debug("no ends of updates and changelog, they are looked at later: %r", error)
            return
        for tp, offset in ends.items():
            if tp.topic == updates:
                self._outbox.meet(tp.partition, offset)
            else:
                self.gaps[tp.partition] = self._table.meet(tp.partition, offset)

    async def _mend(self, consumer: Consumer, generation: int, partition: int) -> None:
        gaps, foreign = self.gaps.pop(partition, []), self._outbox.foreign.pop(partition, [])
        healed = self._table.healed.get(partition, [])
        found = await self._read(self._settings.changelog_topic, partition, gaps)
        stale = [
            (key, ours) for key, (ours, theirs) in self._beside(partition, found).items() if is_behind(theirs, ours)
        ]
        updates = await self._read(self._settings.update_topic, partition, foreign)
        old = [key for key, (ours, theirs) in self._beside(partition, updates).items() if is_older(theirs, ours)]
        if found or updates or healed:
            log.warning(
                "partition %d: another worker wrote %d table values and %d updates after it had lost the partition; "
                "%d and %d of them, older than ours, are written again",
                partition,
                len(found),
                len(updates),
                len(stale),
                len({*healed, *old}),
            )
        await consumer.check_owner(generation)
        keys = sorted({*healed, *old, *(key for key, _ in stale)})
        values = self._table.read(partition, keys)
        names = [(partition, key) for key in keys]
        renewed = await self._run(partial(renew, names, values, self._sources, self._serving.encoder, self._form))
        await consumer.check_owner(generation)
        await self._outbox.publish_updates(partition, [(key, value) for (_, key), value in renewed])
        await consumer.check_owner(generation)
        acknowledged = await self._outbox.publish_values(partition, stale)
        await consumer.check_owner(generation)
        self._table.healed.pop(partition, None)
        if gaps:
            self._table.complete_to(partition, gaps[-1][1])
        self.gaps[partition] = self._table.write(partition, (), acknowledged, None)
        self._totals.rewritten += len(keys)
        self._totals.updates += len(renewed)

    async def _read(self, topic: str, partition: int, ranges: Sequence[Gap]) -> dict[bytes, bytes | None]:
        """The last value of each key in some ranges of a partition."""
        last: dict[bytes, bytes | None] = {}
        for first, end in ranges:
            records = await asyncio.to_thread(read_range, self._settings.cluster, topic, partition, first, end)
            last |= {record.key: record.value for record in records}
        return last

    def _beside(
        self, partition: int, theirs: dict[bytes, bytes | None]
    ) -> dict[bytes, tuple[bytes | None, bytes | None]]:
        """Our table value, None of whom we do not hold (swept, perhaps), and theirs."""
        ours = self._table.read(partition, list(theirs))
        return {key: (mine, value) for (key, value), mine in zip(theirs.items(), ours, strict=True)}


def idle(rows: Sequence[Row], partition_time: int | None, idle_ttl_ms: int) -> list[bytes]:
    """Users whose newest event, or whose marker, is older than partition time - `idle_ttl_ms`, by rule 0.

    Raises:
        TableValueError: a value cannot be read; names the user.
    """
    if partition_time is None:
        return []
    oldest_alive = partition_time - idle_ttl_ms
    keys = []
    for key, value in rows:
        try:
            if last_ms(value) < oldest_alive:
                keys.append(key)
        except TableValueError as error:
            raise TableValueError(f"user {key.decode(errors='backslashreplace')!r} in the table: {error}") from error
    return keys


def is_behind(theirs: bytes | None, ours: bytes | None) -> bool:
    """Whether a changelog value is of less than ours is; a tombstone, or one that cannot be read, is.

    Of a user whom we do not hold (None) any value is: it would come back with the next recovery.
    """
    if ours is None:
        return theirs is not None
    try:
        return theirs is None or not unpack(theirs) or is_stale(theirs, ours)
    except TableValueError:
        return True


def is_older(theirs: bytes | None, ours: bytes | None) -> bool:
    """Whether an update stands behind our table value, by (timestamp, version); a tombstone behind any with events.

    Of a user whom we do not hold (None) any vector does.
    """
    if ours is None:
        return theirs is not None
    state = unpack(ours)
    if theirs is None or not len(state.events):
        return (theirs is None) == bool(len(state.events))
    try:
        update = orjson.loads(theirs)
        return bool((update["timestamp"], update["version"]) < (int(state.events["timestamp"][-1]), state.version))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return True  # no update of ours, whoever wrote it
