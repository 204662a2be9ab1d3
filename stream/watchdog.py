"""Ends a worker that stands still, so that it is started anew: better than one that looks alive and does nothing."""

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from stream.ending import EXIT_STALL, end
from stream.progress import Phase, Progress

log = logging.getLogger("interest")

LOOK_S = 0.5


class Watchdog:
    """Looks at the progress every half second, in a thread: a blocked event loop cannot tell of itself.

    Args:
        progress: what is looked at.
        stall_s: after this a warning, once a stall.
        stall_exit_s: after this the process ends with EXIT_STALL.
        drain_s: the same while the worker is stopping.
        now: the monotonic clock, seconds.
        end: ends the process.
    """

    def __init__(
        self,
        progress: Progress,
        stall_s: float,
        stall_exit_s: float,
        drain_s: float,
        now: Callable[[], float] = time.monotonic,
        end: Callable[..., object] = end,
    ) -> None:
        self._progress = progress
        self._stall_s = stall_s
        self._stall_exit_s = stall_exit_s
        self._drain_s = drain_s
        self._now = now
        self._end = end
        self._told = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Warn of a stall, or end the process."""
        status = self._progress.status(self._now(), self._stall_s)
        if status.phase is Phase.DRAINING:
            if status.stalled_s > self._drain_s:
                self._end(EXIT_STALL, "could not stop in %g s; ends as it is, nothing is lost by that", self._drain_s)
            return
        if status.stalled_s > self._stall_exit_s:
            self._end(EXIT_STALL, "stalled: %s; ends, so that it is started anew", status.where)
        if status.stalled_s > self._stall_s and not self._told:
            log.warning("stalled: %s; not ready until it moves", status.where)
        self._told = status.stalled_s > self._stall_s
