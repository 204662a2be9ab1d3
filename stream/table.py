"""The sequence table: Faust's, with its changelog, assignment, standby and recovery, but read and written in bulk."""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, cast

import faust
from faust.types import TP
from mode import get_logger

from stream.ending import EXIT_RECOVERY, end
from stream.errors import TopicError
from stream.producer import Entry, Producer, Sent
from stream.store import BulkStore, Change
from stream.transport import BatchSchema

log = get_logger(__name__)

#: Offsets of the changelog between records of ours: the first, and where it ends.
Gap = tuple[int, int]

# RocksDB, for each partition: Faust's defaults allow 2 GiB of cache and 192 MiB of write buffers.
ROCKSDB_OPTIONS = {
    "block_cache_size": 32 << 20,
    "block_cache_compressed_size": 0,
    "write_buffer_size": 16 << 20,
    "max_write_buffer_number": 2,
    "target_file_size_base": 16 << 20,
    "max_open_files": 256,
}


class SequenceTable(faust.Table[bytes, bytes]):
    """User id to table value (stream.value), both bytes."""

    def __init__(self, app: Any, **kwargs: Any) -> None:
        kwargs.setdefault("schema", BatchSchema())
        # In fetches. With 1, Faust would resume a partition after its recovery.
        kwargs.setdefault("recovery_buffer_size", 2)
        kwargs.setdefault("options", dict(ROCKSDB_OPTIONS))
        super().__init__(app, key_type=bytes, value_type=bytes, **kwargs)
        #: Users whose updates may be stale too, by partition: a stale changelog record of theirs was met. Whoever
        #: publishes their updates again takes them out afterwards; until then a crash brings them back.
        self.healed: dict[int, list[bytes]] = {}
        self._ends: dict[int, int] = {}  # of each partition: behind the last record that was read, or is ours
        self._gaps: defaultdict[int, list[Gap]] = defaultdict(list)
        self._others_warned: set[int] = set()

    @property
    def store(self) -> BulkStore:
        """The local copy."""
        return cast(BulkStore, self.data)

    def read(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of some users of a partition, None for who is not known."""
        return self.store.read(partition, keys)

    async def publish(self, partition: int, values: Iterable[Change], timestamp_ms: int) -> list[Sent]:
        """Hand values to the changelog; the futures are to be awaited before :meth:`write`."""
        producer = cast(Producer, self.app.producer)
        entries: Iterable[Entry] = ((key, value, []) for key, value in values)
        return await producer.send_batches(self.changelog_topic_name, partition, entries, timestamp_ms)

    def write(
        self,
        partition: int,
        values: Iterable[Change],
        acknowledged: Sequence[tuple[Any, int]],
        time_ms: int | None,
    ) -> list[Gap]:
        """Write values that the changelog has acknowledged, with partition time and changelog offset, at once.

        The changelog offset stays in front of what other writers wrote between our records, so that it is read again
        at the next recovery, until :meth:`complete_to` says that somebody looked.

        Args:
            partition: of table and changelog.
            values: by user; None where there is none any more.
            acknowledged: metadata and number of records of each record batch that holds them.
            time_ms: partition time.

        Returns:
            the gaps that nobody has looked at yet, in order.

        Raises:
            TopicError: the changelog has put them where there were records before.
        """
        tp = TP(self.changelog_topic_name, partition)
        last, gaps = self._end(tp), self._gaps[partition]
        for metadata, count in acknowledged:
            if metadata.offset < 0:
                continue  # sent twice, and the broker has forgotten where the first went: it lies in the next gap
            if metadata.offset < last:
                raise TopicError(
                    f"{tp.topic}/{partition}: expected offset {last} or more for what was written, got "
                    f"{metadata.offset}: the topic was made anew or has lost its end; start the worker again, local "
                    "state is then recovered"
                )
            if metadata.offset > last:
                gaps.append((last, metadata.offset))
            last = metadata.offset + count
        self._ends[partition] = last
        if gaps and partition not in self._others_warned:
            self._others_warned.add(partition)
            log.warning("%s/%d: another writer's records lie between ours", tp.topic, partition)
        self.store.write(tp, values, self._complete_offset(tp), time_ms)
        return list(gaps)

    def complete_to(self, partition: int, offset: int) -> None:
        """All gaps that end at `offset` or before were looked at: the copy holds what stands there."""
        tp = TP(self.changelog_topic_name, partition)
        self._gaps[partition] = [gap for gap in self._gaps[partition] if gap[1] > offset]
        self.store.write(tp, (), self._complete_offset(tp), None)

    def _end(self, tp: TP) -> int:
        have = self.persisted_offset(tp)
        return self._ends.get(tp.partition, 0 if have is None else have + 1)

    def _complete_offset(self, tp: TP) -> int | None:
        """The last offset up to which nothing is left to look at; None where that is not known, or nothing new."""
        if self.healed.get(tp.partition):
            return None
        gaps = self._gaps[tp.partition]
        last = (gaps[0][0] if gaps else self._end(tp)) - 1
        have = self.persisted_offset(tp)
        return last if last > (-1 if have is None else have) else None

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Take what recovery or standby has read."""
        try:
            super().apply_changelog_batch(batch)
        except Exception as error:  # noqa: BLE001  # whatever it is, the process ends
            _fail(error)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Note how far the copy is complete, and write again what a stale record hides from compaction."""
        await super().on_recovery_completed(active_tps, standby_tps)
        try:
            await self._complete(active_tps)
        except Exception as error:  # noqa: BLE001  # whatever it is, the process ends
            _fail(error)

    async def _complete(self, active_tps: set[TP]) -> None:
        self._others_warned.clear()
        self._ends.clear()
        self._gaps.clear()
        mine = {tp.partition for tp in active_tps}
        self.healed = {partition: keys for partition, keys in self.healed.items() if partition in mine}
        for tp in active_tps:
            read = cast(Any, self.app.tables).recovery.active_offsets.get(tp)
            self._ends[tp.partition] = max(self._end(tp), -1 if read is None else read + 1)
            acknowledged = []
            stale = self.store.stale.pop(tp.partition, {})
            if stale:
                log.warning("%s/%d: %d stale records are written again", tp.topic, tp.partition, len(stale))
                sent = await self.publish(tp.partition, stale.items(), int(time.time() * 1000))
                acknowledged = [(await future, count) for future, count in sent]
            met = self.store.met.pop(tp.partition, set())
            if met:
                self.healed[tp.partition] = sorted(met.union(self.healed.get(tp.partition, ())))
            self.write(tp.partition, (), acknowledged, None)


def _fail(error: Exception) -> NoReturn:
    """End the process: Faust's recovery would log the exception and go on without the records."""
    log.debug("recovery failed", exc_info=True)
    end(EXIT_RECOVERY, "recovery failed: %s: %s", type(error).__name__, error)
