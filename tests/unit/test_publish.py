"""The pace of publishing, by a clock of the test's own."""

import pytest

import stream.publish
from stream.eventfile import Record
from stream.publish import _paced


class Clock:
    """Time that passes only when slept, or when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that `publish` sees."""
    clock = Clock()
    monkeypatch.setattr(stream.publish, "time", clock)
    return clock


def lines(count: int) -> list[Record]:
    """Records whose content does not matter."""
    return [Record(line, b"", b"", None) for line in range(count)]


@pytest.mark.parametrize(("rate", "slices"), [(10.0, 100), (1000.0, 5), (50_000.0, 1)])
def test_pace(clock: Clock, rate: float, slices: int) -> None:
    """At a pace, records are due evenly; a fast one comes in slices of 20 ms."""
    times = [clock.now - 100 for part in _paced([lines(100)], rate) for _ in part[:1]]
    assert len(times) == slices
    step = 100 / slices / rate
    assert times == pytest.approx([step * number for number in range(slices)])


def test_without_a_pace_chunks_stay_whole(clock: Clock) -> None:
    """Nothing is cut, nothing waits."""
    chunks = [lines(3), lines(5)]
    assert list(_paced(chunks, None)) == chunks
    assert clock.now == 100


def test_a_pause_is_caught_up_by_a_second_at_most(clock: Clock) -> None:
    """After a minute without input the next records do not come as a burst of a minute's."""
    parts = _paced([lines(1), lines(100)], 10.0)
    next(parts)
    clock.now += 60
    times = [clock.now - 160 for _ in parts]
    assert sum(time <= 0 for time in times) == 11
    assert times[-1] == pytest.approx(8.9)
