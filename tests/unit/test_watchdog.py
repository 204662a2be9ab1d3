"""A worker that stands still is warned of once, then ended; with a clock and an end of the test's own (P8)."""

import logging
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import pytest

from stream import watchdog
from stream.ending import EXIT_STALL
from stream.progress import Phase, Progress, Reached
from stream.watchdog import Watchdog


@dataclass
class Case:
    """A running worker under watch: warned of at 60 s, ended at 180 s, 25 s to stop."""

    now: float = 0.0
    ended: list[tuple[int, str]] = field(default_factory=list)
    progress: Progress = field(default_factory=lambda: Progress(0.0))

    def __post_init__(self) -> None:
        self.progress.enter(Phase.RUNNING, 0.0)
        self.watchdog = Watchdog(self.progress, 60.0, 180.0, 25.0, now=lambda: self.now, end=self.end)

    def end(self, code: int, message: str, *arguments: object) -> None:
        """In the place of the end."""
        self.ended.append((code, message % arguments))

    def look(self, now: float, done: int | None = None) -> None:
        """The watchdog looks; the loop lives, and the partition, if `done` is told, is there of 9."""
        self.now = now
        self.progress.tick(now)
        if done is not None:
            self.progress.reach({("events", 0): Reached(done, 9)}, now)
        self.watchdog.look()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was warned of."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_worker_that_moves_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """No line and no end while it moves, or has nothing to do."""
    case = Case()
    for second in range(1000):
        case.look(float(second), done=min(second, 9))

    assert [] == case.ended
    assert [] == warnings(caplog)


def test_one_warning_a_stall(caplog: pytest.LogCaptureFixture) -> None:
    """A stall is warned of once, with what stands still; after it has moved, the next one is again."""
    case = Case()
    for start, done in ((0, 4), (100, 5)):
        for second in range(start, start + 100):
            case.look(float(second), done=done)

    assert [
        "stalled: events/0 at offset 4, end 9, no progress for 61 s; not ready until it moves",
        "stalled: events/0 at offset 5, end 9, no progress for 61 s; not ready until it moves",
    ] == warnings(caplog)
    assert [] == case.ended


def test_a_stall_ends_the_process() -> None:
    """Longer than that, and the process ends with 73 and a line that names partition, position and age (P8)."""
    case = Case()
    for second in range(181):
        case.look(float(second), done=4)
    assert [] == case.ended
    case.look(181.0, done=4)

    assert [
        (73, "stalled: events/0 at offset 4, end 9, no progress for 181 s; ends, so that it is started anew")
    ] == case.ended
    assert 73 == EXIT_STALL


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.REBALANCING, Phase.RECOVERING])
def test_no_phase_may_last_for_ever(phase: Phase) -> None:
    """A start, a rebalance or a recovery that does not end is a stall too (P8)."""
    case = Case()
    case.progress.enter(phase, 0.0)
    if phase is Phase.STARTING:
        case.progress = Progress(0.0)
        case.watchdog = Watchdog(case.progress, 60.0, 180.0, 25.0, now=lambda: case.now, end=case.end)
    case.look(179.0)
    assert [] == case.ended
    case.look(181.0)

    assert [73] == [code for code, _ in case.ended]


def test_a_stop_that_does_not_end(caplog: pytest.LogCaptureFixture) -> None:
    """A stop has `drain_s`, however long the stall before it was; then the process ends as it is."""
    case = Case()
    case.look(0.0, done=4)
    case.look(100.0, done=4)
    caplog.clear()
    case.progress.enter(Phase.DRAINING, 100.0)
    case.look(124.0, done=5)
    assert [] == case.ended
    case.look(126.0, done=6)

    assert [(73, "could not stop in 25 s; ends as it is, nothing is lost by that")] == case.ended
    assert [] == warnings(caplog)


def test_it_looks_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread of its own, also while the loop's is blocked; leaving the block stops it."""
    monkeypatch.setattr(watchdog, "LOOK_S", 0.01)
    ended = threading.Event()
    progress = Progress(time.monotonic() - 500)
    with Watchdog(progress, 60.0, 180.0, 25.0, end=lambda *_: ended.set()):
        assert ended.wait(60)  # this thread waits; the watchdog is another's

    assert "watchdog" not in {thread.name for thread in threading.enumerate()}


def test_the_process_really_ends() -> None:
    """Unless told otherwise it ends with the code, whatever its other threads do."""
    code = (
        "import threading, time; from stream.progress import Progress; from stream.watchdog import Watchdog\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "Watchdog(Progress(time.monotonic() - 500), 60.0, 180.0, 25.0).look()"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert 73 == done.returncode
    assert "stalled: joining the group for 500 s" in done.stderr
