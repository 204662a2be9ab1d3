"""Who is asked for an update, how fast, and what is made of the answers."""

import json
from collections.abc import Iterator
from unittest.mock import patch
from uuid import UUID

import pytest

from stream import republish as module
from stream.commands import run
from stream.errors import InterestError, TopicError
from stream.republish import Republished, republish
from stream.settings import load
from stream.topics import TopicInfo
from tests.poison import Raw

OLD, NEW = "0" * 16, "f" * 16
SETTINGS = load({"broker": "127.0.0.1:1"})


def update(user: str, model: str | None, offset: int) -> Raw:
    """An update's record; a tombstone without a model."""
    value = None if model is None else json.dumps({"user_id": user, "model": model}).encode()
    return Raw(user.encode(), value, offset)


class Clock:
    """Time that passes by sleeping only."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let it pass."""
        self.now += seconds


@pytest.fixture
def clock() -> Iterator[Clock]:
    """In place of the machine's."""
    clock = Clock()
    with patch.object(module, "time", clock):
        yield clock


@pytest.mark.parametrize(
    ("keys", "rate", "at_least_s"), [(1000, 100, 9.9), (10, 1, 9), (3, 0.5, 4), (5000, 10_000, 0.4)]
)
def test_rate(keys: int, rate: float, at_least_s: float, clock: Clock) -> None:
    """At no time are more users asked for than the rate allows; none is left out."""
    ids = [str(number).encode() for number in range(keys)]
    asked: list[bytes] = []
    for some in module._slices(ids, rate):
        asked += some
        assert len(asked) <= clock.now * rate + max(1, rate * module.SLICE_S) + 1e-6
    assert ids == asked
    assert clock.now >= at_least_s


def test_stale_users() -> None:
    """The last update of a user counts; who is to be forgotten is not asked for; what names no model is, and what
    has no user's key is not."""
    records = [
        update("old", OLD, 0),
        update("renewed", OLD, 1),
        update("gone", OLD, 2),
        update("new", NEW, 3),
        update("renewed", NEW, 5),
        update("gone", None, 6),
        Raw(b"foreign", b"not JSON", 9),
        Raw(None, b"{}", 10),
        Raw(b"\xff", b"{}", 11),
    ]
    with patch.object(module, "read_all", return_value=iter(records)):
        assert ([b"old", b"foreign"], 4, 12) == module._stale(SETTINGS.cluster, topics()[SETTINGS.update_topic], 0, NEW)


def test_answers() -> None:
    """The last answer of each user who was asked for is what counts."""
    answers = [
        update("a", OLD, 10),
        update("a", NEW, 11),
        update("b", None, 12),
        update("c", OLD, 13),
        update("x", OLD, 14),
    ]
    done = Republished()
    with (
        patch.object(module, "read_range", return_value=answers),
        patch.object(module, "reach", return_value=({}, {(SETTINGS.update_topic, 0): 15})),
    ):
        module._count(
            SETTINGS.cluster, topics()[SETTINGS.update_topic], NEW, {0: {b"a", b"b", b"c", b"silent"}}, {0: 10}, done
        )
    assert (1, 1, 1, {OLD}) == (done.renewed, done.gone, done.unanswered, done.others)


def test_workers_that_do_not_come_on(clock: Clock) -> None:
    """Without any progress for a minute it ends, and says how much is left and what to do."""
    topic = topics()[SETTINGS.event_topics[0]]
    with (
        patch.object(module, "reach", return_value=({}, {(topic.name, 0): 10, (topic.name, 1): 5})),
        patch.object(module, "committed", return_value={(topic.name, 0): 7}),
        pytest.raises(InterestError, match="group interest have not moved for 60 s, 8 records of user-events are left"),
    ):
        module._wait(SETTINGS.cluster, SETTINGS.app_id, topic, lambda _line: None)
    assert 60 < clock.now < 62


def topics(events: int = 2, updates: int = 2) -> dict[str, TopicInfo]:
    """Both topics, of so many partitions."""
    counts = {SETTINGS.event_topics[0]: events, SETTINGS.update_topic: updates}
    return {name: TopicInfo(name, UUID(int=1), count, 1, {}) for name, count in counts.items()}


def test_topics_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing topic and different partition counts are refused before anything is sent."""
    monkeypatch.setattr(module, "committed", lambda *_: {})
    with patch.object(module, "describe", return_value={}), pytest.raises(TopicError, match="missing on"):
        republish(SETTINGS, NEW, 10)
    with (
        patch.object(module, "describe", return_value=topics(updates=3)),
        pytest.raises(TopicError, match="partition counts differ: user-events has 2, interest-updates 3"),
    ):
        republish(SETTINGS, NEW, 10)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "which model? give --model-version VERSION, or set INTEREST_MODEL"),
        (["--model-version", "v2"], "wrong --model-version 'v2': expected 16 hex digits"),
        (["--model-version", NEW, "--rate", "0"], "'--rate'"),
    ],
)
def test_wrong_calls(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong call is one line and code 2."""
    assert 2 == run(["republish", *arguments])
    assert line in capsys.readouterr().err
