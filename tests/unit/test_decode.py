"""What is an event and what is refused, by the contract: every code, and the situations of other people's reports."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from stream.contract import EVENT_TYPES, RECORD_MAX_BYTES, Reason, amount_code, hash32, hash64
from stream.decode import Decoded, Refused, decode

NOW_MS = 1_760_000_000_000  # the record's own time
EVENT: dict[str, Any] = {"user_id": "u1", "type": "click", "item_id": "i1", "timestamp": NOW_MS - 1000}


@dataclass(frozen=True)
class Raw:
    """A Kafka record as far as `decode` reads it."""

    value: bytes | None
    key: bytes | None = b"u1"
    offset: int = 0
    timestamp: int = NOW_MS
    headers: Sequence[tuple[str, bytes | None]] = ()


def raw(fields: dict[str, Any], *, key: bytes | None = None, offset: int = 0) -> Raw:
    """A record of this JSON object; its key is the user_id unless told."""
    if key is None:
        key = str(fields["user_id"]).encode()
    return Raw(json.dumps(fields).encode(), key, offset)


def event(**fields: object) -> Raw:
    """A good record with some fields changed; `...` leaves one out."""
    changed = {name: value for name, value in (EVENT | fields).items() if value is not ...}
    return raw(changed, key=b"u1" if "user_id" not in fields or fields["user_id"] is ... else None)


def accepted(record: Raw) -> Decoded:
    """The columns of one record that must be accepted."""
    decoded = decode([record])
    assert [] == decoded.refused
    assert 1 == len(decoded.keys)
    return decoded


def refused(record: Raw) -> Refused:
    """Why one record was refused; it must be, and alone: the one behind it must not."""
    decoded = decode([record, raw(EVENT, offset=record.offset + 1)])
    assert [b"u1"] == decoded.keys
    assert [record.offset + 1] == decoded.offset.tolist()
    assert 1 == len(decoded.refused)
    assert record is decoded.refused[0].record
    assert "\n" not in decoded.refused[0].detail
    return decoded.refused[0]


def test_all_fields() -> None:
    """Every field of an event arrives in its column, hashed or coded as the contract says."""
    decoded = accepted(
        Raw(
            json.dumps(
                {
                    "user_id": "用户",
                    "type": "review",
                    "item_id": "item",
                    "timestamp": NOW_MS,
                    "event_id": "e1",
                    "category_id": "phones",
                    "quantity": 2,
                    "price": 19.5,
                    "rating": 4.5,
                    "text": "Good phone",
                    "unknown": {"nested": [1, None]},
                }
            ).encode(),
            key="用户".encode(),
            offset=2**40,
        )
    )

    assert ["用户".encode()] == decoded.keys
    assert decoded.offset.tolist() == [2**40]
    assert [False] == decoded.erase.tolist()
    row = (NOW_MS, hash64("item"), hash64("e1"), hash32("phones"), 5, 45, amount_code(19.5), amount_code(2))
    assert [row] == decoded.events.tolist()
    assert [0] == decoded.text_row.tolist()
    assert (1, 64) == decoded.tokens.shape
    assert 2 == (decoded.tokens[0] != 0).sum()
    assert 0 == decoded.texts_cut


def test_least_fields() -> None:
    """Absent and null optional fields are the same and leave 0, "none" (K12)."""
    absent = accepted(event())
    null = accepted(event(event_id=None, category_id=None, quantity=None, price=None, rating=None, text=None))

    assert [(NOW_MS - 1000, hash64("i1"), 0, 0, 1, 0, 0, 0)] == absent.events.tolist()
    assert absent.events.tolist() == null.events.tolist()
    assert [-1] == absent.text_row.tolist() == null.text_row.tolist()


@pytest.mark.parametrize(("name", "code"), EVENT_TYPES.items())
def test_types(name: str, code: int) -> None:
    """All five types are accepted, whatever a bundle knows."""
    assert [code] == accepted(event(type=name)).events["type"].tolist()


def test_rating_and_text_belong_to_a_review() -> None:
    """Rating and text of another type are ignored."""
    decoded = accepted(event(type="purchase", rating=5, text="Good"))

    assert [0] == decoded.events["rating"].tolist()
    assert [-1] == decoded.text_row.tolist()


def test_zero_is_not_none() -> None:
    """A price or quantity of 0 is another code than none; amounts beyond the scale take its last code."""
    decoded = decode([event(price=0, quantity=0), event(), event(price=1e300, quantity=1e18)])

    assert [1, 0, 255] == decoded.events["price"].tolist()
    assert [1, 0, 255] == decoded.events["quantity"].tolist()


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"user_id": 18446744073709551616}, "$.user_id"),
        ({"item_id": 5}, "$.item_id"),
        ({"timestamp": True}, "$.timestamp"),
        ({"timestamp": float(NOW_MS)}, "$.timestamp"),
        ({"timestamp": [NOW_MS]}, "$.timestamp"),
        ({"type": None}, "$.type"),
        ({"item_id": None}, "$.item_id"),
        ({"event_id": 17}, "$.event_id"),
        ({"category_id": ["a"]}, "$.category_id"),
        ({"quantity": "2"}, "$.quantity"),
        ({"price": True}, "$.price"),
        ({"rating": "5"}, "$.rating"),
        ({"text": 5}, "$.text"),
    ],
)
def test_wrong_type(fields: dict[str, object], path: str) -> None:
    """An id is text, never a number (D03), and no field is converted; the detail names the field's path."""
    found = refused(event(**fields))

    assert Reason.WRONG_TYPE == found.reason
    assert path in found.detail


@pytest.mark.parametrize("name", ["user_id", "type", "item_id", "timestamp"])
def test_missing_field(name: str) -> None:
    """The four needed fields, each named when it is missing."""
    found = refused(event(**{name: ...}))

    assert Reason.MISSING_FIELD == found.reason
    assert name in found.detail


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"item_id": ""}, "$.item_id"),
        ({"item_id": "i" * 257}, "$.item_id"),
        ({"event_id": ""}, "$.event_id"),
        ({"event_id": "e" * 129}, "$.event_id"),
        ({"category_id": ""}, "$.category_id"),
        ({"category_id": "c" * 257}, "$.category_id"),
        ({"quantity": -1}, "$.quantity"),
        ({"price": -0.01}, "$.price"),
        ({"rating": 0.99}, "$.rating"),
        ({"rating": 5.01}, "$.rating"),
        ({"user_id": "u" * 257}, "$.user_id"),
        ({"user_id": "u\0"}, "$.user_id"),
    ],
)
def test_out_of_range(fields: dict[str, object], path: str) -> None:
    """Lengths and amounts have bounds, a user_id holds no NUL (D19); the detail names the field's path."""
    found = refused(event(**fields))

    assert Reason.OUT_OF_RANGE == found.reason
    assert path in found.detail


def test_bounds_are_inclusive() -> None:
    """256 characters (not bytes) of an id, 128 of an event id, ratings 1 and 5, amounts of 0 are all in range."""
    records = [
        event(user_id="字" * 256, item_id="字" * 256, category_id="字" * 256, event_id="字" * 128),
        event(type="review", rating=1, price=0, quantity=0),
        event(type="review", rating=5),
    ]

    decoded = decode(records)

    assert [] == decoded.refused
    assert [0, 10, 50] == decoded.events["rating"].tolist()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("name", ["price", "quantity", "rating", "timestamp"])
def test_numbers_that_are_no_json(name: str, number: str) -> None:
    """NaN and infinities are no JSON; the next record is processed (D02)."""
    assert Reason.NOT_JSON == refused(with_number(name, number)).reason


@pytest.mark.parametrize("number", ["1e999", "1" + "0" * 400, "1" * 5000], ids=["1e999", "400 digits", "5000 digits"])
@pytest.mark.parametrize("name", ["price", "quantity", "rating"])
def test_numbers_too_large(name: str, number: str) -> None:
    """JSON numbers that no float holds are out of range, and the field is named; the next is processed (D02)."""
    found = refused(with_number(name, number))

    assert Reason.OUT_OF_RANGE == found.reason
    assert f"$.{name}" in found.detail


@pytest.mark.parametrize("number", ["1e999", "1" + "0" * 400, "1" * 5000], ids=["1e999", "400 digits", "5000 digits"])
def test_times_too_large(number: str) -> None:
    """Times of hundreds of digits are out of range or in the future, and the field is named (D02, T06)."""
    found = refused(with_number("timestamp", number))

    assert found.reason in {Reason.OUT_OF_RANGE, Reason.TIMESTAMP_IN_FUTURE}
    assert "$.timestamp" in found.detail


def with_number(name: str, number: str) -> Raw:
    """A record with this text where the field's number stands."""
    value = json.dumps(EVENT | {name: 0}).replace(f'"{name}": 0', f'"{name}": {number}').encode()
    assert number.encode() in value
    return Raw(value)


@pytest.mark.parametrize(
    "user_id", [rb"\ud800", b"\xed\xa0\x80", b"\xff"], ids=["escaped surrogate", "raw surrogate", "raw byte"]
)
@pytest.mark.parametrize("key", [b"\xed\xa0\x80", b"\xff", b"u1"])
def test_text_that_is_none(user_id: bytes, key: bytes) -> None:
    """Lone surrogates and bytes that are no UTF-8, in value and key, are refused; raw bytes are kept (D05)."""
    value = b'{"user_id": "' + user_id + b'", "type": "click", "item_id": "i1", "timestamp": 1759999999000}'

    found = refused(Raw(value, key))

    assert value is found.record.value
    assert key is found.record.key
    expected = {Reason.NOT_UTF8} if user_id != rb"\ud800" else {Reason.NOT_UTF8, Reason.NOT_JSON}
    assert found.reason in expected


@pytest.mark.parametrize("name", ["item_id", "event_id", "category_id", "text", "type"])
def test_bad_utf8_in_any_field(name: str) -> None:
    """Bytes that are no UTF-8 are refused in whichever field of the contract they stand (D05)."""
    value = json.dumps(EVENT | {name: "XX"}).encode().replace(b"XX", b"\xff")

    assert Reason.NOT_UTF8 == refused(Raw(value)).reason


@pytest.mark.parametrize("more", [b'"x": "XX"', b'"XX": 1', b'"x": {"y": [1, {"XX": null}]}', b'"x": ["a", "XX"]'])
@pytest.mark.parametrize("bad", [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe7\x94"])
def test_bad_utf8_in_an_unknown_field(more: bytes, bad: bytes) -> None:
    """Nor may they stand where nobody looks: names and values of unknown fields, however deep (D05)."""
    value = json.dumps(EVENT).encode()[:-1] + b", " + more + b"}"

    accepted(Raw(value))
    assert Reason.NOT_UTF8 == refused(Raw(value.replace(b"XX", bad))).reason


@pytest.mark.parametrize("text", [rb"\ud800", rb"\udc00", rb"\ud800\u0041", rb"\udc00\ud800"])
@pytest.mark.parametrize("name", ["item_id", "event_id", "category_id", "text", "type", "x"])
def test_escaped_surrogate_in_any_field(name: str, text: bytes) -> None:
    """Half a character, written as an escape, is refused in whichever field it stands; a whole one is not (D05)."""
    value = json.dumps(EVENT | {name: "XX"}).encode().replace(b"XX", text)

    assert Reason.NOT_JSON == refused(Raw(value)).reason


def test_escaped_characters() -> None:
    """Whole characters written as escapes are the characters themselves, in names too (D05)."""
    value = rb'{"user\u005fid":"u\u0031","type":"\u0063lick","item_id":"\ud83d\ude00","timestamp":1759999999000}'

    assert [hash64("\U0001f600")] == accepted(Raw(value)).events["item"].tolist()


def test_key_that_is_no_utf8() -> None:
    """A good value under a key that is no UTF-8 is refused (K06)."""
    assert refused(Raw(json.dumps(EVENT).encode(), b"\xff\xfe")).reason in {Reason.NOT_UTF8, Reason.KEY_MISMATCH}


def test_control_characters_in_a_user_id() -> None:
    """Control characters other than NUL are allowed and reach the key as they are (K06)."""
    decoded = accepted(event(user_id="u\n\x01\x7f\u2028"))

    assert ["u\n\x01\x7f\u2028".encode()] == decoded.keys


def test_key_mismatch() -> None:
    """A key that is not the user_id: two user_ids in one object, quotes round the key, another form (D07, K05)."""
    twice = b'{"user_id":"a","user_id":"b","type":"click","item_id":"i1","timestamp":1759999999000}'

    assert Reason.KEY_MISMATCH == refused(Raw(twice, b"a")).reason
    assert Reason.KEY_MISMATCH == refused(raw(EVENT, key=b'"u1"')).reason
    assert Reason.KEY_MISMATCH == refused(raw(EVENT, key=b"U1")).reason
    assert Reason.KEY_MISMATCH == refused(raw(EVENT | {"user_id": "é"}, key="e\u0301".encode())).reason


def test_names_that_come_twice() -> None:
    """The last of a name counts, for check and event alike; each of them must keep the rules of its field (D07)."""
    good = b'{"user_id":"b","type":"view","item_id":"i2","timestamp":0,"price":1,' + json.dumps(EVENT).encode()[1:]

    assert [(NOW_MS - 1000, hash64("i1"), 0, 0, 1, 0, amount_code(1), 0)] == accepted(Raw(good)).events.tolist()
    assert Reason.OUT_OF_RANGE == refused(Raw(good.replace(b'"price":1', b'"price":-1,"price":1'))).reason
    assert Reason.WRONG_TYPE == refused(Raw(good.replace(b'"i2"', b"2"))).reason
    assert Reason.UNKNOWN_TYPE == refused(Raw(good[:-1] + b',"type":"view"}')).reason


@pytest.mark.parametrize("key", [None, b""])
def test_missing_key(key: bytes | None) -> None:
    """A record without key, or with an empty one, is refused before anything else is looked at (K01)."""
    empty_user = json.dumps(EVENT | {"user_id": ""}).encode()

    assert Reason.MISSING_KEY == refused(Raw(empty_user, key)).reason
    assert Reason.MISSING_KEY == refused(Raw(json.dumps(EVENT).encode(), key)).reason


@pytest.mark.parametrize("value", [b"[" * 1_000_000, b" " * RECORD_MAX_BYTES + b"{}"])
def test_too_large(value: bytes) -> None:
    """The size is looked at before the value is parsed (D08)."""
    assert Reason.TOO_LARGE == refused(Raw(value)).reason


def test_largest_record() -> None:
    """A record of the very limit is accepted, one byte more is not."""
    value = json.dumps(EVENT).encode()
    filled = value + b" " * (RECORD_MAX_BYTES - len(value) - len(b"u1"))

    accepted(Raw(filled))
    assert Reason.TOO_LARGE == refused(Raw(filled + b" ")).reason


@pytest.mark.parametrize(
    "value",
    [b"[" * 200_000, b'{"a":' * 10_000, json.dumps(EVENT).encode()[:-1] + b', "x": ' + b"[" * 100_000],
    ids=["arrays", "objects", "in an unknown field"],
)
def test_deep_nesting(value: bytes) -> None:
    """Nesting without end is refused and ends nothing (D08)."""
    assert Reason.NOT_JSON == refused(Raw(value)).reason


@pytest.mark.parametrize("value", [None, b""])
def test_no_value(value: bytes | None) -> None:
    """A key with null value on an event topic is counted and erases nobody (D09)."""
    assert Reason.EMPTY == refused(Raw(value)).reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\xef\xbb\xbf{}", Reason.NOT_JSON),
        (b" \r\n\t ", Reason.EMPTY),
        (b"{}x", Reason.NOT_JSON),
        (b'{"a":1}{"b":2}', Reason.NOT_JSON),
        (b"null", Reason.NOT_AN_OBJECT),
        (b"[]", Reason.NOT_AN_OBJECT),
        (b"1", Reason.NOT_AN_OBJECT),
        (b"1" * 400, Reason.NOT_AN_OBJECT),
        (b"\x0b", Reason.NOT_JSON),
        (b'{"user_id":' + b"1" * 400 + b" x}", Reason.NOT_JSON),
        (b'"x"', Reason.NOT_AN_OBJECT),
        (b"true", Reason.NOT_AN_OBJECT),
        (b"{}", Reason.MISSING_FIELD),
        (b"hello", Reason.NOT_JSON),
        (b'{"user_id":', Reason.NOT_JSON),
        (b"\0", Reason.NOT_JSON),
        (b"\xff", Reason.NOT_UTF8),
        (b"'{}'", Reason.NOT_JSON),
    ],
)
def test_what_is_no_event(value: bytes, reason: Reason) -> None:
    """Values that are no JSON object, each with its own reason (D13, D19)."""
    assert reason == refused(Raw(value)).reason


@pytest.mark.parametrize("tail", [b"x", b"{}", b"\0", b"]"])
def test_trailing_junk(tail: bytes) -> None:
    """A whole event with something behind it is refused (D19)."""
    assert Reason.NOT_JSON == refused(Raw(json.dumps(EVENT).encode() + tail)).reason


def test_unknown_type() -> None:
    """A type outside the contract is refused and named, in one line, however it looks."""
    found = refused(event(type="view\n"))

    assert Reason.UNKNOWN_TYPE == found.reason
    assert "$.type" in found.detail
    assert "'view\\n'" in found.detail
    assert "click, cart, favorite, purchase, review" in found.detail
    assert len(refused(event(type="x" * 100_000)).detail) <= 1000


@pytest.mark.parametrize("time", [10**15, (NOW_MS - 5) * 1000])
def test_microseconds(time: int) -> None:
    """A time in microseconds is refused, and the detail says what it looks like (T01)."""
    found = refused(event(timestamp=time))

    assert Reason.TIMESTAMP_IN_FUTURE == found.reason
    assert "$.timestamp" in found.detail
    assert "looks like microseconds" in found.detail


@pytest.mark.parametrize("time", [1716200000, NOW_MS // 1000])
def test_seconds(time: int) -> None:
    """A time in seconds is refused, never taken for 1970, and the detail says what it looks like (T02)."""
    found = refused(event(timestamp=time))

    assert Reason.TIMESTAMP_TOO_OLD == found.reason
    assert "looks like seconds" in found.detail


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        (2**63 - 1, Reason.TIMESTAMP_IN_FUTURE),
        (2**63, Reason.TIMESTAMP_IN_FUTURE),
        (2**64, Reason.TIMESTAMP_IN_FUTURE),
        (10**40, Reason.TIMESTAMP_IN_FUTURE),
        (253402300800000, Reason.TIMESTAMP_IN_FUTURE),
        (253402300800, Reason.TIMESTAMP_TOO_OLD),
        (15_000, Reason.TIMESTAMP_TOO_OLD),
        (0, Reason.TIMESTAMP_TOO_OLD),
        (-1, Reason.TIMESTAMP_TOO_OLD),
        (-(2**63) + 1, Reason.TIMESTAMP_TOO_OLD),
        (-(2**63) - 1, Reason.TIMESTAMP_TOO_OLD),
        (946_684_799_999, Reason.TIMESTAMP_TOO_OLD),
        (NOW_MS + 300_001, Reason.TIMESTAMP_IN_FUTURE),
        (NOW_MS + 86_400_000, Reason.TIMESTAMP_IN_FUTURE),
    ],
)
def test_time_out_of_range(time: int, reason: Reason) -> None:
    """The range is checked before anything is converted (T06); a day ahead is refused (T07)."""
    assert reason == refused(event(timestamp=time)).reason


@pytest.mark.parametrize("time", [946_684_800_000, NOW_MS, NOW_MS + 300_000])
def test_time_at_the_bounds(time: int) -> None:
    """From the first millisecond of 2000 to 5 minutes ahead of the record's own time, both included (T07)."""
    assert [time] == accepted(event(timestamp=time)).events["timestamp"].tolist()


def test_future_is_measured_at_the_record() -> None:
    """The record's own time decides what is in the future, so a replay decides the same (T07)."""
    value = json.dumps(EVENT).encode()

    accepted(Raw(value, timestamp=NOW_MS - 301_000))
    assert Reason.TIMESTAMP_IN_FUTURE == refused(Raw(value, timestamp=NOW_MS - 301_001)).reason


@pytest.mark.parametrize(
    "text", ["2025-03-30T02:30:00", "2016-12-31T23:59:60Z", "2025-03-30", "1759999999000", "", "soon"]
)
def test_text_times_refused(text: str) -> None:
    """A text time without an offset, a leap second and what is no time at all are refused (T12)."""
    found = refused(event(timestamp=text))

    assert found.reason in {Reason.WRONG_TYPE, Reason.OUT_OF_RANGE}
    assert "$.timestamp" in found.detail


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2025-03-30T02:30:00Z", 1743301800000),
        ("2025-03-30T02:30:00+08:00", 1743273000000),
        ("2025-03-30T02:30:00-00:00", 1743301800000),
        ("2025-03-30T02:30:00.123Z", 1743301800123),
        ("2025-03-29T23:30:00.001-03:00", 1743301800001),
    ],
)
def test_text_times(text: str, time: int) -> None:
    """RFC 3339 times with an offset are exact to the millisecond (T12)."""
    assert [time] == accepted(event(timestamp=text)).events["timestamp"].tolist()


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_text_times_out_of_range(text: str) -> None:
    """Text times at the ends of the calendar are refused like numbers (T06, T12)."""
    assert refused(event(timestamp=text)).reason in {Reason.TIMESTAMP_TOO_OLD, Reason.TIMESTAMP_IN_FUTURE}


@pytest.mark.parametrize("headers", [(), (("a", None),), (("a", b"\xff"), ("", b""))])
def test_headers_do_not_matter(headers: Sequence[tuple[str, bytes | None]]) -> None:
    """No headers, null and undecodable header values change nothing; headers alone are no event (D12)."""
    accepted(Raw(json.dumps(EVENT).encode(), headers=headers))
    assert Reason.EMPTY == refused(Raw(None, headers=headers)).reason


def test_text_is_cut() -> None:
    """A text beyond 10,000 characters is cut, counted, and gives the tokens of what remains; 64 tokens are kept."""
    words = " ".join(f"w{number}" for number in range(100))
    at_limit = words + "," * (10_000 - len(words))

    decoded = decode(
        [
            event(type="review", text=at_limit),
            event(type="review", text=at_limit + " beyond"),
            event(type="review", text="," * 10_000 + " beyond"),
            event(type="review", text=""),
        ]
    )

    assert 2 == decoded.texts_cut
    assert [0, 1, -1, -1] == decoded.text_row.tolist()
    assert decoded.tokens[0].tolist() == decoded.tokens[1].tolist()
    assert 64 == (decoded.tokens[0] != 0).sum()


def test_erase_record() -> None:
    """An erase record needs a user_id and the key only; its time is its record's own."""
    found = accepted(raw({"type": "erase", "user_id": "u1"}))
    more = accepted(event(type="erase"))

    assert [True] == found.erase.tolist() == more.erase.tolist()
    assert [NOW_MS] == found.events["timestamp"].tolist() == more.events["timestamp"].tolist()
    assert Reason.KEY_MISMATCH == refused(raw({"type": "erase", "user_id": "u1"}, key=b"u2")).reason
    assert Reason.MISSING_FIELD == refused(Raw(b'{"type": "erase"}')).reason


def test_republish_record() -> None:
    """A republish record names its user and is in no column; it is checked as an erase record is."""
    decoded = decode([event(), raw({"type": "republish", "user_id": "u1"}, offset=1), event(type="republish")])

    assert ([b"u1", b"u1"], [b"u1"]) == (decoded.republish, decoded.keys)
    assert 1 == len(decoded.events) == len(decoded.offset) == len(decoded.erase) == len(decoded.text_row)
    assert Reason.KEY_MISMATCH == refused(raw({"type": "republish", "user_id": "u1"}, key=b"u2")).reason
    assert Reason.OUT_OF_RANGE == refused(raw({"type": "republish", "user_id": "u\0"}, key=b"u\0")).reason
    assert Reason.MISSING_FIELD == refused(Raw(b'{"type": "republish"}')).reason


def test_order_is_kept() -> None:
    """Accepted records keep their order and offsets with refused ones between them (D13)."""
    records = [
        event(item_id="a"),
        Raw(b"hello", offset=1),
        raw(EVENT | {"type": "review", "text": "one"}, offset=2),
        raw({"type": "erase", "user_id": "u1"}, offset=5),
        raw(EVENT | {"user_id": "u2", "type": "review", "text": "two"}, offset=6),
    ]

    decoded = decode(records)

    assert [b"u1", b"u1", b"u1", b"u2"] == decoded.keys
    assert [0, 2, 5, 6] == decoded.offset.tolist()
    assert [False, False, True, False] == decoded.erase.tolist()
    assert [-1, 0, -1, 1] == decoded.text_row.tolist()
    assert [hash32("one"), hash32("two")] == decoded.tokens[:, 0].tolist()
    assert [1] == [found.record.offset for found in decoded.refused]


def test_nothing() -> None:
    """No records, or refused ones only, give empty columns of the right types."""
    for decoded in (decode([]), decode([Raw(b"hello")])):
        assert [] == decoded.keys
        assert 0 == len(decoded.offset) == len(decoded.events) == len(decoded.erase) == len(decoded.text_row)
        assert (0, 64) == decoded.tokens.shape


def test_amount_scale() -> None:
    """The contract's scale itself: 0 for none, steps of 9 %, and the ends; frozen with the table."""
    assert [0, 1, 9, 255] == [amount_code(amount) for amount in (None, 0, 1, math.ldexp(1, 40))]
