"""Bytes to events, once: checked against the contract and packed into columns; what fails becomes a dead letter."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.features import text_tokens
from stream.contract import (
    EVENT_DTYPE,
    EVENT_ID_MAX_CHARS,
    EVENT_TYPES,
    ID_MAX_CHARS,
    RECORD_MAX_BYTES,
    TEXT_MAX_CHARS,
    TEXT_MAX_TOKENS,
    TIME_AHEAD_MS,
    TIME_MIN_MS,
    Reason,
    amount_code,
    hash32,
    hash64,
)

DETAIL_MAX_CHARS = 300

_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=ID_MAX_CHARS)]
_Amount = Annotated[float, msgspec.Meta(ge=0)]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_REVIEW = EVENT_TYPES["review"]
_pack = struct.Struct("<qQQIBBBB").pack  # EVENT_DTYPE


class Record(Protocol):
    """What is read of a Kafka record; aiokafka's and kafka-python's both serve."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int:
        """The record's own time, ms since the epoch; below 0 where it has none."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class _Event(msgspec.Struct, gc=False):
    user_id: _Id
    type: str
    item_id: _Id
    timestamp: int | Annotated[datetime, msgspec.Meta(tz=True)]
    event_id: Annotated[str, msgspec.Meta(min_length=1, max_length=EVENT_ID_MAX_CHARS)] | None = None
    category_id: _Id | None = None
    quantity: _Amount | None = None
    price: _Amount | None = None
    rating: Annotated[float, msgspec.Meta(ge=1, le=5)] | None = None
    text: str | None = None


class _Order(msgspec.Struct, gc=False):
    """What is asked of the worker for a user, beside events."""

    user_id: _Id
    type: Literal["erase", "republish"]


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_order = msgspec.json.Decoder(_Order).decode
_skip = msgspec.json.Decoder(msgspec.Raw).decode


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that is no event, and why: a code and one line with the path of the field."""

    record: Record
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """The accepted records of one topic partition in the order they came, as columns of length n."""

    keys: list[bytes]  # user ids, UTF-8
    offset: NDArray[np.int64]  # [n]
    events: NDArray[np.void]  # EVENT_DTYPE [n]; of an erase record only `timestamp` is set: the record's own time
    erase: NDArray[np.bool_]  # [n]
    text_row: NDArray[np.int32]  # [n], row in `tokens`, -1 without text
    tokens: NDArray[np.uint32]  # [rows, TEXT_MAX_TOKENS], 0 after the last
    refused: list[Refused]
    texts_cut: int  # reviews longer than TEXT_MAX_CHARS
    republish: list[bytes]  # user ids of republish records, which are in none of the columns


class _RefusedError(Exception):
    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def decode(records: Sequence[Record]) -> Decoded:
    """Decode and check records of one topic partition; never raises for what a record holds."""
    keys: list[bytes] = []
    offsets: list[int] = []
    rows: list[bytes] = []
    erased: list[int] = []
    republish: list[bytes] = []
    texts: dict[int, list[int]] = {}  # index of the event -> its tokens
    refused: list[Refused] = []
    texts_cut = 0
    for record in records:
        key = record.key
        try:
            event = _parse(key, record.value)
            user = event.user_id
            if user.encode() != key:
                raise _mismatch(user, key)
            if "\0" in user:
                raise _RefusedError(Reason.OUT_OF_RANGE, "$.user_id: expected no NUL character")
            code = EVENT_TYPES.get(event.type)
            if code is None or isinstance(event, _Order):
                if event.type == "republish":
                    republish.append(key)
                    continue
                if event.type != "erase":
                    raise _RefusedError(
                        Reason.UNKNOWN_TYPE, f"$.type: expected one of {', '.join(EVENT_TYPES)}, got {event.type!r}"
                    )
                erased.append(len(keys))
                rows.append(_pack(record.timestamp, 0, 0, 0, 0, 0, 0, 0))
            else:
                time = event.timestamp
                if not isinstance(time, int):
                    time = (time - _EPOCH) // _MILLISECOND
                if not TIME_MIN_MS <= time <= record.timestamp + TIME_AHEAD_MS:
                    raise _out_of_time(time, record.timestamp)
                rating = 0
                if code == _REVIEW:
                    rating = round(10 * event.rating) if event.rating is not None else 0
                    if event.text:
                        texts_cut += len(event.text) > TEXT_MAX_CHARS
                        tokens = text_tokens(event.text[:TEXT_MAX_CHARS])
                        if tokens:
                            texts[len(keys)] = tokens
                rows.append(
                    _pack(
                        time,
                        hash64(event.item_id),
                        0 if event.event_id is None else hash64(event.event_id),
                        0 if event.category_id is None else hash32(event.category_id),
                        code,
                        rating,
                        amount_code(event.price),
                        amount_code(event.quantity),
                    )
                )
        except _RefusedError as error:
            refused.append(Refused(record, error.reason, error.detail[:DETAIL_MAX_CHARS]))
            continue
        keys.append(key)
        offsets.append(record.offset)
    count = len(keys)
    erase = np.zeros(count, bool)
    erase[erased] = True
    text_row = np.full(count, -1, np.int32)
    text_row[list(texts)] = np.arange(len(texts), dtype=np.int32)
    return Decoded(
        keys=keys,
        offset=np.array(offsets, np.int64),
        events=np.frombuffer(b"".join(rows), EVENT_DTYPE),
        erase=erase,
        text_row=text_row,
        tokens=token_rows(list(texts.values())),
        refused=refused,
        texts_cut=texts_cut,
        republish=republish,
    )


def token_rows(rows: Sequence[Sequence[int]]) -> NDArray[np.uint32]:
    """Tokens of several texts as one array, uint32 [texts, TEXT_MAX_TOKENS], 0 after the last."""
    padded = np.zeros((len(rows), TEXT_MAX_TOKENS), np.uint32)
    for row, tokens in zip(padded, rows, strict=True):
        row[: len(tokens)] = tokens
    return padded


def _parse(key: bytes | None, value: bytes | None) -> _Event | _Order:
    """JSON to an event, or an erase or republish record; raises _RefusedError."""
    if not key:
        raise _RefusedError(Reason.MISSING_KEY, "the record key must be the user_id in UTF-8, got none")
    if not value:
        raise _RefusedError(Reason.EMPTY, "the record has no value")
    if len(value) + len(key) > RECORD_MAX_BYTES:
        raise _RefusedError(
            Reason.TOO_LARGE, f"key and value have {len(value) + len(key)} bytes, at most {RECORD_MAX_BYTES} are taken"
        )
    try:
        value.decode()  # of fields that it does not know msgspec looks at no byte; 40 ns an event
        return _decode_event(value)
    except UnicodeDecodeError as error:
        raise _RefusedError(Reason.NOT_UTF8, f"value: {error}") from None
    except RecursionError:
        raise _RefusedError(Reason.NOT_JSON, "value: nested too deeply") from None
    except msgspec.ValidationError as error:
        try:
            return _decode_order(value)
        except (msgspec.DecodeError, RecursionError):
            raise _invalid(value, str(error)) from None
    except msgspec.DecodeError as error:
        raise _malformed(value, str(error)) from None


def _mismatch(user: str, key: bytes | None) -> _RefusedError:
    try:
        (key or b"").decode()
    except UnicodeDecodeError as error:
        return _RefusedError(Reason.NOT_UTF8, f"key: {error}")
    return _RefusedError(Reason.KEY_MISMATCH, f"$.user_id: {user!r} is not the record key {key!r}")


def _malformed(value: bytes, message: str) -> _RefusedError:
    if not value.strip(b" \t\r\n"):
        return _RefusedError(Reason.EMPTY, "the value is blank")
    if value.startswith(b"\xef\xbb\xbf"):
        message += "; it starts with a byte order mark"
    return _RefusedError(Reason.NOT_JSON, f"value: {message}")


def _invalid(value: bytes, message: str) -> _RefusedError:
    """msgspec's words to a reason; it stops at the first bad field, so what follows is read once more for JSON."""
    try:
        _skip(value)
    except RecursionError:
        return _RefusedError(Reason.NOT_JSON, "value: nested too deeply")
    except msgspec.DecodeError as error:
        return _RefusedError(Reason.NOT_JSON, f"value: {error}")
    what, _, path = message.partition(" - at `")
    where = path.rstrip("`") or "$"
    if "missing required field" in what:
        reason = Reason.MISSING_FIELD
    elif where == "$":
        reason = Reason.NOT_AN_OBJECT
    elif "got `" in what or "datetime" in what:
        reason = Reason.WRONG_TYPE
    else:
        reason = Reason.OUT_OF_RANGE
    return _RefusedError(reason, f"{where}: {what}")


def _out_of_time(time: int, record_time: int) -> _RefusedError:
    if record_time < 0:
        return _RefusedError(Reason.TIMESTAMP_IN_FUTURE, "the record has no time of its own to compare with")
    if time < TIME_MIN_MS:
        hint = "; it looks like seconds, milliseconds are expected" if time >= TIME_MIN_MS // 1000 else ""
        return _RefusedError(Reason.TIMESTAMP_TOO_OLD, f"$.timestamp: {time} is before the year 2000{hint}")
    hint = "; it looks like microseconds, milliseconds are expected" if time >= TIME_MIN_MS * 1000 else ""
    return _RefusedError(
        Reason.TIMESTAMP_IN_FUTURE,
        f"$.timestamp: {time} is over {TIME_AHEAD_MS // 1000} s ahead of the record's own time {record_time}{hint}",
    )
