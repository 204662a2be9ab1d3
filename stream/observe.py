"""Looks twice a second at what the worker is about and how far its partitions are (stream.progress)."""

import asyncio
import time
from typing import TYPE_CHECKING, Any, cast

from mode import get_logger

from stream.consumer import Consumer
from stream.metrics import Totals
from stream.progress import Phase, Progress, Reached

if TYPE_CHECKING:
    from stream.worker import App

log = get_logger(__name__)

LOOK_S = 0.5
ANSWER_S = 5.0


async def tick(progress: Progress, totals: Totals) -> None:
    """Tell that the event loop lives, and how late it wakes, until the task is cancelled."""
    due = time.monotonic()
    while True:
        now = time.monotonic()
        progress.tick(now)
        totals.loop_lag.add(max(0.0, now - due))
        due = now + LOOK_S
        await asyncio.sleep(LOOK_S)


async def observe(app: "App", progress: Progress, totals: Totals) -> None:
    """Note the phase and the offsets, until the task is cancelled. A broker that does not answer is a stall."""
    while True:
        await asyncio.sleep(LOOK_S)
        phase = _phase(app)
        progress.enter(phase, time.monotonic())
        if phase is not Phase.STARTING:
            recovered = _recovered(app)
            progress.recover(recovered)
            totals.recovered = app.table.store.recovered
        if phase is Phase.RECOVERING:
            progress.reach(recovered, time.monotonic())
        elif phase is Phase.RUNNING:
            consumer = cast(Consumer, app.consumer)
            positions = consumer.positions
            try:
                ends = await asyncio.wait_for(consumer.ends(positions.keys()), ANSWER_S) if positions else {}
            except Exception as error:  # noqa: BLE001  # whatever it is: no news, which the watchdog counts
                log.debug("no end offsets: %r", error)
                continue
            reached = {(tp.topic, tp.partition): Reached(positions[tp], end) for tp, end in ends.items()}
            progress.reach(reached, time.monotonic())


def _phase(app: "App") -> Phase:
    if app.has_joined and not app.rebalancing and cast(Consumer, app.consumer).owns:
        return Phase.RUNNING
    if _recovery(app).in_recovery:
        return Phase.RECOVERING  # also the first one: a worker has joined, by Faust's word, when that is over
    return Phase.REBALANCING if app.has_joined else Phase.STARTING


def _recovered(app: "App") -> dict[tuple[str, int], Reached]:
    """How far the recovery of each partition is, or the last one was."""
    recovery = _recovery(app)
    read = recovery.active_offsets
    return {
        (tp.topic, tp.partition): Reached(_next(read.get(tp)), _next(last))
        for tp, last in recovery.active_highwaters.items()
    }


def _next(last: int | None) -> int:
    """Faust counts by the last offset; -1 or None: there is none."""
    return 0 if last is None else last + 1


def _recovery(app: "App") -> Any:
    return cast(Any, app.tables).recovery
