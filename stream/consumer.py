"""Faust's consumer, with fetched records handed over whole, and each record passing once and in order.

Faust passes record by record through conductor, channel and acknowledgements, at 50 µs or more each, and loses what was
fetched around a rebalance (it seeks while records are on their way). Here the records of event topics go past all that:

* they are fetched as they come, one :class:`Fetched` a partition, in the worker's own loop instead of Faust's thread;
* every fetch is compared with where the one before ended; whoever moved the position in between, it is put back;
* they wait here until the agent takes all that waits as one batch, and `done` says what may be committed.

Changelog records still go Faust's way, also as whole fetches, so that assignment, standby and recovery stay Faust's.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from aiokafka import ConsumerRecord
from aiokafka.cluster import ClusterMetadata
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import ConsumerStoppedError, KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import get_logger

from stream.ending import EXIT_FAILURE, EXIT_ZOMBIE, end
from stream.followed import changelog_message
from stream.inhand import InHand
from stream.inline import InlineConsumerThread, InlineWorker
from stream.lease import Lease

if TYPE_CHECKING:
    from stream.worker import App

log = get_logger(__name__)

POLL_S = 0.2
# Of a partition of which so many records wait, no more are taken from the client, which then asks for no more either.
WAITING_MAX = 1_000
# How long events may gather before they are asked for while a batch is in hand. A request for each event that comes
# meanwhile keeps worker and broker busy: with the pause, p99 at 10,000 events/s is a half to a third (26 for 60 ms).
PAUSE_S = 0.005


class NotOwnerError(Exception):
    """The partitions may belong to another worker by now: the batch must be dropped, not acknowledged."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """Records of one partition of an event topic: all that there is from offset `start` up to `end`, which is next."""

    tp: TP
    records: Sequence[ConsumerRecord]
    start: int
    end: int
    generation: int  # of the group when it was fetched


class Consumer(driver.Consumer):
    """One consumer for event topics and changelog."""

    _thread: InlineConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lease = Lease(self.app.conf.broker_session_timeout)
        #: Held while batches are worked on; whoever gives partitions away waits for it.
        self.in_hand = InHand()
        self.closing = False
        self._waiting: dict[TP, Fetched] = {}
        self._taken: dict[TP, int] = {}  # where those records end that the agent took last and has not done yet
        self._assigned = False  # partitions, since some were revoked
        self._assignments = 0  # and revocations, so far
        self._sought = False  # positions, since partitions were assigned
        self._passed: dict[TP, int] = {}  # where offsets without records end that lie behind those in hand
        self._arrived = asyncio.Event()
        self._failure: Exception | None = None  # of collect
        self._waiter: asyncio.Future[None] | None = None
        self._begun: dict[TP, int] = {}  # where each partition was begun since the last rebalance
        self._expected: dict[TP, int] = {}  # where the next fetch must start
        self._moved: dict[TP, tuple[int, int]] = {}  # expected and found, the last time they differed
        self._done: dict[TP, int] = {}  # up to where all is done, for the next commit
        #: Where logs began when that was last asked.
        self.begins: dict[TP, int] = {}
        #: Offsets that were gone from the log before they were read.
        self.offsets_gone = 0

    def _new_consumer_thread(self) -> InlineConsumerThread:
        return InlineConsumerThread(
            self, loop=self.loop, thread_loop=self.loop, Worker=InlineWorker, beacon=self.beacon
        )

    # -- for the agent

    async def take(self, at_least: int, before: "asyncio.Future[Any] | None" = None) -> list[Fetched]:
        """All that waits, the longest waiting first, until it holds `at_least` records; waits for the first.

        With a batch `before` it in hand: nothing once that is done, or while somebody waits for what is in hand.
        """
        if before is not None:
            before.add_done_callback(lambda _: self._arrived.set())
        while not self._waiting or self.closing or not self.owns or (before is not None and self.in_hand.wanted):
            if before is not None and before.done():
                return []
            self._arrived.clear()
            await self._arrived.wait()
        taken: list[Fetched] = []
        records = 0
        while self._waiting and records < at_least:
            fetched = self._waiting.pop(next(iter(self._waiting)))
            taken.append(fetched)
            self._taken[fetched.tp] = fetched.end
            self._passed.pop(fetched.tp, None)  # that lies in front of these
            records += len(fetched.records)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)  # there is room: fetch on
        return taken

    async def check_owner(self, generation: int) -> None:
        """Return while the lease holds; wait for it where only a heartbeat is missing.

        Raises:
            NotOwnerError: the group has moved on from `generation`, or is about to.
        """
        while True:
            current = self.app.consumer_generation_id
            if generation != current:
                raise NotOwnerError(f"the group is at generation {current}, no longer at {generation}")
            left_s = self.lease.left_s
            if left_s > 0:
                return
            if not self.owns or self.app.should_stop:
                raise NotOwnerError(f"no heartbeat was answered in time, by {-left_s:.1f} s")
            await asyncio.sleep(0.05)

    async def lease_or_exit(self) -> None:
        """The last look before bytes leave: a produce request that was handed over cannot be called back."""
        while self.lease.left_s <= 0:
            if not self.owns:
                end(
                    EXIT_ZOMBIE,
                    "partitions may be lost while records wait to be sent: ends rather than write as a zombie",
                )
            await asyncio.sleep(0.05)

    def done(self, batch: Iterable[Fetched]) -> None:
        """All that the batch called for is acknowledged and written: its offsets may be committed."""
        for fetched in batch:
            self._done[fetched.tp] = fetched.end
            if self._taken.get(fetched.tp) == fetched.end:
                del self._taken[fetched.tp]
                # What was passed over right behind it (transaction markers) is done with it.
                self._done[fetched.tp] = self._passed.pop(fetched.tp, fetched.end)

    @property
    def owns(self) -> bool:
        """Whether partitions were assigned, recovered and sought, and not revoked since.

        Faust's `app.rebalancing` does not tell: a recovery that ends while the next rebalance waits for the others of
        the group says that it is over. Batches would be taken from partitions that others are about to get, and, once
        such a batch was dropped, those behind it.
        """
        return self._assigned and self._sought

    @property
    def positions(self) -> dict[TP, int]:
        """The next offset to be worked on, of each event partition that is worked on here."""
        return {tp: self._done.get(tp, start) for tp, start in self._begun.items()}

    def is_settled(self) -> bool:
        """Whether partitions are here to stay for now: no rebalance, no recovery, no stop is on."""
        return self.owns and not (self.closing or self.app.rebalancing or self.app.should_stop)

    async def ends(self, tps: Collection[TP]) -> dict[TP, int]:
        """The broker's end of each partition: the offset of its next record, short of open transactions."""
        found = await self._thread._ensure_consumer().end_offsets(list(tps))
        return {TP(tp.topic, tp.partition): offset for tp, offset in found.items()}

    async def drain(self) -> None:
        """Take no further batch, finish the one in hand, commit."""
        self.closing = True
        await self.wait_empty()

    @property
    def cluster(self) -> ClusterMetadata:
        """What the client knows of topics and their partitions."""
        return self._thread._ensure_consumer()._client.cluster

    @property
    def subscribed(self) -> frozenset[str]:
        """The topics of the group: events and changelog."""
        return frozenset(self._thread._ensure_consumer().subscription())

    # -- fetching

    async def _drain_messages(self, fetcher: Any) -> None:
        """Faust's fetch loop, without a task, a timer and a future for each record."""
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                if not self.flow_active:
                    await self.wait(self.can_resume_flow.wait())
                elif not await self._fetch():
                    await self._wait_for_records()
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self.app.should_stop:
                raise
        except KafkaError as error:
            cast("App", self.app).end_if_refused(error)
            raise

    def _fetchable(self) -> set[TP]:
        """Event partitions only when they are ours (recovery resumes them before it seeks), and not much waits."""
        waiting = self._waiting
        return {
            tp
            for tp in self._get_active_partitions()
            if self._is_changelog_tp(tp)
            or (self.owns and (tp not in waiting or len(waiting[tp].records) < WAITING_MAX))
        }

    async def collect(self) -> None:
        """Take events that have just arrived, before the client asks the broker for more.

        Of partitions of which it still holds something it asks for nothing, and that until others have something: up
        to `FETCH_MAX_WAIT_MS`, at any rate of events.
        """
        held = self._thread._ensure_consumer()._fetcher._records
        wanted = {
            tp for tp in self._fetchable() if isinstance(held.get(tp), FetchResult) and not self._is_changelog_tp(tp)
        }
        if not (wanted and self.flow_active):
            return
        try:
            await self._take_over(wanted)
        except Exception as error:  # noqa: BLE001  # raised where the service looks after it
            self._failure = error

    async def pause(self) -> None:
        """Before the next fetch request, let events gather for a moment as long as those here keep the agent busy."""
        if self._waiting or self.in_hand.held:
            await self.in_hand.released(PAUSE_S)

    async def _fetch(self) -> bool:
        """Hand over what has arrived; False: nothing has."""
        if self._failure is not None:
            raise self._failure
        return await self._take_over(self._fetchable())

    async def _take_over(self, wanted: set[TP]) -> bool:
        consumer = self._thread._ensure_consumer()
        fetcher, subscriptions = consumer._fetcher, consumer._subscription
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        assigned = subscriptions.subscription and subscriptions.subscription.assignment
        if not wanted or assigned is None or subscriptions.reassignment_in_progress:
            return False
        states = {tp: state for tp in wanted if (state := assigned.state_value(tp)) is not None}
        before = {tp: state._position for tp, state in states.items()}
        with fetcher._subscriptions.fetch_context():
            # Without a timeout this does not wait, so no one moves a position between these lines.
            records = await fetcher.fetched_records(set(states), timeout=0)
        generation = self.app.consumer_generation_id
        changelog, astray = [], []
        # No await in this loop: a rebalance in between would leave it with positions of before.
        for tp, state in states.items():
            start, next_offset = before[tp], state._position
            if self._is_changelog_tp(tp):
                if next_offset is not None and next_offset != start:
                    changelog.append(changelog_message(tp, start or 0, records.get(tp, ()), next_offset, generation))
                continue
            # Without records the position may have gone past transaction markers, or aborted or compacted records.
            if start is None or next_offset is None or start == next_offset:
                continue
            if not self._in_order(tp, start):
                astray.append(tp)
                continue
            self._expected[tp] = next_offset
            if (behind := self._waiting.get(tp)) is not None and behind.generation == generation:
                waiting = [*behind.records, *records.get(tp, ())]
                self._waiting[tp] = Fetched(tp, waiting, behind.start, next_offset, generation)
            elif tp in records:
                self._waiting[tp] = Fetched(tp, records[tp], start, next_offset, generation)
                self._arrived.set()
            elif tp in self._taken:
                self._passed[tp] = next_offset
            else:
                self._done[tp] = next_offset
        for tp in astray:
            if (expected := self._expected.get(tp)) is not None:
                await self.seek(tp, expected)
        for message in changelog:
            await self.wait_first(self.callback(message), self.suspend_flow.wait())
        return bool(records)

    def _in_order(self, tp: TP, start: int) -> bool:
        """Whether a fetch that starts at `start` goes on where the last ended; else the position must be put back."""
        expected = self._expected.get(tp)
        if expected == start:
            return True
        if expected is None:
            return False  # not sought yet: found again after the seek
        if self._moved.get(tp) == (expected, start):  # the broker insists
            if start < expected:
                end(
                    EXIT_FAILURE,
                    "%s/%d: the log ends before offset %d, where this worker is, and goes on from %d: the topic was "
                    "made anew, or its log was lost; ends, to look at the topics afresh",
                    tp.topic,
                    tp.partition,
                    expected,
                    start,
                )
            log.warning("%s/%d: offsets %d to %d are gone from the log", tp.topic, tp.partition, expected, start - 1)
            self.offsets_gone += start - expected
            return True
        log.warning("%s/%d: fetched from %d, expected %d: seek back", tp.topic, tp.partition, start, expected)
        self._moved[tp] = (expected, start)
        return False

    async def _wait_for_records(self) -> None:
        fetcher = self._thread._ensure_consumer()._fetcher
        self._waiter = fetcher._create_fetch_waiter()
        try:
            await asyncio.wait([self._waiter], timeout=POLL_S if self._fetchable() else POLL_S / 10)
            if self._waiter.done() and not self._waiter.cancelled():
                self._waiter.result()  # authorization errors
        finally:
            self._waiter.cancel()
            self._waiter = None

    async def perform_seek(self) -> None:
        """Faust's, and partitions without a commit too, which it leaves where they are."""
        number = self._assignments
        self._waiting.clear()
        self._taken.clear()
        self._passed.clear()
        await super().perform_seek()
        mine = {tp for tp in self.assignment() if not self._is_changelog_tp(tp)}
        at = {tp: offset for tp in mine if (offset := self._read_offset[tp]) is not None}
        fresh = mine - at.keys()
        if fresh:
            at |= {TP(tp.topic, tp.partition): o or 0 for tp, o in (await self.earliest_offsets(*fresh)).items()}
            for tp in fresh:
                await self.seek(tp, at[tp])
        if number == self._assignments:
            self._expected, self._begun = dict(at), dict(at)
            # What scales workers by lag takes a partition that has no commit for one that lags by all it holds.
            self._done |= {tp: at[tp] for tp in fresh}
            self._moved.clear()
            self._sought = True

    # -- acknowledging and ownership

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in list(self._done) if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self._done.get(tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """No record of gaps: offsets are done in order."""

    def on_buffer_full(self, tp: TP) -> None:
        """No pressure on fetching: a partition is fetched when nothing of it waits."""

    def on_buffer_drop(self, tp: TP) -> None:
        """See on_buffer_full."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust would look for records in its streams, where ours never are."""

    async def wait_empty(self) -> None:
        """Finish the batch in hand and commit, before partitions are given away."""
        async with self.in_hand:
            pass
        await self.commit()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self._assigned = False
        self._assignments += 1
        self._waiting.clear()
        await super().on_partitions_revoked(revoked)  # calls wait_empty, with all that is done still known
        self._waiting.clear()
        self._taken.clear()
        self._passed.clear()
        self._expected.clear()
        self._begun.clear()
        self._done.clear()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._waiting.clear()
        self._assignments += 1
        self._assigned = True
        self._sought = all(map(self._is_changelog_tp, assigned))  # where there are none, nobody seeks
        self.lease.renew()
        await super().on_partitions_assigned(assigned, generation_id)
