"""What a worker is seen to be about, and how far its partitions are: Faust and the broker are the test's."""

import asyncio
import time
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.types import TP

from stream import observe
from stream.metrics import Totals
from stream.progress import Phase, Progress, Reached

P0 = TP("events", 0)
WAIT_S = 60.0


class Worker:
    """An app that has joined its group, with one partition at 5 of 9; `silent`: the broker does not answer."""

    def __init__(self) -> None:
        self.has_joined = True
        self.rebalancing = False
        recovery = SimpleNamespace(in_recovery=False, active_offsets={}, active_highwaters={})
        self.recovery: Any = recovery
        self.tables = SimpleNamespace(recovery=recovery)
        self.consumer = self
        self.owns = True
        self.positions = {P0: 5}
        self.answers: list[dict[TP, int] | Exception] = []
        self.asked = 0
        self.silent = False
        self.progress = Progress(0.0)
        self.totals = Totals()
        self.table = SimpleNamespace(store=SimpleNamespace(recovered=7))

    async def ends(self, tps: Iterable[TP]) -> dict[TP, int]:
        """The next answer, or 9 of each."""
        self.asked += 1
        if self.silent:
            await asyncio.Event().wait()
        answer = self.answers.pop(0) if self.answers else dict.fromkeys(tps, 9)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def watch(self, *steps: Callable[[], bool]) -> None:
        """Observe it until each step is true, one after the other."""

        async def watching() -> None:
            task = asyncio.ensure_future(observe.observe(cast(Any, self), self.progress, self.totals))
            try:
                async with asyncio.timeout(WAIT_S):
                    for true in steps:
                        while not true():
                            assert not task.done()
                            await asyncio.sleep(0.001)
            finally:
                task.cancel()

        asyncio.run(watching())

    def phase(self) -> Phase:
        """What it is seen to be about."""
        return self.progress.status(0.0, 60.0).phase


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A worker that is looked at a thousand times a second."""
    monkeypatch.setattr(observe, "LOOK_S", 0.001)
    return Worker()


def test_positions_and_ends(worker: Worker) -> None:
    """A running worker: each partition's position beside the end that the broker tells (P8)."""
    worker.watch(lambda: worker.progress.reached() == {("events", 0): Reached(5, 9)})

    assert Phase.RUNNING == worker.phase()


@pytest.mark.parametrize(
    ("joined", "rebalancing", "recovering", "phase"),
    [
        (False, False, False, Phase.STARTING),
        (False, True, False, Phase.STARTING),
        (False, True, True, Phase.RECOVERING),
        (True, True, False, Phase.REBALANCING),
        (True, True, True, Phase.RECOVERING),
        (True, False, False, Phase.RUNNING),
    ],
)
def test_phases(worker: Worker, joined: bool, rebalancing: bool, recovering: bool, phase: Phase) -> None:
    """What Faust is at, as a phase: a recovery is what a rebalance ends with, the first one too."""
    worker.has_joined, worker.rebalancing, worker.recovery.in_recovery = joined, rebalancing, recovering
    other = Phase.REBALANCING if phase is Phase.STARTING else Phase.STARTING
    worker.progress._phase = other

    worker.watch(lambda: worker.phase() is not other)

    assert phase == worker.phase()


def test_recovery_by_the_changelog(worker: Worker) -> None:
    """While it recovers, offsets are the changelog's: next to be read, and where it ends; none read yet is 0 (P8)."""
    worker.rebalancing = worker.recovery.in_recovery = True
    log0, log1, log2 = (TP("changelog", partition) for partition in range(3))
    worker.recovery.active_highwaters = {log0: 99, log1: 49, log2: -1}
    worker.recovery.active_offsets = {log0: 9, log1: None}

    worker.watch(lambda: bool(worker.progress.reached()))

    assert {
        ("changelog", 0): Reached(10, 100),
        ("changelog", 1): Reached(0, 50),
        ("changelog", 2): Reached(0, 0),
    } == worker.progress.reached()
    assert 0 == worker.asked
    assert worker.progress.reached() == worker.progress.recovered()
    assert 7 == worker.totals.recovered

    worker.rebalancing = worker.recovery.in_recovery = False
    worker.watch(lambda: worker.phase() is Phase.RUNNING and bool(worker.progress.reached()))
    assert {("events", 0)} == worker.progress.reached().keys()
    assert Reached(10, 100) == worker.progress.recovered()["changelog", 0]


def test_no_partitions(worker: Worker) -> None:
    """A worker without partitions asks nobody, and is well."""
    worker.positions = {}
    worker.watch(lambda: worker.progress._heard > 0)

    assert 0 == worker.asked
    assert {} == worker.progress.reached()


@pytest.mark.parametrize("error", [OSError("away"), KeyError("no leader"), TimeoutError()])
def test_the_broker_fails(worker: Worker, error: Exception) -> None:
    """An answer that fails is no news, whatever it was: the next one is, and the watchdog counts what lies between."""
    worker.answers = [{P0: 7}, error, error, {P0: 8}]
    worker.watch(
        lambda: worker.progress.reached() == {("events", 0): Reached(5, 7)},
        lambda: worker.progress.reached() == {("events", 0): Reached(5, 8)},
    )

    assert 4 <= worker.asked


def test_the_broker_is_silent(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that is never answered is given up, and asked again."""
    monkeypatch.setattr(observe, "ANSWER_S", 0.01)
    worker.silent = True
    worker.watch(lambda: worker.asked >= 3)

    assert {} == worker.progress.reached()


def test_tick() -> None:
    """The loop's own sign of life."""
    progress, totals = Progress(0.0), Totals()

    async def ticking() -> None:
        task = asyncio.ensure_future(observe.tick(progress, totals))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(ticking())

    assert progress._ticked > 0


def test_a_late_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """How late it wakes is counted: what blocks the loop shows, however little else does."""
    monkeypatch.setattr(observe, "LOOK_S", 0.001)
    progress, totals = Progress(0.0), Totals()

    async def blocking() -> None:
        task = asyncio.ensure_future(observe.tick(progress, totals))
        await asyncio.sleep(0)
        time.sleep(0.2)  # noqa: ASYNC251  # blocks the loop, which is the point
        await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(blocking())

    samples = {sample.labels.get("le", sample.name): sample.value for sample in totals.loop_lag.family("l", "").samples}
    assert 1 <= samples["+Inf"] - samples["0.1"]
