"""Everything that a topic may bring and nobody meant, between good events, through one real worker (P5)."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundles import random_bundle
from tests.faults.outcome import read, read_outcome
from tests.integration.conftest import Names
from tests.integration.sender import Keyed, send
from tests.integration.workers import Topics, Worker, create_topics
from tests.poison import NOW_MS, Maker
from tests.reference import Model, Rules

SEED = 4
CHANGED = 4_000
#: One of so many changed records is a good event.
EVERY = 5
ERA_MS = 36_500 * 86_400_000
#: A changed time may lie years from the others, and nobody is to be forgotten for that here.
RULES = Rules(idle_ttl_ms=ERA_MS)
PARTITIONS = 2
BAD_BYTES = (rb"\ud800", b"\xed\xa0\x80", b"\xff")

#: Case, key, value, and the code it is refused with; None: it is accepted.
Case = tuple[str, bytes | None, bytes | None, str | None]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model that knows some of the items."""
    return Model(
        random_bundle(
            tmp_path_factory.mktemp("poison") / "bundle",
            item_ids=[f"i{n}" for n in range(0, 50, 2)],
            item_categories=["phones", ""] * 12 + ["手机"],
        )
    )


def event(user: str, **fields: object) -> bytes:
    """A click with some fields changed."""
    made = {"user_id": user, "type": "click", "item_id": "i1", "timestamp": NOW_MS}
    return json.dumps(made | fields).encode()


def with_number(user: str, name: str, number: str) -> bytes:
    """A click with this text where the field's number stands."""
    return event(user, **{name: 0}).replace(f'"{name}": 0'.encode(), f'"{name}": {number}'.encode())


def cases() -> Iterator[Case]:
    """The kinds decode, identity and time of CASES.md, with users of their own."""
    for number, code in (("NaN", "not_json"), ("1e999", "out_of_range")):
        yield "D02", b"d02", with_number("d02", "price", number), code
    for number in ("18446744073709551616", "18446744073709551617"):
        yield "D03", number.encode(), event("XX").replace(b'"XX"', number.encode()), "wrong_type"
    for bad, code in zip(BAD_BYTES, ("not_json", "not_utf8", "not_utf8"), strict=True):
        yield "D05", bad, event("XX").replace(b"XX", bad), code
    yield "D07", b"a", event("a")[:-1] + b', "user_id": "b"}', "key_mismatch"
    yield "D08", b"d08", b"[" * 1_000_000, "too_large"
    yield "D08", b"d08", b'{"a":' * 10_000, "not_json"
    yield "D09, D12", b"d09", None, "empty"
    for value, code in (
        (b"\xef\xbb\xbf{}", "not_json"),
        (b"", "empty"),
        (b" \r\n", "empty"),
        (b"{}x", "not_json"),
        (b'{"a":1}{"b":2}', "not_json"),
        (b"null", "not_an_object"),
        (b"[]", "not_an_object"),
        (b"1", "not_an_object"),
        (b'"x"', "not_an_object"),
        (b"{}", "missing_field"),
    ):
        yield "D19", b"d19", value, code
    yield "D19", b"d19\0", event("d19\0"), "out_of_range"
    yield "K01", b"", event(""), "missing_key"
    yield "K01", None, event("k01"), "missing_key"
    yield "K05", b'"k05"', event("k05"), "key_mismatch"
    yield "K05", b"k05", event("k05"), None
    yield "K06", b"k06\xff", event("k06"), "not_utf8"
    yield "K06", b"k06\n\x01", event("k06\n\x01"), None
    yield "K12", b"k12", event("k12", item_id="never seen", category_id="nor this", event_id=None), None
    yield "T01", b"t01", event("t01", timestamp=NOW_MS * 1000), "timestamp_in_future"
    yield "T02", b"t02", event("t02", timestamp=1_716_200_000), "timestamp_too_old"
    for item in ("first", "second"):
        yield "T03", b"t03", event("t03", item_id=item), None
    for time in (2**63 - 1, 2**63):
        yield "T06", b"t06", event("t06", timestamp=time), "timestamp_in_future"
    for time in (-(2**63) + 1, 0, -1, 253_402_300_800):
        yield "T06", b"t06", event("t06", timestamp=time), "timestamp_too_old"
    yield "T07", b"t07", event("t07", timestamp=4_102_444_800_000), "timestamp_in_future"
    yield "T07", b"t07", event("t07"), None
    for late in (3, 2, 1):
        yield "T08", b"t08", event("t08", timestamp=NOW_MS - 1000 * late), None
    for text in ("2025-03-30T02:30:00", "2016-12-31T23:59:60Z"):
        yield "T12", b"t12", event("t12", timestamp=text), "wrong_type"
    for text in ("2025-03-30T02:30:00Z", "2025-03-30T02:30:00+08:00"):
        yield "T12", b"t12", event("t12", timestamp=text), None


def test_poison(names: Names, model: Model, tmp_path: Path) -> None:
    """Every case of the kinds decode, identity and time, and thousands of changed records between good events: the
    worker lives, each is refused with its reason or accepted, the good events are exact (P3, P5; D02, D03, D05, D07,
    D08, D09, D12, D13, D19, K01, K05, K06, K12, T01, T02, T03, T06, T07, T08, T12)."""
    maker, given = Maker(SEED), list(cases())
    create_topics(names, PARTITIONS)
    changed: list[Keyed] = [maker.good() if n % EVERY == 0 else maker.poison() for n in range(CHANGED)]
    odd_headers = [("trace", b"\xff"), ("none", None), ("", b"")]

    with Worker(names, model.bundle.folder, tmp_path / "state", idle_ttl_days=36_500) as worker:
        worker.wait_ready()
        send(names.broker, names.event_topic, [(key, value) for _, key, value, _ in given], headers=odd_headers)
        send(names.broker, names.event_topic, changed)
        with Topics(names) as topics:
            topics.wait_done(worker)
        assert 0 == worker.stop()
        assert "Traceback" not in worker.said

    outcome = read_outcome(names, model, RULES)
    assert outcome.exact, str(outcome)
    assert len(given) + CHANGED == outcome.events
    assert CHANGED / 10 < outcome.accepted < CHANGED / 2  # good ones come more than once, many with an event_id

    letters: dict[tuple[bytes | None, bytes | None], set[str]] = {}
    for letter in read(names.broker, names.deadletter_topic):
        headers = dict(letter.headers)
        letters.setdefault((letter.key, letter.value), set()).add(headers["interest-reason"].decode())
        if letter.key in (b"t01", b"t02"):
            unit = {b"t01": "microseconds", b"t02": "seconds"}[letter.key]
            assert f"looks like {unit}" in headers["interest-detail"].decode()
            assert (b"\xff", None) == (headers["trace"], headers["none"])
    for case, key, value, reason in given:
        assert (case, {reason} if reason else set()) == (case, letters.get((key, value), set()))
