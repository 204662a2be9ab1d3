"""What the contract says of one record, once more and slowly: the standard library's JSON and plain checks.

Written from the contract, not from stream.decode, with which it shares the hashes and scales of the table only.
"""

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from models.features import text_tokens
from stream.contract import amount_code, hash32, hash64
from tests.reference import Erase, Event

TYPES = {"click": 1, "cart": 2, "favorite": 3, "purchase": 4, "review": 5}
NEEDED = ("user_id", "type", "item_id", "timestamp")
CHARACTERS = {"user_id": 256, "item_id": 256, "category_id": 256, "event_id": 128}
SMALLEST = {"price": 0.0, "quantity": 0.0, "rating": 1.0}
RATING_MAX = 5.0
YEAR_2000_MS = 946_684_800_000
AHEAD_MS = 300_000
RECORD_BYTES = 262_144
TEXT_CHARACTERS = 10_000

HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):?(\d\d))", re.ASCII)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Verdict:
    """What must become of a record: refused for one of the reasons, or accepted as `value` of the user `key`."""

    reasons: frozenset[str] = frozenset()
    value: Event | Erase | None = None


class Pairs(tuple[tuple[str, object], ...]):
    """A JSON object with all its names, also those that come twice."""

    __slots__ = ()


class NotJsonError(ValueError):
    """A number that JSON does not have."""


def _no_number(_text: str) -> NoReturn:
    raise NotJsonError


def _integer(text: str) -> float | int:
    """Python itself reads no more than 4,300 digits; no float holds so many either."""
    return int(text) if len(text) <= 4300 else math.copysign(math.inf, -1 if text[0] == "-" else 1)


_parse = json.JSONDecoder(object_pairs_hook=Pairs, parse_constant=_no_number, parse_int=_integer).decode


def refuse(*reasons: str) -> Verdict:
    """Refused for any one of these."""
    return Verdict(frozenset(reasons))


def judge(key: bytes | None, value: bytes | None, record_time_ms: int) -> Verdict:
    """The contract on one record."""
    if not key:
        return refuse("missing_key")
    if not value:
        return refuse("empty")
    if len(key) + len(value) > RECORD_BYTES:
        return refuse("too_large")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return refuse("not_utf8")
    try:
        found = _parse(text)
        if HALF_CHARACTER.search(text) and _has_half_character(found):
            raise NotJsonError
    except (ValueError, RecursionError):
        return refuse("not_json") if text.strip(" \t\n\r") else refuse("empty")
    if not isinstance(found, Pairs):
        return refuse("not_an_object")
    first = next((wrong for name, field in found if (wrong := _wrong(name, field))), None)
    last = dict(found)
    if first is None and any(name not in last for name in NEEDED):
        first = frozenset({"missing_field"})
    users = [_wrong(name, field) for name, field in found if name == "user_id"]
    types = [field for name, field in found if name == "type"]
    erase = bool(users and types) and not any(users) and all(field == "erase" for field in types)
    if first is not None and not erase:
        return Verdict(first)
    reasons = set()
    user = _text_of(key)
    if last["user_id"] != user:
        reasons.add("not_utf8" if user is None else "key_mismatch")
    if "\0" in str(last["user_id"]):
        reasons.add("out_of_range")
    if erase or last["type"] == "erase":
        return Verdict(frozenset(reasons), None if reasons else Erase())
    if last["type"] not in TYPES:
        reasons.add("unknown_type")
    time = _time(last["timestamp"])
    assert time is not None
    if time < YEAR_2000_MS:
        reasons.add("timestamp_too_old")
    if record_time_ms < 0 or time > record_time_ms + AHEAD_MS:
        reasons.add("timestamp_in_future")
    return Verdict(frozenset(reasons)) if reasons else Verdict(value=_event(last, int(time)))


def _text_of(key: bytes) -> str | None:
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None


def _has_half_character(found: object) -> bool:
    match found:
        case str():
            return any("\ud800" <= character <= "\udfff" for character in found)
        case Pairs():
            return any(_has_half_character(name) or _has_half_character(field) for name, field in found)
        case list():
            return any(map(_has_half_character, found))
    return False


def _wrong(name: str, field: object) -> frozenset[str]:
    """What is wrong with one field by itself; empty: nothing."""
    match name:
        case "user_id" | "item_id" | "category_id" | "event_id":
            if field is None and name not in NEEDED:
                return frozenset()
            if not isinstance(field, str):
                return _wrong_type(field)
            return frozenset() if 1 <= len(field) <= CHARACTERS[name] else frozenset({"out_of_range"})
        case "type":
            return frozenset() if isinstance(field, str) else _wrong_type(field)
        case "text":
            return frozenset() if field is None or isinstance(field, str) else _wrong_type(field)
        case "price" | "quantity" | "rating":
            if field is None:
                return frozenset()
            if isinstance(field, bool) or not isinstance(field, int | float):
                return _wrong_type(field)
            in_range = SMALLEST[name] <= _float(field) <= (RATING_MAX if name == "rating" else 1.7976931348623157e308)
            return frozenset() if in_range else frozenset({"out_of_range"})
        case "timestamp":
            if isinstance(field, float) and math.isinf(field):
                return frozenset({"out_of_range", "wrong_type", "timestamp_in_future", "timestamp_too_old"})
            if isinstance(field, bool) or not isinstance(field, int | str):
                return _wrong_type(field)
            return frozenset() if _time(field) is not None else frozenset({"wrong_type", "out_of_range"})
    return frozenset()


def _wrong_type(field: object) -> frozenset[str]:
    """A number that no float holds may be told as such wherever it stands."""
    huge = isinstance(field, int | float) and math.isinf(_float(field))
    return frozenset({"wrong_type", "out_of_range"} if huge else {"wrong_type"})


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return -math.inf if number < 0 else math.inf


def _time(field: object) -> int | None:
    """Milliseconds since the epoch; None for a text that is no RFC 3339 time with an offset."""
    if isinstance(field, int):
        return field
    matched = TIME.fullmatch(str(field))
    if not matched:
        return None
    date, clock, fraction, _, sign, hours, minutes = matched.groups()
    if int(hours or 0) > 23 or int(minutes or 0) > 59:
        return None
    try:
        local = datetime.fromisoformat(f"{date}T{clock}+00:00")
    except ValueError:
        return None
    offset_ms = (int(hours or 0) * 60 + int(minutes or 0)) * 60_000 * (-1 if sign == "-" else 1)
    return (local - EPOCH) // timedelta(milliseconds=1) - offset_ms + int(f"{fraction or 0:0<3}"[:3])


def _event(field: dict[str, object], time_ms: int) -> Event:
    kind = TYPES[str(field["type"])]
    review = kind == TYPES["review"]
    rating, text = field.get("rating"), field.get("text")
    numbers = {name: field.get(name) for name in ("price", "quantity")}
    codes = {name: amount_code(float(n)) if isinstance(n, int | float) else 0 for name, n in numbers.items()}
    return Event(
        timestamp=time_ms,
        item=hash64(str(field["item_id"])),
        event_id=0 if field.get("event_id") is None else hash64(str(field["event_id"])),
        category=0 if field.get("category_id") is None else hash32(str(field["category_id"])),
        type=kind,
        rating=round(10 * float(rating)) if review and isinstance(rating, int | float) else 0,
        price=codes["price"],
        quantity=codes["quantity"],
        tokens=tuple(text_tokens(text[:TEXT_CHARACTERS])) if review and isinstance(text, str) else (),
    )
