"""Whether a worker makes progress, judged by its offsets, with a clock of the test's own (P8)."""

import pytest

from stream.progress import Partition, Phase, Progress, Reached

STALL_S = 60.0
EVENTS: Partition = ("events", 0)
OTHER: Partition = ("events", 1)


def running(now: float = 0.0) -> Progress:
    """A worker that runs since `now`."""
    progress = Progress(now)
    progress.enter(Phase.RUNNING, now)
    return progress


def look(progress: Progress, now: float, *, alive: bool = True, **reached: tuple[int, int]) -> tuple[float, str]:
    """For how long it stands still, and where, after the partitions `p0`, `p1` … were seen at done and end."""
    if alive:
        progress.tick(now)
    if reached:
        progress.reach({("events", int(name[1:])): Reached(*at) for name, at in reached.items()}, now)
    status = progress.status(now, STALL_S)
    return status.stalled_s, status.where


def test_starts_unready() -> None:
    """A worker that has not joined its group is not ready, and says what it waits for."""
    progress = Progress(0.0)
    progress.tick(7.0)

    status = progress.status(7.0, STALL_S)

    assert (Phase.STARTING, False, 7.0) == (status.phase, status.ready, status.stalled_s)
    assert "joining the group for 7 s" == status.where


def test_steps_of_the_start() -> None:
    """Each step before the group is joined has a clock of its own, and no loop yet that could be blocked."""
    progress = Progress(0.0, "loading the model")
    assert "loading the model for 50 s" == progress.status(50.0, STALL_S).where

    progress.begin("looking at the topics", 50.0)
    assert (2.0, "looking at the topics for 2 s") == look(progress, 52.0, alive=False)


def test_recovery_in_a_line() -> None:
    """The partition with the most left, and the share of all; a changelog without records is read."""
    progress = Progress(0.0)
    progress.recover({("log", 0): Reached(5, 5), ("log", 1): Reached(1_000, 4_000), ("log", 2): Reached(10, 2_000)})
    assert "log/1 at 1,000 of 4,000 (16 % of all)" == progress.recovery()

    progress.recover({("log", 0): Reached(0, 0)})
    assert "log/0 at 0 of 0 (100 % of all)" == progress.recovery()


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.REBALANCING, Phase.RECOVERING, Phase.DRAINING])
def test_only_a_running_worker_is_ready(phase: Phase) -> None:
    """Ready is who runs; whatever else a worker is about, events wait (P8)."""
    progress = Progress(0.0)
    progress.enter(phase, 1.0)

    assert not progress.status(1.0, STALL_S).ready
    assert running(1.0).status(1.0, STALL_S).ready


def test_phase_begins_anew() -> None:
    """Each phase has its own time; to enter the one that is on changes nothing."""
    progress = Progress(0.0)
    progress.enter(Phase.REBALANCING, 10.0)
    progress.enter(Phase.REBALANCING, 20.0)
    assert (15.0, "a rebalance is on for 15 s") == look(progress, 25.0)

    progress.enter(Phase.RECOVERING, 30.0)
    assert (1.0, "recovery stands still for 1 s") == look(progress, 31.0)


def test_a_partition_stands_still() -> None:
    """Events wait and none is done: a stall since the last one was, named by partition, offset and age (P8)."""
    progress = running()
    look(progress, 1.0, p0=(5, 9), p1=(3, 3))
    look(progress, 2.0, p0=(6, 9), p1=(3, 3))

    assert (58.0, "events/0 at offset 6, end 9, no progress for 58 s") == look(progress, 60.0, p0=(6, 9), p1=(3, 3))
    assert progress.status(60.0, STALL_S).ready
    look(progress, 62.0, p0=(6, 9), p1=(3, 3))
    assert not progress.status(62.0, STALL_S).ready


def test_others_do_not_hide_one_that_stands_still() -> None:
    """One partition that is stuck is a stall, however well the others go."""
    progress = running()
    for second in range(100):
        found = look(progress, float(second), p0=(5, 9), p1=(second, 200))

    assert (99.0, "events/0 at offset 5, end 9, no progress for 99 s") == found


def test_it_moves_again() -> None:
    """An offset that is done ends the stall; the next begins at zero."""
    progress = running()
    look(progress, 0.0, p0=(5, 9))
    assert look(progress, 80.0, p0=(5, 9))[0] == 80.0
    look(progress, 81.0, p0=(7, 9))

    assert look(progress, 84.0, p0=(7, 9))[0] == 3.0
    assert progress.status(84.0, STALL_S).ready


def test_nothing_to_do_is_no_stall() -> None:
    """A partition without events to work on is well for ever, and what comes then has all its time (P8)."""
    progress = running()
    look(progress, 0.0, p0=(9, 9))
    assert look(progress, 1000.0, p0=(9, 9))[0] == 0.0

    look(progress, 1001.0, p0=(9, 12))
    assert (5.0, "events/0 at offset 9, end 12, no progress for 5 s") == look(progress, 1006.0, p0=(9, 12))


def test_no_partitions() -> None:
    """A worker that got no partition has nothing to do and is ready."""
    progress = running()
    progress.reach({}, 500.0)
    progress.tick(500.0)

    assert progress.status(500.0, STALL_S).ready


def test_the_broker_does_not_answer() -> None:
    """Without news of the ends nobody knows what waits: a stall since the last answer."""
    progress = running()
    look(progress, 10.0, p0=(9, 9))

    assert (70.0, "no answer from the broker, events/0 at offset 9, end 9 for 70 s") == look(progress, 80.0)
    assert not progress.status(80.0, STALL_S).ready


def test_the_loop_is_blocked() -> None:
    """A loop that does not come round is a stall, though all else looked well a moment ago (R20)."""
    progress = running()
    look(progress, 10.0, p0=(9, 9))

    assert (61.0, "the event loop is blocked for 61 s") == look(progress, 71.0, alive=False, p0=(9, 9))


def test_recovery_stands_still() -> None:
    """Recovery is well while it reads, and a stall that names the partition when it does not (P8, R04)."""
    progress = Progress(0.0)
    progress.enter(Phase.RECOVERING, 0.0)
    for second in range(0, 200, 10):
        assert look(progress, float(second), p0=(second, 500), p1=(8, 8))[0] == 0.0

    assert (50.0, "recovery stands still, events/0 at offset 190, end 500 for 50 s") == look(
        progress, 240.0, p0=(190, 500), p1=(8, 8)
    )


def test_partitions_are_forgotten() -> None:
    """A partition that went to another worker is nobody's stall here; one that comes has all its time."""
    progress = running()
    look(progress, 0.0, p0=(5, 9))
    look(progress, 50.0, p0=(5, 9))
    look(progress, 51.0, p1=(1, 4))

    assert {OTHER: Reached(1, 4)} == progress.reached()
    assert (2.0, "events/1 at offset 1, end 4, no progress for 2 s") == look(progress, 53.0, p1=(1, 4))


def test_a_new_phase_forgets_offsets() -> None:
    """Recovery counts in the changelog, running in the events: one's offsets say nothing of the other's."""
    progress = Progress(0.0)
    progress.enter(Phase.RECOVERING, 0.0)
    look(progress, 0.0, p0=(5, 9))
    progress.enter(Phase.RUNNING, 100.0)

    assert {} == progress.reached()
    assert look(progress, 101.0, p0=(5, 9))[0] <= 1.0


def test_rebalances_are_no_progress() -> None:
    """Where rebalance follows rebalance and no event is ever done, the times in between add up to a stall (P8)."""
    progress = running()
    for start in range(0, 100, 10):
        look(progress, float(start), p0=(5, 9))
        found = look(progress, start + 8.0, p0=(5, 9))
        progress.enter(Phase.REBALANCING, start + 8.0)
        progress.enter(Phase.RUNNING, start + 10.0)

    assert (80.0, "events/0 at offset 5, end 9, no progress for 80 s") == found


def test_progress_over_a_rebalance() -> None:
    """A partition that stood still and has moved when it comes back begins anew; so does one that was done."""
    progress = running()
    look(progress, 0.0, p0=(5, 9), p1=(4, 4))
    look(progress, 50.0, p0=(5, 9), p1=(4, 4))
    progress.enter(Phase.REBALANCING, 50.0)
    progress.enter(Phase.RUNNING, 55.0)
    look(progress, 55.0, p0=(6, 9), p1=(4, 6))

    assert look(progress, 57.0, p0=(6, 9), p1=(4, 6))[0] == 2.0


def test_draining_is_the_last_phase() -> None:
    """A stop has its time from its beginning, whatever else still moves, and nothing leads out of it."""
    progress = running()
    look(progress, 5.0, p0=(5, 9))
    progress.enter(Phase.DRAINING, 10.0)
    progress.enter(Phase.RUNNING, 11.0)
    look(progress, 12.0, p0=(6, 9))
    stalled_s, where = look(progress, 30.0, p0=(8, 9))

    assert Phase.DRAINING == progress.status(30.0, STALL_S).phase
    assert 20.0 == stalled_s
    assert where.startswith("stopping")
    assert not progress.status(30.0, STALL_S).ready
