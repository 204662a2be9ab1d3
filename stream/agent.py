"""The one agent: batch after batch, in eight steps whose order is the promise.

1. take all that waits, of all partitions (stream.consumer: each record once and in order);
2. decode and check; 3. load windows and apply the rules (stream.batch.prepare);
4. sort users into *advance* and *rerun*; 5. run the model (stream.encode);
6. encode one update and one table value a user (stream.batch.finish);
7. check that the partitions are still ours; publish changelog, updates and dead letters; wait until all in-sync
   replicas have them;
8. check again; write the table; only then are the offsets done, for the next commit.

A batch whose partitions may be another worker's is dropped: they are recovered and read again. Any other failure ends
the process, and the batch is read again after a restart.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from stream import batch
from stream.batch import Counts, Message, PartitionResult
from stream.consumer import Consumer, Fetched, NotOwnerError
from stream.encode import Encoded, Encoder
from stream.producer import Entry, Producer, Sent
from stream.settings import Settings
from stream.table import SequenceTable
from stream.update import UpdateFormat
from stream.window import Windows

log = logging.getLogger("interest")

EXIT_FAILURE = 1
# A call of the model that may take longer leaves the loop, which has heartbeats to send.
INLINE_MAX_S = 0.05
NAMED_MAX = 5


class Totals:
    """Counters since the start."""

    def __init__(self) -> None:
        self.batches = self.records = self.accepted = self.updates = self.refused = 0
        self.late = self.duplicates = self.applied_before = self.not_finite = 0
        self.steps = self.advanced = self.reruns = 0

    def add(self, counts: Counts, encoded: Encoded, updates: int) -> None:
        """Count a batch that is done."""
        self.batches += 1
        self.records += counts.records
        self.accepted += counts.accepted
        self.updates += updates
        self.refused += counts.refused.total()
        self.late += counts.late
        self.duplicates += counts.duplicates
        self.applied_before += counts.applied_before
        self.not_finite += len(counts.not_finite)
        self.steps += encoded.steps
        self.advanced += encoded.advanced
        self.reruns += encoded.reruns


class BatchAgent:
    """Works on batches of one worker; `consumer` and `producer` are asked for when the app has started."""

    def __init__(
        self,
        settings: Settings,
        sources: dict[str, int],
        encoder: Encoder,
        table: SequenceTable,
        consumer: Callable[[], Consumer],
        producer: Callable[[], Producer],
    ) -> None:
        self._settings = settings
        self._sources = sources
        self._encoder = encoder
        self._table = table
        self._consumer = consumer
        self._producer = producer
        self._rules = settings.rules
        self._form = UpdateFormat(settings.update_format, settings.update_categories)
        self._letter_partitions = 0
        self._former_told = False
        self.totals = Totals()

    async def run(self) -> None:
        """Until the task is cancelled."""
        consumer = self._consumer()
        while True:
            fetched = await consumer.take(self._settings.batch_max_events)
            async with consumer.in_hand:
                try:
                    await self._work(consumer, fetched)
                except NotOwnerError as error:
                    # Recovery reads the tail of the changelog before these partitions go on, here or elsewhere.
                    log.warning("a batch of %d partitions is dropped: %s", len(fetched), error)
                except Exception as error:
                    where = ", ".join(f"{f.tp.topic}/{f.tp.partition} from {f.start}" for f in fetched)
                    log.critical("batch failed (%s): %s: %s", where, type(error).__name__, error, exc_info=True)
                    logging.shutdown()
                    os._exit(EXIT_FAILURE)

    async def _work(self, consumer: Consumer, fetched: list[Fetched]) -> None:
        await consumer.check_owner(fetched)
        partitions = {f.tp.partition for f in fetched}
        times = {p: time_ms for p in partitions if (time_ms := self._table.store.partition_time(p)) is not None}
        messages = [Message(f.tp.topic, f.tp.partition, f.records) for f in fetched]
        plan = batch.prepare(messages, self._sources, self._table.read, times, self._rules)
        self._tell_former_sources(plan.applied.windows)
        steps = self._encoder.steps_of(plan.applied.windows, plan.encode)
        if steps * self._encoder.seconds_a_step > INLINE_MAX_S:
            encoded = await asyncio.to_thread(batch.encode, plan, self._encoder)
        else:
            encoded = batch.encode(plan, self._encoder)
        results = batch.finish(plan, encoded, self._encoder, self._form)
        self._tell_unfit(plan.counts)

        await consumer.check_owner(fetched)
        changelog = await self._publish(results)

        await consumer.check_owner(fetched)
        for partition, result in results.items():
            if result.values:
                self._table.write(partition, result.values, changelog[partition], result.partition_time)
        consumer.done(fetched)
        self.totals.add(plan.counts, encoded, sum(len(result.updates) for result in results.values()))

    async def _publish(self, results: dict[int, PartitionResult]) -> dict[int, list[tuple[Any, int]]]:
        """Send all, then wait for all; the acknowledgements of the changelog's record batches, by partition."""
        settings, producer = self._settings, self._producer()
        now_ms = int(time.time() * 1000)
        changelog: dict[int, list[Sent]] = {}
        others: list[Sent] = []
        for partition, result in results.items():
            changelog[partition] = await self._table.publish(partition, result.values, now_ms)
            updates: Iterable[Entry] = ((key, value, []) for key, value in result.updates)
            others += await producer.send_batches(settings.update_topic, partition, updates, now_ms)
            if result.letters:
                at = partition % await self._count_letter_partitions()
                others += await producer.send_batches(settings.deadletter_topic, at, result.letters, now_ms, gzip=True)
        await asyncio.gather(*(future for future, _ in others), *(f for sent in changelog.values() for f, _ in sent))
        return {p: [(future.result(), count) for future, count in sent] for p, sent in changelog.items()}

    async def _count_letter_partitions(self) -> int:
        if not self._letter_partitions:
            producer = self._producer()._ensure_producer()
            self._letter_partitions = len(await producer.partitions_for(self._settings.deadletter_topic))
        return self._letter_partitions

    def _tell_former_sources(self, windows: Windows) -> None:
        if windows.others and not self._former_told:
            self._former_told = True
            log.warning(
                "users have events of a topic that is not read now: one of INTEREST_EVENT_TOPICS was made anew, so its "
                "offsets start anew, or one was left out"
            )

    def _tell_unfit(self, counts: Counts) -> None:
        if counts.not_finite:
            named = ", ".join(key.decode(errors="replace") for key in counts.not_finite[:NAMED_MAX])
            log.error(
                "the model gave %d vectors that are not finite or not of unit length, no updates for: %s%s",
                len(counts.not_finite),
                named,
                ", …" if len(counts.not_finite) > NAMED_MAX else "",
            )
