"""The sequence table: Faust's, with its changelog, assignment, standby and recovery, but read and written in bulk."""

import logging
import os
import time
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, cast

import faust
from faust.types import TP
from mode import get_logger

from stream.producer import Entry, Producer, Sent
from stream.store import BulkStore
from stream.transport import BatchSchema

log = get_logger(__name__)

EXIT_RECOVERY = 70

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
        self._others_warned: set[int] = set()

    @property
    def store(self) -> BulkStore:
        """The local copy."""
        return cast(BulkStore, self.data)

    def read(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of some users of a partition, None for who is not known."""
        return self.store.read(partition, keys)

    async def publish(self, partition: int, values: Iterable[tuple[bytes, bytes]], timestamp_ms: int) -> list[Sent]:
        """Hand values to the changelog; the futures are to be awaited before :meth:`write`."""
        producer = cast(Producer, self.app.producer)
        entries: Iterable[Entry] = ((key, value, []) for key, value in values)
        return await producer.send_batches(self.changelog_topic_name, partition, entries, timestamp_ms)

    def write(
        self,
        partition: int,
        values: Iterable[tuple[bytes, bytes]],
        acknowledged: Sequence[tuple[Any, int]],
        time_ms: int | None,
    ) -> None:
        """Write values that the changelog has acknowledged, with partition time and changelog offset, at once.

        Args:
            partition: of table and changelog.
            values: by user.
            acknowledged: metadata and number of records of each record batch that holds them.
            time_ms: partition time.
        """
        tp = TP(self.changelog_topic_name, partition)
        have = self.persisted_offset(tp)
        end = -1 if have is None else have
        gapless = True
        for metadata, count in acknowledged:
            gapless = gapless and metadata.offset == end + 1
            end = metadata.offset + count - 1
        if not gapless and partition not in self._others_warned:
            # The copy stays complete up to where it was, and the rest is read again at the next recovery.
            self._others_warned.add(partition)
            log.warning("%s/%d: another writer's records lie between ours", tp.topic, partition)
        self.store.write(tp, values, end if gapless and acknowledged else None, time_ms)

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Take what recovery or standby has read."""
        try:
            super().apply_changelog_batch(batch)
        except Exception as error:  # noqa: BLE001  # whatever it is, the process ends
            _end(error)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Note how far the copy is complete, and write again what a stale record hides from compaction."""
        await super().on_recovery_completed(active_tps, standby_tps)
        try:
            await self._complete(active_tps)
        except Exception as error:  # noqa: BLE001  # whatever it is, the process ends
            _end(error)

    async def _complete(self, active_tps: set[TP]) -> None:
        self._others_warned.clear()
        for tp in active_tps:
            end = cast(Any, self.app.tables).recovery.active_offsets.get(tp)
            have = self.persisted_offset(tp)
            if end is not None and end >= 0 and (have is None or have < end):
                self.data.set_persisted_offset(tp, end)
            stale = self.store.stale.pop(tp.partition, {})
            if stale:
                log.warning("%s/%d: %d stale records are written again", tp.topic, tp.partition, len(stale))
                sent = await self.publish(tp.partition, stale.items(), int(time.time() * 1000))
                self.write(tp.partition, (), [(await future, count) for future, count in sent], None)


def _end(error: Exception) -> NoReturn:
    """End the process: Faust's recovery would log the exception and go on without the records."""
    log.critical("recovery failed: %s: %s", type(error).__name__, error, exc_info=log.isEnabledFor(logging.DEBUG))
    logging.shutdown()
    os._exit(EXIT_RECOVERY)
