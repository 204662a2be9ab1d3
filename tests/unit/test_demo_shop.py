"""The demo's traffic: its faults are as many as it says, and are what it says they are."""

from collections import Counter
from dataclasses import dataclass, field

import orjson

from models.simulator import Shop
from stream.contract import Reason
from stream.decode import decode
from stream.demo.shop import FAULTS_EVERY, FOLLOWED, LATE_MAX_MS, LATE_MIN_MS, Kind, Outgoing, Traffic

NOW_MS = 1_700_000_000_000


@dataclass
class Record:
    """A record as Kafka gives it back."""

    key: bytes | None
    value: bytes | None
    offset: int
    timestamp: int = NOW_MS + 5
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)


def records(count: int, users: int = 50, seed: int = 0, rate: float = 20.0) -> list[Outgoing]:
    """The first so many, a millisecond apart."""
    traffic = Traffic(Shop(), users=users, seed=seed, start_ms=NOW_MS, rate=rate)
    return [traffic.next(NOW_MS + number) for number in range(count)]


def test_shares() -> None:
    """Of 200 records 2 are late, 2 are sent twice and 1 is malformed; a short run has some of each."""
    assert Counter({Kind.PLAIN: 975, Kind.LATE: 10, Kind.REPEATED: 10, Kind.MALFORMED: 5}) == Counter(
        record.kind for record in records(5 * FAULTS_EVERY)
    )
    assert {Kind.LATE, Kind.REPEATED, Kind.MALFORMED} < {record.kind for record in records(FAULTS_EVERY // 2)}


def test_same_seed() -> None:
    """The same seed gives the same records; another one others."""
    assert records(300) == records(300)
    assert records(300) != records(300, seed=1)


def test_what_a_worker_makes_of_it() -> None:
    """Malformed records are refused for three reasons in turn, and no other is; keys and times are what they should."""
    sent = records(2000)
    refused = decode([Record(record.key, record.value, offset) for offset, record in enumerate(sent)]).refused
    assert [number for number, record in enumerate(sent) if record.kind is Kind.MALFORMED] == [
        letter.record.offset for letter in refused
    ]
    assert [letter.reason for letter in refused][:9] == [
        Reason.NOT_JSON,
        Reason.MISSING_FIELD,
        Reason.TIMESTAMP_TOO_OLD,
    ] * 3
    for number, record in enumerate(sent):
        if record.event is None:
            continue
        assert orjson.loads(record.value) == record.event
        assert record.key == record.event["user_id"].encode()
        behind_ms = NOW_MS + number - record.event["timestamp"]
        if record.kind is Kind.PLAIN:
            assert behind_ms == 0
        elif record.kind is Kind.LATE:
            assert LATE_MIN_MS <= behind_ms <= LATE_MAX_MS


def test_repeated() -> None:
    """What is sent twice is, byte for byte, an event that was sent shortly before."""
    sent = records(1000)
    again = [number for number, record in enumerate(sent) if record.kind is Kind.REPEATED]
    assert len(again) == 10
    for number in again:
        assert sent[number].value in [record.value for record in sent[max(0, number - 100) : number]]


def test_followed() -> None:
    """The followed shopper has about one event a second, all of them plain; alone in the shop, all of them."""
    theirs = [record for record in records(4000, rate=20.0) if record.key == FOLLOWED.encode()]
    assert 150 < len(theirs) < 250
    assert {Kind.PLAIN} == {record.kind for record in theirs}
    assert {(FOLLOWED.encode(), Kind.PLAIN)} == {(record.key, record.kind) for record in records(300, users=1)}
