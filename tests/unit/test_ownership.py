"""What is done, and what is ours, while batches, transaction markers, recoveries and rebalances cross each other."""

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import pytest
from faust.types import TP

from stream.consumer import Consumer, Fetched
from stream.inhand import InHand
from stream.lease import Lease

AT = TP("events", 0)


class Fetches:
    """A consumer between a client whose answers are told, and an agent that takes batches."""

    def __init__(self, start: int) -> None:
        app = SimpleNamespace(
            conf=SimpleNamespace(broker_session_timeout=10.0), consumer_generation_id=1, rebalancing=False
        )
        consumer = self.consumer = cast(Any, Consumer.__new__(Consumer))
        consumer.app = app
        consumer.in_hand = InHand()
        consumer.closing = False
        consumer._waiting, consumer._taken, consumer._passed = {}, {}, {}
        consumer._assigned, consumer._sought, consumer._assignments = True, True, 1
        consumer.lease = Lease(10.0)
        consumer._arrived, consumer._waiter, consumer._failure = asyncio.Event(), None, None
        consumer._begun, consumer._expected, consumer._moved, consumer._done = {AT: start}, {AT: start}, {}, {}
        consumer.offsets_gone = 0
        consumer._get_active_partitions = lambda: {AT}
        consumer._is_changelog_tp = lambda _tp: False
        self._state = SimpleNamespace(_position=start)
        self._answer: tuple[int, int] = (0, 0)
        fetcher = SimpleNamespace(
            _closed=False,
            _subscriptions=SimpleNamespace(fetch_context=lambda: _Nothing()),
            fetched_records=self._fetched_records,
        )
        assignment = SimpleNamespace(state_value=lambda _tp: self._state)
        client = SimpleNamespace(
            _closed=False,
            _fetcher=fetcher,
            _subscription=SimpleNamespace(
                subscription=SimpleNamespace(assignment=assignment), reassignment_in_progress=False
            ),
        )
        consumer._thread = SimpleNamespace(_ensure_consumer=lambda: client)
        consumer.assignment = lambda: {AT}
        consumer._read_offset = {AT: start}

    async def _fetched_records(self, _tps: set[TP], **_options: int) -> dict[TP, list[str]]:
        records, passed = self._answer
        self._state._position += records + passed
        return {AT: ["record"] * records} if records else {}

    def fetch(self, records: int, passed: int = 0) -> None:
        """The client has so many records, and passes over so many offsets behind them."""
        self._answer = (records, passed)
        asyncio.run(self.consumer._fetch())

    @staticmethod
    def run(callback: Coroutine[Any, Any, None]) -> None:
        """What Faust or its recovery calls, with what Faust's own consumer does left out."""

        async def nothing(*_arguments: object) -> None:
            await asyncio.sleep(0)

        names = ("on_partitions_revoked", "on_partitions_assigned", "perform_seek")
        with ExitStack() as without:
            for name in names:
                without.enter_context(patch.object(Consumer.__mro__[1], name, nothing))
            asyncio.run(callback)

    def take(self) -> list[Fetched]:
        """The agent takes what waits."""
        taken: list[Fetched] = asyncio.run(self.consumer.take(1000))
        return taken


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture
def fetches() -> Fetches:
    """At offset 10."""
    return Fetches(10)


def test_only_what_was_worked_on(fetches: Fetches) -> None:
    """Records that wait behind a batch are not done with it, also when a rebalance throws them away (P4, R08, R23)."""
    fetches.fetch(5)
    batch = fetches.take()
    fetches.fetch(7)
    fetches.consumer._waiting.clear()  # partitions are revoked, and the batch in hand is finished

    fetches.consumer.done(batch)

    assert 15 == fetches.consumer._new_offset(AT)


def test_markers_behind_a_batch(fetches: Fetches) -> None:
    """Transaction markers right behind the batch in hand are done with it; not the records behind them (R06)."""
    fetches.fetch(5)
    batch = fetches.take()
    fetches.fetch(0, passed=2)
    fetches.fetch(4)

    assert fetches.consumer._new_offset(AT) is None
    fetches.consumer.done(batch)
    assert 17 == fetches.consumer._new_offset(AT)
    fetches.consumer.done(fetches.take())
    assert 21 == fetches.consumer._new_offset(AT)


def test_markers_alone(fetches: Fetches) -> None:
    """Where nothing is in hand, offsets without records are done as they are passed (R06, R07)."""
    fetches.fetch(0, passed=2_000_000_000)

    assert 2_000_000_010 == fetches.consumer._new_offset(AT)


def test_recovery_that_ends_in_the_next_rebalance(fetches: Fetches) -> None:
    """Partitions are not ours again because a recovery ends while the next rebalance waits for the group: what would be
    taken then, and dropped, would be followed by what lies behind it (P3, P4; R11, R23)."""
    consumer = fetches.consumer
    assert consumer.owns

    fetches.run(consumer.on_partitions_revoked({AT}))
    assert not consumer.owns
    fetches.run(consumer.perform_seek())  # the recovery of the assignment before
    assert not consumer.owns
    fetches.run(consumer.on_partitions_assigned({AT}, 2))
    assert not consumer.owns
    fetches.run(consumer.perform_seek())
    assert consumer.owns


def test_revoked_while_it_seeks(fetches: Fetches) -> None:
    """A seek that ends after the partitions were revoked, or assigned anew, gives nothing back (R11)."""
    consumer = fetches.consumer

    async def seek_and(*callbacks: Coroutine[Any, Any, None]) -> None:
        seeking = asyncio.ensure_future(consumer.perform_seek())
        await asyncio.sleep(0)
        for callback in callbacks:
            await callback
        await seeking

    fetches.run(seek_and(consumer.on_partitions_revoked({AT})))
    assert not consumer.owns
    fetches.run(consumer.on_partitions_assigned({AT}, 2))
    fetches.run(seek_and(consumer.on_partitions_revoked({AT}), consumer.on_partitions_assigned({AT}, 3)))
    assert not consumer.owns


def test_no_partitions(fetches: Fetches) -> None:
    """A worker that gets no partitions of events is settled all the same: nobody seeks for it (P8)."""
    consumer = fetches.consumer

    fetches.run(consumer.on_partitions_revoked({AT}))
    fetches.run(consumer.on_partitions_assigned(set(), 2))

    assert consumer.owns
