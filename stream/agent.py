"""The one agent: batch after batch, in eight steps whose order is the promise.

1. take all that waits, of all partitions (stream.consumer: each record once and in order);
2. decode and check; 3. load windows and apply the rules (stream.batch.prepare);
4. sort users into *advance* and *rerun*; 5. run the model (stream.encode), of a large batch part after part;
6. encode one update and one table value a user (stream.batch.finish);
7. check that the partitions are still ours; publish changelog, updates and dead letters, while the model runs over the
   next part; wait until all in-sync replicas have them;
8. check again; write the table; only then are the offsets done, for the next commit.

While a batch waits for its acknowledgements, the next one comes up to step 6, on the table as it will be then
(stream.unwritten); it is published when that is written, so that the promises know one batch at a time.

A batch whose partitions may be another worker's is dropped: they are recovered and read again. Any other failure ends
the process, and the batch is read again after a restart.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial, reduce
from itertools import zip_longest
from typing import Any, TypeVar, cast

from faust.types import TP
from mode import get_logger

from stream import batch, partitioning
from stream.batch import Counts, Message, Plan
from stream.consumer import Consumer, Fetched, NotOwnerError
from stream.encode import Encoded, Encoder
from stream.ending import EXIT_FAILURE, end
from stream.metrics import Totals
from stream.outbox import Outbox, Sending
from stream.partitioning import Placement
from stream.producer import Producer
from stream.settings import Settings
from stream.table import SequenceTable
from stream.unwritten import Unwritten
from stream.update import UpdateFormat
from stream.upkeep import Upkeep
from stream.window import Windows

log = get_logger(__name__)

T = TypeVar("T")

#: A call of the model that raises is tried again, so often and after so long.
MODEL_ATTEMPTS = 3
MODEL_RETRY_S = 0.5
UPKEEP_S = 1.0
#: A larger batch is encoded in parts of so many users, each while the one before is written out and published.
PART_USERS = 2_048
NAMED_MAX = 5

#: Steps 7 and 8 of a batch that is handed over; None: it was dropped.
Completion = asyncio.Task[bool | None]


@dataclass(slots=True)
class _Sent:
    """A batch that is handed over, not all of it acknowledged yet."""

    fetched: list[Fetched]
    plan: Plan
    encoded: list[Encoded] = field(default_factory=list)  # of each part
    sendings: list[Sending] = field(default_factory=list)  # of each part
    updates: int = 0


class BatchAgent:
    """Works on batches of one worker; `consumer` and `producer` are asked for when the app has started."""

    def __init__(
        self,
        settings: Settings,
        sources: dict[str, int],
        encoder: Encoder,
        table: SequenceTable,
        totals: Totals,
        consumer: Callable[[], Consumer],
        producer: Callable[[], Producer],
    ) -> None:
        self._settings = settings
        self._sources = sources
        self._encoder = encoder
        self._table = table
        self._consumer = consumer
        self._rules = settings.rules
        self._form = UpdateFormat(settings.update_format, settings.update_categories)
        self._generation = -1
        self._told: set[str] = set()
        # A thread of its own for the model: the loop has heartbeats to send, however long a call takes.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.totals = totals
        self._unwritten = Unwritten(table)
        self._outbox = Outbox(settings, table, producer)
        self._upkeep = Upkeep(
            settings, list(sources.values()), encoder, table, self._outbox, self.totals, self._run_model
        )

    async def run(self) -> None:
        """Work on batches until the task is cancelled."""
        consumer = self._consumer()
        while True:
            fetched = await self._take(consumer, None)
            async with consumer.in_hand:
                await self._work_on(consumer, fetched)

    async def _take(self, consumer: Consumer, before: Completion | None) -> list[Fetched]:
        began = time.monotonic()
        fetched = await consumer.take(self._settings.batch_max_events, before)
        self.totals.seconds["take"] += time.monotonic() - began
        return fetched

    async def _work_on(self, consumer: Consumer, fetched: list[Fetched]) -> None:
        """This batch, then those that come while the one before is on its way, with which they are dropped if it is."""
        before: Completion | None = None
        try:
            while fetched:
                what = f"batch ({', '.join(f'{f.tp.topic}/{f.tp.partition} from {f.start}' for f in fetched)})"
                sent = await self._or_drop(what, self._send(consumer, fetched, before))
                if sent is None:
                    break
                before = asyncio.create_task(self._or_drop(what, self._complete(consumer, sent)))
                fetched = await self._take(consumer, before)
            if before is not None:
                await before
        finally:
            if before is not None:
                before.cancel()

    async def tend(self) -> None:
        """Do the upkeep, a slice each second, until the task is cancelled."""
        while True:
            await asyncio.sleep(UPKEEP_S)
            await self.tend_once()

    async def tend_once(self) -> None:
        """Do a slice of the upkeep once no batch is in hand, if partitions are here to stay."""
        consumer = self._consumer()
        if not consumer.is_settled():
            return
        async with consumer.in_hand:
            if not consumer.is_settled():
                return
            self._gauge(consumer)
            await self._or_drop("upkeep", self._slice(consumer, consumer.app.consumer_generation_id))

    async def _slice(self, consumer: Consumer, generation: int) -> None:
        await self._begin(consumer, generation)
        await self._upkeep.mend(consumer, generation)
        if self._settings.sweep_users:
            await self._upkeep.sweep(consumer, generation)

    def _gauge(self, consumer: Consumer) -> None:
        """Note what is held now, for the metrics."""
        totals = self.totals
        totals.users = sum(map(self._table.store.users, {tp.partition for tp in consumer.positions}))
        totals.cached = len(self._encoder.cache)
        totals.offsets_gone = consumer.offsets_gone

    async def _or_drop(self, what: str, work: Coroutine[Any, Any, T]) -> T | None:
        """The outcome; None where the partitions may be another's. Any other failure ends the process."""
        try:
            return await work
        except NotOwnerError as error:
            # Recovery reads the tail of the changelog before these partitions go on, here or elsewhere.
            self.totals.dropped += 1
            log.warning("%s is dropped: %s", what, error)
            return None
        except Exception as error:
            log.debug("%s failed", what, exc_info=True)
            end(EXIT_FAILURE, "%s failed: %s: %s", what, type(error).__name__, error)

    async def _begin(self, consumer: Consumer, generation: int) -> None:
        """Once after each rebalance: note where the updates of our partitions end."""
        if generation == self._generation:
            return
        tps = [TP(self._settings.update_topic, p) for p in sorted({tp.partition for tp in consumer.positions})]
        ends = await consumer.ends(tps) if tps else {}
        self._outbox.begin({tp.partition: offset for tp, offset in ends.items()})
        self._generation = generation

    async def _send(self, consumer: Consumer, fetched: list[Fetched], before: Completion | None) -> _Sent:
        """Steps 2 to 7 but for the last wait; from the first publishing on, once the batch `before` is complete."""
        totals, generation = self.totals, fetched[0].generation
        if not consumer.owns or any(f.generation != generation for f in fetched):
            raise NotOwnerError("the partitions were given away before it was begun")
        await consumer.check_owner(generation)
        if before is None:
            await self._begin(consumer, generation)
        with totals.timed("prepare"):
            times = self._unwritten.partition_times({f.tp.partition for f in fetched})
            messages = [Message(f.tp.topic, f.tp.partition, f.records) for f in fetched]
            plan = batch.prepare(messages, self._sources, self._unwritten.read, times, self._rules)
        self._tell_former_sources(plan.applied.windows)
        self._count_placements(plan)

        parts = batch.split(plan, PART_USERS)
        sent = _Sent(fetched, plan)
        encoding = asyncio.create_task(self._encode(parts[0]))
        try:
            for part, following in zip_longest(parts, parts[1:]):
                with totals.timed("encode"):
                    sent.encoded.append(await encoding)
                    if following is not None:
                        encoding = asyncio.create_task(self._encode(following))
                    results = batch.finish(part, sent.encoded[-1], self._encoder, self._form)
                sent.updates += sum(len(result.updates) for result in results.values())
                if before is not None and not await before:
                    raise NotOwnerError("the batch before it was dropped")
                await consumer.check_owner(generation)
                with totals.timed("publish"):
                    sent.sendings.append(await self._outbox.send(results))
        finally:
            # The model must not be called twice at once.
            await asyncio.gather(encoding, return_exceptions=True)
        self._tell_unfit(plan.counts)
        self._unwritten.set(plan.results)
        return sent

    async def _complete(self, consumer: Consumer, sent: _Sent) -> bool:
        """The rest of step 7, and step 8."""
        totals = self.totals
        try:
            with totals.timed("publish"):
                acknowledged = await self._outbox.acknowledged(sent.sendings)
            await consumer.check_owner(sent.fetched[0].generation)
            with totals.timed("write"):
                for partition, result in sent.plan.results.items():
                    if result.values:
                        self._upkeep.gaps[partition] = self._table.write(
                            partition, result.values, acknowledged[partition], result.partition_time
                        )
        finally:
            self._unwritten.clear()
        consumer.done(sent.fetched)
        totals.add(sent.plan.counts, sent.encoded, sent.updates)
        totals.observe(sent.fetched, time.time() * 1000)
        return True

    async def _encode(self, plan: Plan) -> Encoded:
        """Run the model; a call that raises is tried again, and one that gives nothing fit while the model is ill.

        Where no vector is fit and the model still gives its golden vectors, these users' windows are what is amiss, and
        each goes without an update as one alone would.
        """
        for attempt in range(1, MODEL_ATTEMPTS + 1):
            try:
                encoded = await self._run_model(partial(batch.encode, plan, self._encoder))
                if len(encoded.fit) and not encoded.fit.any():
                    await self._run_model(self._encoder.verify)
                return encoded
            except Exception as error:
                if attempt == MODEL_ATTEMPTS:
                    raise
                self.totals.retries += 1
                log.warning("the model failed, it is tried again: %s: %s", type(error).__name__, error)
                self._encoder.cache.clear()
                await asyncio.sleep(MODEL_RETRY_S)
        raise AssertionError("unreachable")

    async def _run_model(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _count_placements(self, plan: Plan) -> None:
        """Count by which partitioner new users came to their partitions; more than one on a topic is warned of."""
        placements, partitions = self.totals.placements, cast(int, self._table.partitions)
        for partition, keys in plan.new.items():
            if keys:
                found = partitioning.place(keys, partition, partitions)
                placements[partition] = placements.get(partition, Placement()).plus(found)
        total = reduce(Placement.plus, placements.values(), Placement())
        if total.kinds > 1:
            self._tell_once(
                "mixed partitioners: of the new users %d are where murmur2 (Java's) puts them, %d where CRC32 "
                "(librdkafka's) does, %d where neither does. A user whose events come from two of them lies on two "
                "partitions, with half a window on each: give all publishers the same (librdkafka: "
                "partitioner=murmur2_random), see the README",
                total.murmur2,
                total.crc32,
                total.neither,
            )

    def _tell_former_sources(self, windows: Windows) -> None:
        if windows.others:
            self._tell_once(
                "users have events of a topic that is not read now: one of INTEREST_EVENT_TOPICS was made anew, so its "
                "offsets start anew, or one was left out"
            )

    def _tell_once(self, message: str, *arguments: object) -> None:
        if message not in self._told:
            self._told.add(message)
            log.warning(message, *arguments)

    def _tell_unfit(self, counts: Counts) -> None:
        if counts.not_finite:
            named = ", ".join(key.decode(errors="replace") for key in counts.not_finite[:NAMED_MAX])
            log.error(
                "the model gave %d vectors that are not finite or not of unit length, no updates for: %s%s",
                len(counts.not_finite),
                named,
                ", …" if len(counts.not_finite) > NAMED_MAX else "",
            )
