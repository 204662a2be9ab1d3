"""How long updates stay away is what an onlooker would say."""

import pytest

from tests.faults.takeover import seconds_away


def flow(first: float, last: float) -> list[float]:
    """Updates every half second."""
    return [first + 0.5 * step for step in range(int(2 * (last - first)) + 1)]


@pytest.mark.parametrize(
    ("arrivals", "over", "away"),
    [
        (flow(5, 20), 10, 0),  # nothing happens
        ([*flow(5, 10), *flow(14.5, 20)], 10, 4.5),  # silence from the fault on
        ([*flow(5, 11), *flow(14.5, 20)], 10, 4.5),  # silence that begins a little later
        ([*flow(1, 5), *flow(8, 20)], 10, 0),  # silence of before
        ([*flow(5, 10), *flow(17, 20)], 16, 1),  # an outage until 16: counted from there
        ([*flow(5, 10), *flow(15, 20)], 16, 0),  # over before the outage was
        ([*flow(5, 10), *flow(14, 15)], 10, 10),  # and silent again, until now
        (flow(5, 10), 16, 4),  # a silence that goes on
    ],
)
def test_seconds_away(arrivals: list[float], over: float, away: float) -> None:
    """A fault at 10, over at `over`, looked at at 20: the last silence longer than a second counts to its end."""
    assert away == seconds_away(arrivals, 10, over, 20)
