"""Each record passes once and in order, and offsets are done in order: the consumer between fakes of aiokafka."""

import asyncio
import time
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NoReturn, TypeVar, cast
from unittest.mock import patch

import faust
import pytest
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import KafkaError
from faust.types import TP

from stream import consumer as module
from stream.consumer import WAITING_MAX, Consumer, Fetched, NotOwnerError
from stream.ending import EXIT_FAILURE, EXIT_ZOMBIE

T = TypeVar("T")

P0, P1, P2 = (TP("events", partition) for partition in range(3))
SESSION_S = 10.0
GENERATION = 4


class Ended(BaseException):
    """The worker has ended itself; `code` and the line."""

    def __init__(self, code: int, message: str, *arguments: object) -> None:
        super().__init__(message % arguments)
        self.code = code


class Client:
    """aiokafka's consumer and fetcher: positions, and what is fetched next, each partition up to a position."""

    def __init__(self, positions: Mapping[TP, int]) -> None:
        self.states = {tp: SimpleNamespace(_position=position) for tp, position in positions.items()}
        self.next: dict[TP, tuple[list[int], int]] = {}  # offsets of records, position afterwards
        self._closed = False
        self._records: dict[TP, Any] = {}
        assignment = SimpleNamespace(state_value=self.states.get)
        self._subscription = SimpleNamespace(
            subscription=SimpleNamespace(assignment=assignment), reassignment_in_progress=False
        )
        self._fetcher = self
        self._subscriptions = self

    @contextmanager
    def fetch_context(self) -> Iterator[None]:
        """As aiokafka's."""
        yield

    async def fetched_records(self, tps: set[TP], timeout: float) -> dict[TP, list[Any]]:  # noqa: ASYNC109  # aiokafka's
        """All that is fetched of these, without waiting."""
        assert timeout == 0
        found = {}
        for tp in tps & self.next.keys():
            offsets, position = self.next.pop(tp)
            self.states[tp]._position = position
            if offsets:
                found[tp] = [SimpleNamespace(offset=offset) for offset in offsets]
        return found


class Case:
    """A consumer that has begun its partitions at the positions."""

    def __init__(self, **positions: int) -> None:
        app = faust.App("app", broker="batchkafka://127.0.0.1:9", autodiscover=False, broker_session_timeout=SESSION_S)
        self.app = cast(Any, app)
        self.app.tables = SimpleNamespace(changelog_topics=set())
        self.app.consumer_generation_id = GENERATION
        self.app.rebalancing = False
        self.begun = {TP("events", int(name[1:])): offset for name, offset in positions.items()}
        self.client = Client(self.begun)
        self.sought: list[tuple[TP, int]] = []
        self.consumer = cast(Consumer, app.consumer)
        self.consumer._thread = cast(Any, self)
        self.consumer._active_partitions = set(self.begun)
        self.consumer._expected, self.consumer._begun = dict(self.begun), dict(self.begun)
        self.consumer._assigned = self.consumer._sought = True
        self.consumer.lease.renew()

    def _ensure_consumer(self) -> Client:
        return self.client

    def seek(self, tp: TP, offset: int) -> None:
        """As Faust's thread."""
        self.sought.append((tp, offset))
        self.client.states[tp]._position = offset

    def assignment(self) -> set[TP]:
        """As Faust's thread."""
        return set(self.begun)

    async def fetch(self, **found: tuple[list[int], int]) -> bool:
        """Fetch records of these offsets, and the position afterwards, of partitions `p0`, `p1` …"""
        self.client.next = {TP("events", int(name[1:])): at for name, at in found.items()}
        return await self.consumer._fetch()

    def committable(self) -> dict[TP, int]:
        """What a commit would commit."""
        return {
            tp: offset
            for tp in self.consumer._filter_tps_with_pending_acks()
            if (offset := self.consumer._new_offset(tp)) is not None
        }


@pytest.fixture(autouse=True)
def no_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that ends itself must not end the tests."""

    def end(code: int, message: str, *arguments: object) -> NoReturn:
        raise Ended(code, message, *arguments)

    monkeypatch.setattr(module, "end", end)


def run(test: Coroutine[Any, Any, T]) -> T:
    """Run the test's own coroutine in a loop; one that waits for ever is a failure."""
    return asyncio.run(asyncio.wait_for(test, 60))


def shown(batch: list[Fetched]) -> list[tuple[TP, int, int, list[int]]]:
    """Partition, start, end and offsets."""
    return [(one.tp, one.start, one.end, [record.offset for record in one.records]) for one in batch]


def test_all_that_waits() -> None:
    """A batch is all that waits, of all partitions, with where it starts and what comes next."""

    async def test() -> None:
        case = Case(p0=5, p1=0)
        await case.fetch(p0=([5, 6], 7), p1=([0], 1))
        assert [(P0, 5, 7, [5, 6]), (P1, 0, 1, [0])] == sorted(shown(await case.consumer.take(100)))

    run(test())


def test_no_more_than_asked_for() -> None:
    """Beyond so many records nothing more is taken; what waits longest goes first; fetches are not split."""

    async def test() -> None:
        case = Case(p0=0, p1=0)
        await case.fetch(p1=([0, 1, 2], 3))
        await case.fetch(p0=([0], 1))
        assert [P1] == [one.tp for one in await case.consumer.take(2)]
        assert [P0] == [one.tp for one in await case.consumer.take(2)]

    run(test())


def test_much_of_a_partition_waits() -> None:
    """A partition is not fetched while much of it waits: memory is bounded, whatever the backlog (L07)."""

    async def test() -> None:
        case = Case(p0=0, p1=0)
        await case.fetch(p0=([*range(WAITING_MAX - 1)], WAITING_MAX - 1))
        assert {P0, P1} == case.consumer._fetchable()
        await case.fetch(p0=([WAITING_MAX - 1], WAITING_MAX))
        assert {P1} == case.consumer._fetchable()
        assert not await case.fetch(p0=([WAITING_MAX], WAITING_MAX + 1))
        await case.consumer.take(1)
        assert {P0, P1} == case.consumer._fetchable()

    run(test())


def test_fetches_that_wait_are_one() -> None:
    """What comes behind what waits joins it, offsets without records too, and is done with it (R07)."""

    async def test() -> None:
        case = Case(p0=5)
        await case.fetch(p0=([5, 6], 7))
        await case.fetch(p0=([7], 8))
        await case.fetch(p0=([], 10))
        await case.fetch(p0=([10], 11))
        (fetched,) = await case.consumer.take(100)
        await case.fetch(p0=([], 13))
        assert ([5, 6, 7, 10], 5, 11) == ([r.offset for r in fetched.records], fetched.start, fetched.end)
        assert {} == case.committable()
        case.consumer.done([fetched])
        assert {P0: 13} == case.committable()

    run(test())


def test_collected_before_the_next_request() -> None:
    """What has arrived is taken over at once, so that the next request asks for all partitions; errors are left."""

    async def test() -> None:
        case = Case(p0=0, p1=0, p2=0)
        case.consumer.flow_active = True
        case.client.next = {P0: ([0], 1), P1: ([0, 1], 2), P2: ([0], 1)}
        case.client._records = {P0: a_result(), P1: a_result(), P2: object()}
        await case.consumer.collect()
        assert {P2} == set(case.client.next)
        assert [P0, P1] == sorted(one.tp for one in await case.consumer.take(100))

        case.consumer.flow_active = False
        case.client.next = {P0: ([1], 2)}
        await case.consumer.collect()
        assert {P0} == set(case.client.next)

    run(test())


def test_failure_of_collecting_is_raised_where_it_is_seen() -> None:
    """A fetch that cannot be read ends the loop that hands records over, not the client's own task unseen (R07)."""

    async def test() -> None:
        case = Case(p0=0)
        case.consumer.flow_active = True
        case.client._records = {P0: a_result()}

        async def broken(_tps: set[TP], **_options: int) -> None:
            await asyncio.sleep(0)
            raise KafkaError("CRC")

        with patch.object(case.client, "fetched_records", broken):
            await case.consumer.collect()
        with pytest.raises(KafkaError, match="CRC"):
            await case.fetch()

    run(test())


def a_result() -> FetchResult:
    """Something that aiokafka holds."""
    return FetchResult(P0, assignment=None, partition_records=None, backoff=0)


def test_take_waits() -> None:
    """Without records, and while a rebalance or a stop is on, there is nothing to take."""

    async def test() -> None:
        case = Case(p0=0)
        taking = asyncio.ensure_future(case.consumer.take(1))
        await asyncio.sleep(0)
        assert not taking.done()
        case.consumer._assigned = False
        case.consumer._waiting[P0] = Fetched(P0, [], 0, 1, GENERATION)
        case.consumer._arrived.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not taking.done()
        case.consumer._assigned = True
        case.consumer._arrived.set()
        assert [P0] == [one.tp for one in await taking]

    run(test())


def test_only_what_is_done_is_committed() -> None:
    """Fetched or taken is not done: the commit is the lowest unfinished offset of each partition (R08, P4)."""

    async def test() -> None:
        case = Case(p0=0, p1=0)
        await case.fetch(p0=([0, 1], 2), p1=([0], 1))
        first = await case.consumer.take(100)
        await case.fetch(p0=([2, 3, 4], 5))
        assert {} == case.committable()

        case.consumer.done(first)
        assert {P0: 2, P1: 1} == case.committable()
        assert {P0: 2, P1: 1} == case.consumer.positions

        second = await case.consumer.take(100)
        await case.fetch(p0=([5], 6))
        assert {P0: 2, P1: 1} == case.committable()
        case.consumer.done(second)
        assert {P0: 5, P1: 1} == case.committable()

    run(test())


def test_positions_before_anything_is_done() -> None:
    """A partition of which nothing is done yet is where it was begun."""
    assert {P0: 7, P1: 0} == Case(p0=7, p1=0).consumer.positions


def test_offsets_without_records() -> None:
    """Offsets 0, 1, 5, 6 and two markers behind: all between and behind is done with what was in hand (R06)."""

    async def test() -> None:
        case = Case(p0=0)
        await case.fetch(p0=([0, 1, 5, 6], 7))
        batch = await case.consumer.take(100)
        await case.fetch(p0=([], 9))
        assert {} == case.committable()
        case.consumer.done(batch)
        assert {P0: 9} == case.committable()

        await case.fetch(p0=([], 12))
        assert {P0: 12} == case.committable()

    run(test())


def test_markers_behind_records_that_wait() -> None:
    """What lies behind records that still wait is not done with those in hand (R08)."""

    async def test() -> None:
        case = Case(p0=0)
        await case.fetch(p0=([0], 1))
        batch = await case.consumer.take(1)
        await case.fetch(p0=([], 2))
        await case.fetch(p0=([2], 3))
        case.consumer.done(batch)
        assert {P0: 2} == case.committable()

    run(test())


def test_markers_between_two_batches_in_hand() -> None:
    """Offsets of the second batch are not done with the first, nor those between them before it (P4, R06)."""

    async def test() -> None:
        case = Case(p0=0)
        await case.fetch(p0=([0], 1))
        first = await case.consumer.take(1)
        await case.fetch(p0=([], 2))
        await case.fetch(p0=([2], 3))
        second = await case.consumer.take(1, asyncio.Future())
        await case.fetch(p0=([], 4))
        case.consumer.done(first)
        assert {P0: 1} == case.committable()
        case.consumer.done(second)
        assert {P0: 4} == case.committable()

    run(test())


def test_take_ahead() -> None:
    """While a batch is on its way the next is taken as it comes; none once that is done."""

    async def test() -> None:
        case = Case(p0=0)
        before: asyncio.Future[None] = asyncio.Future()
        taking = asyncio.ensure_future(case.consumer.take(1, before))
        await asyncio.sleep(0.01)
        await case.fetch(p0=([0], 1))
        assert [P0] == [one.tp for one in await taking]

        taking = asyncio.ensure_future(case.consumer.take(1, before))
        await asyncio.sleep(0.01)
        assert not taking.done()
        before.set_result(None)
        assert [] == await taking

    run(test())


def test_take_ahead_while_somebody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for what is in hand (a rebalance, the upkeep) waits for one batch, not for all that come (P4)."""

    async def test() -> None:
        case = Case(p0=0)
        monkeypatch.setattr(case.consumer, "commit", asyncio.Event().wait)
        await case.fetch(p0=([0], 1))
        before: asyncio.Future[None] = asyncio.Future()
        async with case.consumer.in_hand:
            waiting = asyncio.ensure_future(case.consumer.wait_empty())
            await asyncio.sleep(0.01)
            taking = asyncio.ensure_future(case.consumer.take(1, before))
            await asyncio.sleep(0.01)
            assert not taking.done()
            before.set_result(None)
            assert [] == await taking
        assert [P0] == [one.tp for one in await case.consumer.take(1)]
        waiting.cancel()

    run(test())


def test_pause_between_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """With events at hand the next request waits until the agent is free, or for a moment; without, not at all."""

    async def test() -> None:
        case = Case(p0=0)
        monkeypatch.setattr(module, "PAUSE_S", 3600)
        await case.consumer.pause()

        await case.fetch(p0=([0], 1))
        pausing = asyncio.ensure_future(case.consumer.pause())
        async with case.consumer.in_hand:
            await case.consumer.take(1)
            await asyncio.sleep(0.01)
            assert not pausing.done()
        await pausing

        async with case.consumer.in_hand:
            monkeypatch.setattr(module, "PAUSE_S", 0.001)
            await case.consumer.pause()

    run(test())


def test_a_gap_of_billions() -> None:
    """Committed 1, the next record at 2,288,752,002: nothing is kept for what lies between (R07)."""

    async def test() -> None:
        case = Case(p0=1)
        await case.fetch(p0=([2_288_752_002], 2_288_752_003))
        case.consumer.done(await case.consumer.take(1))
        assert {P0: 2_288_752_003} == case.committable()
        await case.consumer._add_gap(P0, 1, 2_288_752_002)
        assert not case.consumer._gap
        assert not case.consumer._acked

    run(test())


def test_a_position_that_was_moved() -> None:
    """Who moves the position in between: what is fetched there is not handed over, it is put back (R11)."""

    async def test() -> None:
        case = Case(p0=3)
        case.client.states[P0]._position = 5
        await case.fetch(p0=([5, 6], 7))
        assert [(P0, 3)] == case.sought
        assert not case.consumer._waiting

        await case.fetch(p0=([3, 4, 5, 6], 7))
        assert [(P0, 3, 7, [3, 4, 5, 6])] == shown(await case.consumer.take(1))

    run(test())


def test_offsets_gone_from_the_log() -> None:
    """Where the broker insists that the log starts later, it goes on from there, and the range is counted (R16)."""

    async def test() -> None:
        case = Case(p0=3)
        for _ in range(2):
            case.client.states[P0]._position = 10
            await case.fetch(p0=([10], 11))
        assert [(P0, 10, 11, [10])] == shown(await case.consumer.take(1))
        assert 7 == case.consumer.offsets_gone

    run(test())


def test_a_log_that_ends_before() -> None:
    """Where it insists that the log is shorter than what was done, the process ends: another topic has its name."""

    async def test() -> None:
        case = Case(p0=30)
        case.client.states[P0]._position = 0
        await case.fetch(p0=([0], 1))
        case.client.states[P0]._position = 0
        with pytest.raises(Ended, match=r"^events/0: the log ends before offset 30, .* goes on from 0") as ended:
            await case.fetch(p0=([0], 1))
        assert EXIT_FAILURE == ended.value.code

    run(test())


def test_nothing_is_fetched_in_a_rebalance() -> None:
    """Recovery resumes partitions before it seeks: what would be fetched there is not the committed offset (R11)."""

    async def test() -> None:
        case = Case(p0=0)
        case.consumer._assigned = False
        assert not await case.fetch(p0=([0], 1))
        assert not case.consumer._waiting

    run(test())


def test_partitions_not_sought_yet() -> None:
    """A partition that was just assigned hands nothing over until it was sought (R11)."""

    async def test() -> None:
        case = Case(p0=0)
        case.consumer._expected.clear()
        await case.fetch(p0=([0], 1))
        assert not case.consumer._waiting
        assert [] == case.sought

    run(test())


def test_revoked_records_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that wait when partitions are revoked are worked on by nobody here; nothing of them is done (R23)."""

    async def test() -> None:
        case = Case(p0=0, p1=0)
        committed: list[dict[TP, int]] = []

        async def commit() -> bool:
            committed.append(case.committable())
            return True

        async def revoke(_revoked: set[TP]) -> None:
            await case.consumer.wait_empty()

        monkeypatch.setattr(case.consumer, "commit", commit)
        monkeypatch.setattr(case.consumer, "_on_partitions_revoked", revoke)
        await case.fetch(p0=([0], 1))
        case.consumer.done(await case.consumer.take(1))
        await case.fetch(p0=([1], 2), p1=([0], 1))

        await case.consumer.on_partitions_revoked({P0, P1})

        assert [{P0: 1}] == committed
        assert not case.consumer._waiting
        assert {} == case.committable() == case.consumer.positions

    run(test())


def test_a_revocation_waits_for_the_batch_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Partitions are given away when the batch in hand is done, and its offsets are committed first (P4)."""

    async def test() -> None:
        case = Case(p0=0)
        committed: list[dict[TP, int]] = []

        async def commit() -> bool:
            committed.append(case.committable())
            return True

        monkeypatch.setattr(case.consumer, "commit", commit)
        await case.fetch(p0=([0], 1))
        batch = await case.consumer.take(1)
        async with case.consumer.in_hand:
            waiting = asyncio.ensure_future(case.consumer.wait_empty())
            await asyncio.sleep(0.01)
            assert [] == committed
            case.consumer.done(batch)
        await waiting
        assert [{P0: 1}] == committed

    run(test())


def test_a_stop_takes_no_further_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a stop on nothing is taken, whatever waits."""

    async def test() -> None:
        case = Case(p0=0)

        async def commit() -> bool:
            return True

        monkeypatch.setattr(case.consumer, "commit", commit)
        await case.fetch(p0=([0], 1))
        await case.consumer.drain()
        assert not case.consumer.is_settled()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(case.consumer.take(1), 0.01)

    run(test())


def test_the_owner_goes_on() -> None:
    """Of the same generation, with a lease: at once."""
    run(Case(p0=0).consumer.check_owner(GENERATION))


def test_another_generation_is_not_the_owner() -> None:
    """Once the group has moved on, a batch of before is dropped, though the lease holds (R23)."""

    async def test() -> None:
        case = Case(p0=0)
        case.app.consumer_generation_id = GENERATION + 1
        with pytest.raises(NotOwnerError, match="the group is at generation 5, no longer at 4"):
            await case.consumer.check_owner(GENERATION)

    run(test())


def test_no_heartbeat_in_a_rebalance() -> None:
    """Without a lease, and with a rebalance on, the partitions may be another's: the batch is dropped (R23)."""

    async def test() -> None:
        case = Case(p0=0)
        expire(case)
        case.consumer._assigned = False
        with pytest.raises(NotOwnerError, match=r"no heartbeat was answered in time, by \d+\.\d s"):
            await case.consumer.check_owner(GENERATION)

    run(test())


def test_a_heartbeat_that_is_missing() -> None:
    """Where only a heartbeat is missing, it waits for it: a broker that is away for long is no reason to drop."""

    async def test() -> None:
        case = Case(p0=0)
        expire(case)
        checking = asyncio.ensure_future(case.consumer.check_owner(GENERATION))
        await asyncio.sleep(0.12)
        assert not checking.done()
        case.consumer.lease.renew()
        await checking

    run(test())


def test_no_bytes_of_a_zombie() -> None:
    """Right before bytes leave, a lease that is over in a rebalance ends the process: they cannot be called back."""

    async def test() -> None:
        case = Case(p0=0)
        await case.consumer.lease_or_exit()
        expire(case)
        case.consumer._assigned = False
        with pytest.raises(Ended) as ended:
            await case.consumer.lease_or_exit()
        assert EXIT_ZOMBIE == ended.value.code

    run(test())


def expire(case: Case) -> None:
    """The last answered heartbeat was a session ago."""
    case.consumer.lease._from = time.monotonic() - SESSION_S


def test_lease_is_shorter_than_the_session() -> None:
    """The lease ends before the broker may give the partitions away, counted from when the heartbeat was sent."""
    lease = Case(p0=0).consumer.lease
    lease.renew(time.monotonic() - 1000)
    assert 0 < lease.left_s <= 0.8 * SESSION_S
    expire_at = time.monotonic() - 0.81 * SESSION_S
    lease._from = expire_at
    assert lease.left_s <= 0
