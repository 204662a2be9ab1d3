"""What a worker knows of its own progress: how far each partition is, and for how long nothing has moved.

Written by the event loop, read by other threads. Times are seconds of a monotonic clock, passed in.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from operator import itemgetter

Partition = tuple[str, int]  # topic, partition


class Phase(StrEnum):
    """What a worker is about."""

    STARTING = "starting"
    REBALANCING = "rebalancing"
    RECOVERING = "recovering"
    RUNNING = "running"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a partition is."""

    done: int  # next offset to be worked on
    end: int  # the broker's end: the offset of the next record


@dataclass(frozen=True, slots=True)
class Status:
    """Whether a worker makes progress."""

    phase: Phase
    ready: bool
    stalled_s: float  # for so long nothing has moved that should have
    where: str  # what stands still, in one line
    started: bool  # it has been running once: joined, and whatever partitions it got recovered


JOINING = "joining the group"
_WAITING = {
    Phase.REBALANCING: "a rebalance is on",
    Phase.RECOVERING: "recovery stands still",
    Phase.DRAINING: "stopping",
}


class Progress:
    """Judged by offsets (P8): a worker is well while it moves, or has nothing to do."""

    def __init__(self, now: float, step: str = JOINING) -> None:
        self._lock = threading.Lock()
        self._phase = Phase.STARTING
        self._step = step  # of the start
        self._started = False
        self._changed = self._ticked = self._heard = now
        self._reached: dict[Partition, Reached] = {}
        self._since: dict[Partition, float] = {}  # since when each partition has not moved
        self._stood: dict[Partition, tuple[int, float]] = {}  # at which offset, and how long, before a rebalance
        self._recovered: dict[Partition, Reached] = {}

    def begin(self, step: str, now: float) -> None:
        """A step of the start begins, with a clock of its own."""
        with self._lock:
            self._step = step
            self._changed = self._ticked = self._heard = now

    def enter(self, phase: Phase, now: float) -> None:
        """A phase begins; nothing happens if it is on already, or the worker is stopping.

        A partition that stood still before a rebalance and is where it was afterwards has stood still all the time that
        the worker was running: rebalance after rebalance must not look like progress.
        """
        with self._lock:
            if self._phase not in (phase, Phase.DRAINING):
                if self._phase is Phase.RUNNING:
                    self._stood = {
                        p: (r.done, now - self._since[p]) for p, r in self._reached.items() if r.done < r.end
                    }
                self._phase = phase
                self._started |= phase is Phase.RUNNING
                self._changed = self._heard = now
                self._reached, self._since = {}, {}

    def tick(self, now: float) -> None:
        """The loop lives."""
        with self._lock:
            self._ticked = now

    def reach(self, partitions: Mapping[Partition, Reached], now: float) -> None:
        """How far all partitions are that the worker has, as just seen; others are forgotten."""
        with self._lock:
            self._heard = now
            since = {}
            for partition, reached in partitions.items():
                before = self._reached.get(partition)
                moved = before is None or before.done != reached.done
                idle = before is not None and before.done >= before.end
                since[partition] = now if moved or idle else self._since[partition]
                if before is None and self._stood.get(partition, (-1, 0.0))[0] == reached.done:
                    since[partition] -= self._stood[partition][1]
                if moved and self._phase is not Phase.DRAINING:
                    self._changed = now
            if self._reached.keys() != partitions.keys() and self._phase is not Phase.DRAINING:
                self._changed = now
            self._reached, self._since = dict(partitions), since

    def status(self, now: float, stall_s: float) -> Status:
        """How it stands; ready: it runs and has not stood still for `stall_s`."""
        with self._lock:
            stalled_s, where = self._stall(now)
            is_ready = self._phase is Phase.RUNNING and stalled_s < stall_s
            return Status(self._phase, is_ready, stalled_s, where, self._started)

    def recover(self, partitions: Mapping[Partition, Reached]) -> None:
        """How far this worker has read the changelog of each of its partitions; kept until the next recovery."""
        with self._lock:
            self._recovered = dict(partitions)

    def recovered(self) -> dict[Partition, Reached]:
        """How far each partition of the changelog is read, as last seen."""
        with self._lock:
            return dict(self._recovered)

    def recovery(self) -> str:
        """How far the recovery is, in one line: the partition with the most left, and the share of all that is read."""
        recovered = self.recovered()
        if not recovered:
            return "asking where the changelog ends"
        (topic, partition), last = max(recovered.items(), key=lambda item: item[1].end - item[1].done)
        done, end = (sum(numbers) for numbers in zip(*((r.done, r.end) for r in recovered.values()), strict=True))
        share = 100 * done // end if end else 100
        return f"{topic}/{partition} at {last.done:,} of {last.end:,} ({share} % of all)"

    def reached(self) -> dict[Partition, Reached]:
        """How far each partition is, as last seen."""
        with self._lock:
            return dict(self._reached)

    def _stall(self, now: float) -> tuple[float, str]:
        """The longest stall and what stands still; the lock is held."""
        ages = []
        if self._phase is Phase.RUNNING:
            last = [_at(p, r) for p, r in sorted(self._reached.items())]
            ages.append((now - self._heard, ", ".join(["no answer from the broker", *last[:1]])))
            behind = {p: r for p, r in self._reached.items() if r.done < r.end}
            ages += [(now - self._since[p], f"{_at(p, r)}, no progress") for p, r in behind.items()]
        else:
            open_ = [_at(p, r) for p, r in self._reached.items() if r.done < r.end]
            waiting = _WAITING.get(self._phase, self._step)
            ages.append((now - self._changed, ", ".join([waiting, *open_[:1]])))
        ages.append((now - self._ticked, "the event loop is blocked"))
        stalled_s, what = max(ages, key=itemgetter(0))  # of equals the first: before the loop runs nothing blocks it
        return stalled_s, f"{what} for {stalled_s:.0f} s"


def _at(partition: Partition, reached: Reached) -> str:
    return f"{partition[0]}/{partition[1]} at offset {reached.done}, end {reached.end}"
