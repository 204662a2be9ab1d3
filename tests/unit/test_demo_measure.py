"""The demo's measures: percentiles, rates, and which events an update answers."""

from typing import Any

import pytest

from stream.demo.measure import RECENT_S, Awaited, Latencies, Measure, Rate, percentile
from stream.demo.shop import Kind, Outgoing
from stream.rules import Rules, Verdict

RULES = Rules(max_events=4, keep_events=2, max_age_ms=10**9, idle_ttl_ms=10**10)
BROKEN = Outgoing(Kind.MALFORMED, b"u", b"{", None)


def outgoing(time_ms: int, user: str = "u", event_id: str | None = None) -> Outgoing:
    """An event as it is published."""
    event: dict[str, Any] = {"user_id": user, "timestamp": time_ms, "event_id": event_id or f"{user}-{time_ms}"}
    return Outgoing(Kind.PLAIN, user.encode(), b"", event)


def publish(measure: Measure, time_ms: int, appended_ms: int, user: str = "u") -> Awaited:
    """Publish an event that is accepted, and let the broker acknowledge it."""
    awaited = measure.publish(outgoing(time_ms, user))
    assert awaited is not None
    measure.appended(awaited, appended_ms, 0.0)
    return awaited


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 0.5, None),
        ([7], 0.5, 7),
        ([7], 0.99, 7),
        ([1, 2, 3, 4], 0.5, 2),
        ([1, 2, 3, 4], 0.51, 3),
        (range(1, 101), 0.99, 99),
        (range(1, 101), 0.07, 7),
        (range(1, 102), 0.99, 100),
        ([1] * 99 + [500], 0.99, 1),
        ([1] * 98 + [500, 500], 0.99, 500),
    ],
)
def test_percentile(values: list[int], share: float, expected: int | None) -> None:
    """Nearest rank: the least value that at least the share reach or stay below."""
    assert expected == percentile({value: list(values).count(value) for value in values}, share)


def test_recent_latencies() -> None:
    """Old ones leave the recent, not the total."""
    latencies = Latencies()
    latencies.add(5, 100.0)
    latencies.add(5, 100.9)
    latencies.add(9, 101.0)
    assert latencies.recent(101.5) == {5: 2, 9: 1}
    assert latencies.recent(101.5 + RECENT_S) == {9: 1}
    assert latencies.recent(102.5 + RECENT_S) == {}
    assert latencies.total == {5: 2, 9: 1}


def test_rate() -> None:
    """Events a second over about the last five seconds; not what was before."""
    rate = Rate(0.0)
    assert rate(0.0, 0) == 0
    assert pytest.approx([rate(float(second), 10 * second) for second in range(1, 11)]) == [10.0] * 10
    assert pytest.approx([rate(float(second), 100) for second in range(11, 16)]) == [8.0, 6.0, 4.0, 2.0, 0.0]


def test_update_answers_an_event() -> None:
    """Latency lies between the broker's time of the event and its time of the update."""
    measure = Measure(RULES)
    publish(measure, 1000, 1003)
    assert measure.lag == 1
    assert measure.update("u", 1, 1000, 1010, 0.0)
    assert measure.lag == 0
    assert measure.latencies.total == {7: 1}
    assert {"u"} == measure.answered


def test_update_answers_all_up_to_its_version() -> None:
    """One update for a batch answers each of the user's events in it, and nobody else's."""
    measure = Measure(RULES)
    publish(measure, 1000, 1001)
    publish(measure, 1010, 1011)
    publish(measure, 1020, 1021)
    publish(measure, 1000, 1001, user="other")
    assert measure.update("u", 2, 1010, 1031, 0.0)
    assert measure.latencies.total == {30: 1, 20: 1}
    assert measure.lag == 2


def test_update_before_the_acknowledgement() -> None:
    """They travel on different connections; the latency counts once both are there."""
    measure = Measure(RULES)
    awaited = measure.publish(outgoing(1000))
    assert awaited is not None
    assert measure.update("u", 1, 1000, 1010, 0.0)
    assert measure.latencies.total == {}
    measure.appended(awaited, 1004, 0.0)
    assert measure.latencies.total == {6: 1}


def test_late_event() -> None:
    """It raises the version, not the newest time."""
    measure = Measure(RULES)
    publish(measure, 1000, 1001)
    publish(measure, 500, 1002)
    assert measure.update("u", 2, 1000, 1005, 0.0)
    assert measure.lag == 0


def test_no_answer_to_repeated_and_too_late() -> None:
    """An event that the window knows, or no longer reaches back to, waits for nothing."""
    measure = Measure(RULES)
    assert measure.publish(outgoing(10)) is not None
    assert measure.publish(outgoing(10)) is None
    for time_ms in (20, 30, 40, 50):
        assert measure.publish(outgoing(time_ms)) is not None
    assert measure.publish(outgoing(30, event_id="late")) is None
    assert measure.lag == 5
    assert measure.update("u", 5, 50, 60, 0.0)
    assert measure.lag == 0
    assert measure.verdicts == {Verdict.ACCEPTED: 5, Verdict.DUPLICATE: 1, Verdict.LATE: 1}


@pytest.mark.parametrize(
    ("user", "version", "newest_ms"),
    [("stranger", 1, 1000), ("u", 2, 1000), ("u", 0, 1000), ("u", 1, 999)],
    ids=["user", "version ahead", "version behind", "time"],
)
def test_what_cannot_be_matched(user: str, version: int, newest_ms: int) -> None:
    """An update of another user, version or time answers nothing and is counted apart."""
    measure = Measure(RULES)
    publish(measure, 1000, 1001)
    assert not measure.update(user, version, newest_ms, 1010, 0.0)
    assert (measure.lag, measure.unmatched, measure.updates) == (1, 1, 1)
    assert measure.latencies.total == {}


def test_update_seen_again() -> None:
    """After a crash updates may be published again; they count as updates and change nothing else."""
    measure = Measure(RULES)
    publish(measure, 1000, 1001)
    assert measure.update("u", 1, 1000, 1010, 0.0)
    assert not measure.update("u", 1, 1000, 1020, 0.0)
    assert measure.latencies.total == {9: 1}
    assert (measure.updates, measure.lag) == (2, 0)


def test_refused() -> None:
    """A malformed record waits for a letter; one that is written twice makes no lag of below zero."""
    measure = Measure(RULES)
    assert measure.publish(BROKEN) is None
    assert measure.lag == 1
    measure.letter("not_json")
    measure.letter("not_json")
    assert measure.lag == 0
    assert measure.refused == {"not_json": 2}
    assert measure.kinds == {Kind.MALFORMED: 1}
