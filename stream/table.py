"""The sequence table: Faust's, with its changelog, assignment, standby and recovery, but read and written in bulk."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NoReturn, cast

import faust
from faust.types import TP
from mode import get_logger

from stream.bulk import BulkStore, Change
from stream.consumer import Consumer
from stream.ending import EXIT_RECOVERY, end
from stream.errors import BrokerError, TopicError
from stream.localstate import Changelog, judge_offset
from stream.producer import NO_HEADERS, Codec, Entry, Producer, Sent
from stream.transport import BatchSchema

log = get_logger(__name__)
report = logging.getLogger("interest")

#: Offsets of the changelog between records of ours: the first, and where it ends.
Gap = tuple[int, int]

# Values above this, on average, are compressed in the changelog: full windows to less than half (489 of 1,142 bytes a
# record, Taobao's events), at 4 µs a value. Short ones would cost the same share of an event's time and save less.
COMPRESSED_BYTES = 512

# RocksDB, for each partition; what all share is in stream.store.
ROCKSDB_OPTIONS = {
    "write_buffer_size": 16 << 20,
    "max_write_buffer_number": 2,
    "target_file_size_base": 16 << 20,
    "max_open_files": 256,
}


class SequenceTable(faust.Table[bytes, bytes]):
    """User id to table value (stream.value), both bytes.

    Local copies are judged against `changelog` before they are used (stream.localstate); without it all are trusted.
    """

    def __init__(self, app: Any, *, changelog: Changelog | None = None, **kwargs: Any) -> None:
        #: What is known of the changelog's topic.
        self.changelog = changelog
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
        self._has_joined = False
        self._reading = (time.monotonic(), 0)  # since when a changelog is read, and records applied until then
        self._behind: set[TP] = set()  # standby copies that have not caught up yet

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
        entries: list[Entry] = [(key, value, NO_HEADERS) for key, value in values]
        is_long = sum(len(value or b"") for _, value, _ in entries) > COMPRESSED_BYTES * len(entries)
        codec: Codec = "zstd" if is_long else "none"
        return await producer.send_batches(self.changelog_topic_name, partition, entries, timestamp_ms, codec)

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
        last = self._end(tp)
        for metadata, count in acknowledged:
            if metadata.offset < 0:
                continue  # sent twice, and the broker has forgotten where the first went: it lies in the next gap
            if metadata.offset < last:
                raise TopicError(
                    f"{tp.topic}/{partition}: expected offset {last} or more for what was written, got "
                    f"{metadata.offset}: the topic was made anew or has lost its end; start the worker again, local "
                    "state is then recovered"
                )
            self.meet(partition, metadata.offset)
            self._ends[partition] = last = metadata.offset + count
        self.store.write(tp, values, self._complete_offset(tp), time_ms)
        return list(self._gaps[partition])

    def meet(self, partition: int, end: int) -> list[Gap]:
        """The changelog ends at `end`, and nothing of ours is on its way: what lies behind our last is another's.

        Returns:
            the gaps that nobody has looked at yet, in order.
        """
        tp = TP(self.changelog_topic_name, partition)
        last, gaps = self._end(tp), self._gaps[partition]
        if end > last:
            gaps.append((last, end))
            self._ends[partition] = end
            if partition not in self._others_warned:
                self._others_warned.add(partition)
                log.warning("%s/%d: another writer's records lie behind ours", tp.topic, partition)
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
        if self._behind:
            recovery = cast(Any, self.app.tables).recovery
            reached, ends = recovery.standby_offsets, recovery.standby_highwaters
            if all((reached.get(tp) or 0) >= (ends.get(tp) or 0) for tp in self._behind):
                self._behind.clear()
                self._tell_read("standby copies have caught up")

    def _tell_read(self, what: str) -> None:
        """How much was read of the changelog since a rebalance or since this was last told, and how long it took."""
        since, before = self._reading
        self._reading = now, read = time.monotonic(), self.store.recovered
        if read > before:
            report.info("%s: %d records in %.2f s", what, read - before, now - since)

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """As Faust does, then judge all copies that are to be used from here on, before recovery asks where they are.

        Also those that were here before: the changelog may have been trimmed or made anew meanwhile.
        """
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)
        if self.changelog is None:
            return
        try:
            if self._has_joined:
                await self._look_again(self.changelog)
            await self._judge({tp for tp in assigned if tp.topic == self.changelog_topic_name})
        except Exception as error:  # noqa: BLE001  # whatever it is, the process ends
            _fail(error)
        self._has_joined = True
        self._behind.clear()
        self._reading = time.monotonic(), self.store.recovered

    async def _look_again(self, changelog: Changelog) -> None:
        try:
            await asyncio.to_thread(changelog.look_again)
        except BrokerError as error:
            log.warning("whether %s is still the same topic is not known: %s", changelog.topic, error)

    async def _judge(self, tps: Collection[TP]) -> None:
        """Throw away copies that do not fit where the changelog starts and ends."""
        have = {tp: offset for tp in tps if (offset := self.persisted_offset(tp)) is not None}
        if not have:
            return
        consumer = cast(Consumer, self.app.consumer)
        starts, ends = await consumer.earliest_offsets(*have), await consumer.ends(have)
        for tp, offset in have.items():
            reason = judge_offset(offset, self.store.passed_over.get(tp.partition), starts[tp], ends[tp])
            if reason is not None:
                self.store.throw_away(tp, reason)
                cast(Any, self.app.tables).recovery.revoke(tp)  # it remembers where the copy was

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Note how far the copy is complete, and write again what a stale record hides from compaction."""
        await super().on_recovery_completed(active_tps, standby_tps)
        self._tell_read("recovered")
        self._behind = set(standby_tps)
        try:
            await self._complete(active_tps)
        except Exception as error:  # noqa: BLE001  # whatever it is, the process ends
            _fail(error)

    async def _complete(self, active_tps: set[TP]) -> None:
        self._others_warned.clear()
        self._ends.clear()
        self._gaps.clear()
        mine = {tp.partition for tp in active_tps}
        await self._judge_again({tp for tp in active_tps if tp.partition in self.store.passed_over})
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
            have = self.persisted_offset(tp)
            if have is not None and not self.healed.get(tp.partition):
                self.store.write(tp, (), have, None)  # notes that it is complete by now

    async def _judge_again(self, tps: Collection[TP]) -> None:
        """End the process if the changelog was trimmed under the recovery that has just passed over offsets."""
        if self.changelog is None or not tps:
            return
        starts = await cast(Consumer, self.app.consumer).earliest_offsets(*tps)
        for tp in tps:
            missing = self.store.passed_over[tp.partition]
            if missing < starts[tp]:
                reason = f"{tp.topic}/{tp.partition} was trimmed from {missing} to {starts[tp]} while it was read"
                self.store.throw_away(tp, reason)
                end(EXIT_RECOVERY, "recovery failed: %s; start the worker again", reason)


def _fail(error: Exception) -> NoReturn:
    """End the process: Faust's recovery would log the exception and go on without the records."""
    log.debug("recovery failed", exc_info=True)
    end(EXIT_RECOVERY, "recovery failed: %s: %s", type(error).__name__, error)
