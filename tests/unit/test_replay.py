"""Which dead letters are sent once more, and how a record is known through all attempts."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.commands import run
from stream.contract import Reason
from stream.deadletter import Letter, dead_letter, read_letter, replay_headers
from stream.decode import Refused
from stream.replay import Choice, Filter, Found, choose
from tests.functional.test_batch import Raw

KEY, VALUE = b"u1", b"hello"
Headers = Sequence[tuple[str, bytes | None]]


def letter_of(record: Raw, topic: str = "web", partition: int = 3) -> tuple[bytes | None, bytes | None, Headers]:
    """The letter that a worker writes of a record."""
    return dead_letter(Refused(record, Reason.NOT_JSON, "value: wrong"), topic, partition)


def test_a_letter_is_read_back() -> None:
    """Reason and place are those of the record; a record that was not replayed has attempt 0."""
    letter = read_letter(*letter_of(Raw(VALUE, KEY, 7)))
    assert letter is not None
    assert (0, "not_json", "web", 3) == letter[1:]
    assert letter.identity.startswith(b"web/3/7 ")


@given(
    key=st.none() | st.binary(max_size=8),
    value=st.none() | st.binary(max_size=8),
    headers=st.lists(st.tuples(st.sampled_from(["a", "interest-reason", "interest-x", "é"]), st.none() | st.binary())),
    attempts=st.integers(1, 4),
)
def test_replay_after_replay(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]], attempts: int
) -> None:
    """A record that is refused again and again keeps its identity; only the last attempt's header is there (K05)."""
    first = read_letter(*letter_of(Raw(value, key, 7, headers=headers)))
    assert first is not None
    record = Raw(value, key, 7, headers=headers)
    for attempt in range(1, attempts + 1):
        own = replay_headers(letter_of(record)[2], first.identity, attempt)
        assert [(name, data) for name, data in headers if not name.startswith("interest-")] == own[:-1]
        assert ("interest-replay", b"web/3/7 %d" % attempt) == own[-1]
        record = Raw(value, key, 100 + attempt, headers=own)
        again = read_letter(*letter_of(record))
        assert again is not None
        assert (first.identity, attempt) == (again.identity, again.attempt)


@pytest.mark.parametrize("source", [None, b"", b"web", b"web/1", b"we b/1/2", b"web/1/2/", b"\xff/1/2", b"web/-1/2"])
def test_no_letter_of_a_worker(source: bytes | None) -> None:
    """Without the source of the record that was refused, nothing can be sent to it."""
    assert read_letter(KEY, VALUE, [("interest-reason", b"empty"), ("interest-source", source)]) is None


@pytest.mark.parametrize("replay", [None, b"", b"1", b"web/3/7", b"web/3/7 x", b"web/3/7 -1", b"web/3/7 1 "])
def test_a_replay_header_of_somebody_else(replay: bytes | None) -> None:
    """What does not say where and how often it was sent counts as never sent."""
    letter = read_letter(*letter_of(Raw(VALUE, KEY, 9, headers=[("interest-replay", replay)])))
    assert letter is not None
    assert 0 == letter.attempt
    assert letter.identity.startswith(b"web/3/9 ")


def test_a_topic_made_anew() -> None:
    """The same offset of a topic that was deleted and made anew is another record, unless it is the same event."""
    letters = [read_letter(*letter_of(Raw(value, key, 7))) for value, key in ((b"a", b"b"), (b"b", b"a"), (b"a", b"b"))]
    identities = [letter.identity for letter in letters if letter is not None]
    assert identities[0] == identities[2]
    assert 2 == len(set(identities))


def letter(name: str, attempt: int = 0, reason: str = "not_json", topic: str = "web") -> Letter:
    """A letter of the record `name`."""
    return Letter(name.encode(), attempt, reason, topic, 0)


def found(*letters: Letter | None) -> list[Found]:
    """Letters as they lie on one partition, 10 ms apart."""
    return [Found((0, offset), 10 * offset, one) for offset, one in enumerate(letters)]


def sends(choice: Choice) -> list[int]:
    """The offsets of the letters to send."""
    return [offset for _, offset in choice.send]


def test_each_source_once() -> None:
    """A letter that is there twice is sent once, and one that was sent before is not."""
    choice = choose(found(letter("a"), letter("b"), letter("a"), None), {b"b": 1}, Filter())
    assert [0] == sends(choice)
    assert (1, 0, 1) == (choice.sent_before, choice.refused_again, choice.foreign)


def test_refused_again() -> None:
    """One that was refused again waits for --again, and its newest letter stands for all."""
    there = found(letter("a"), letter("a", 1), letter("b"), letter("a", 2), letter("a", 2))
    sent = {b"a": 2}
    assert ([2], 1) == (sends(choice := choose(there, sent, Filter())), choice.refused_again)
    assert [2, 3] == sends(choose(there, sent, Filter(), again=True))


def test_accepted_is_never_sent_again() -> None:
    """What was sent and did not come back was accepted, or waits: --again does not send it, which would count twice."""
    there = found(letter("a"), letter("b"), letter("b", 1))
    choice = choose(there, {b"a": 1, b"b": 2}, Filter(), again=True)
    assert ([], 2, 0) == (sends(choice), choice.sent_before, choice.refused_again)


def test_memory_lost() -> None:
    """Without the notes, a letter that says it was sent before is still known by its header."""
    assert ([1], 1) == (
        sends(choice := choose(found(letter("a", 1), letter("b")), {}, Filter())),
        choice.refused_again,
    )


def test_filters() -> None:
    """Reason, topic and time pick; what they leave is not counted as left out."""
    there = found(letter("a"), letter("b", reason="empty"), letter("c", topic="app"), letter("d"))
    assert [1] == sends(choose(there, {}, Filter(reason="empty")))
    assert [2] == sends(choose(there, {}, Filter(topic="app")))
    assert [1, 2] == sends(choose(there, {}, Filter(since_ms=10, until_ms=30)))
    assert 0 == choose(there, {b"a": 1}, Filter(reason="empty")).sent_before


def test_limit_takes_the_oldest() -> None:
    """The limit counts what is sent, the oldest letters first, on whatever partition they lie."""
    there = [Found((p, o), t, letter(f"{p}{o}")) for p, o, t in ((0, 0, 20), (0, 1, 40), (1, 0, 10), (1, 1, 30))]
    assert [(1, 0), (0, 0), (1, 1)] == list(choose(there, {}, Filter(), limit=3).send)


def test_only_to_event_topics() -> None:
    """A letter that says it came from the updates was written by no worker; nothing is ever sent there."""
    choice = choose(found(letter("a", topic="updates"), letter("b")), {}, Filter(), own=["updates"])
    assert ([1], 1) == (sends(choice), choice.foreign)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--since", "yesterday"], "wrong --since 'yesterday': expected RFC 3339 with an offset"),
        (["--until", "2025-11-25T12:00:00"], "wrong --until '2025-11-25T12:00:00': expected RFC 3339 with an offset"),
        (
            ["--since", "2025-11-25T12:00:00Z", "--until", "2025-11-25T12:00:00+01:00"],
            "expected --since before --until, got 2025-11-25T12:00:00Z and 2025-11-25T12:00:00+01:00",
        ),
    ],
)
def test_wrong_times(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A time without an offset, or none at all, is a wrong call, told before the broker is asked."""
    assert 2 == run(["deadletters", "replay", "--broker", "127.0.0.1:1", *arguments])
    assert capsys.readouterr().err.startswith(f"error: {told}")
