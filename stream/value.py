"""The table value of a user: bytes that hold the window and nothing of a model. The layout is frozen.

====================  =======================================================================================
bytes                 meaning, little-endian
====================  =======================================================================================
1                     format, 1
8                     version, unsigned: events of this user that were accepted
8                     floor, signed, ms: events before it are late
1                     number of sources
2                     number of events
16 a source           hash of the topic's name and id, unsigned; offset of the last accepted record, signed
32 an event           :data:`stream.contract.EVENT_DTYPE`, oldest first
1 + 4·n a review      number of tokens n (0: no text), then the tokens, in the order of the events
====================  =======================================================================================

A user who was erased has version 0 and no events: a marker whose floor keeps older events out.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import xxhash
from numpy.typing import NDArray

from stream.contract import EVENT_DTYPE, EVENT_TYPES, TEXT_MAX_TOKENS
from stream.errors import TableValueError

FORMAT = 1
HEAD_DTYPE = np.dtype(
    [("format", "u1"), ("version", "<u8"), ("floor", "<i8"), ("sources", "u1"), ("events", "<u2")], align=False
)
SOURCE_DTYPE = np.dtype([("source", "<u8"), ("offset", "<i8")])
HEAD_BYTES = HEAD_DTYPE.itemsize
SOURCE_BYTES = SOURCE_DTYPE.itemsize
EVENT_BYTES = EVENT_DTYPE.itemsize

_head = struct.Struct("<BQqBH")
_source = struct.Struct("<Qq")
_time = struct.Struct("<q")
_REVIEW = EVENT_TYPES["review"]
assert EVENT_DTYPE.fields is not None
assert HEAD_DTYPE.fields is not None
_SOURCES_AT: int = HEAD_DTYPE.fields["sources"][1]
_TYPE_AT: int = EVENT_DTYPE.fields["type"][1]


def source_hash(topic: str, topic_id: bytes) -> int:
    """Names a source of events: a topic that is deleted and made anew has another id, so its offsets start anew."""
    return xxhash.xxh3_64_intdigest(topic.encode() + b"\0" + topic_id) or 1


@dataclass(frozen=True, slots=True)
class UserState:
    """What is remembered of one user."""

    version: int
    floor: int  # ms
    positions: dict[int, int]  # source hash -> offset of the last accepted record
    events: NDArray[np.void]  # EVENT_DTYPE [events], oldest first
    tokens: list[list[int]] = field(default_factory=list)  # for each event; empty where there is no text


def pack(state: UserState) -> bytes:
    """The bytes of one user's state."""
    parts = [_head.pack(FORMAT, state.version, state.floor, len(state.positions), len(state.events))]
    parts += [_source.pack(source, offset) for source, offset in state.positions.items()]
    parts.append(state.events.tobytes())
    for index in np.flatnonzero(state.events["type"] == _REVIEW):
        parts.append(pack_tokens(state.tokens[index] if state.tokens else ()))
    return b"".join(parts)


def unpack(value: bytes) -> UserState:
    """The state of one user from its bytes.

    Raises:
        TableValueError: unknown format byte, or not as long as it says.
    """
    version, floor, sources, events = check(value)
    start = HEAD_BYTES + SOURCE_BYTES * sources
    window = np.frombuffer(value, EVENT_DTYPE, events, start)
    tokens = unpack_tokens(value, start + EVENT_BYTES * events, window["type"])
    return UserState(version, floor, _positions(value), window, tokens)


def check(value: bytes) -> tuple[int, int, int, int]:
    """Version, floor, number of sources and of events, once the value is known to be long enough for them."""
    if not value or value[0] != FORMAT:
        raise TableValueError(f"format byte is {value[:1].hex() or 'missing'}, this release reads {FORMAT:02x}")
    if len(value) < HEAD_BYTES:
        raise TableValueError(f"cut short: {len(value)} bytes, a head has {HEAD_BYTES}")
    _, version, floor, sources, events = _head.unpack_from(value)
    least = HEAD_BYTES + SOURCE_BYTES * sources + EVENT_BYTES * events
    if len(value) < least:
        raise TableValueError(f"cut short: {len(value)} bytes, {sources} sources and {events} events need {least}")
    return version, floor, sources, events


def newest_ms(value: bytes) -> int | None:
    """Time of the newest event; None for a marker.

    Raises:
        TableValueError: as `unpack` does. What is read from a changelog is looked at here, and no later.
    """
    _, _, sources, events = check(value)
    start = HEAD_BYTES + SOURCE_BYTES * sources
    end = start + EVENT_BYTES * events
    _check_tokens(value, end, value[start + _TYPE_AT : end : EVENT_BYTES].count(_REVIEW))
    if not events:
        return None
    newest: int = _time.unpack_from(value, end - EVENT_BYTES)[0]
    return newest


def newest_of(values: Sequence[bytes]) -> list[int | None]:
    """What :func:`newest_ms` tells of each value, for all that have no text at once, at a fraction of the time.

    Raises:
        TableValueError: a value cannot be read.
    """
    length = np.fromiter(map(len, values), np.int64, len(values))
    if not len(values) or length.min() < HEAD_BYTES:
        return list(map(newest_ms, values))
    whole = np.frombuffer(b"".join(values), np.uint8)
    end = np.cumsum(length)
    begin = end - length
    heads = whole[begin[:, None] + np.arange(HEAD_BYTES)].view(HEAD_DTYPE)[:, 0]
    events = heads["events"].astype(np.int64)
    first = begin + HEAD_BYTES + SOURCE_BYTES * heads["sources"].astype(np.int64)
    is_plain = (heads["format"] == FORMAT) & (first + EVENT_BYTES * events == end)
    events[~is_plain] = 0
    of = np.repeat(np.arange(len(values)), events)  # of each event its value
    place = np.arange(len(of)) - np.repeat(np.cumsum(events) - events, events)
    is_review = whole[first[of] + EVENT_BYTES * place + _TYPE_AT] == _REVIEW
    is_plain[of[is_review]] = False
    newest: list[int | None] = [None] * len(values)
    some = np.flatnonzero(is_plain & (events > 0))
    times = whole[(end[some] - EVENT_BYTES)[:, None] + np.arange(_time.size)].view("<i8")
    for index, time in zip(some.tolist(), times[:, 0].tolist() if len(some) else (), strict=True):
        newest[index] = time
    for index in np.flatnonzero(~is_plain).tolist():
        newest[index] = newest_ms(values[index])
    return newest


def last_ms(value: bytes) -> int:
    """The time that decides whether a user is idle: of the newest event, or the floor of a marker."""
    newest = newest_ms(value)
    return check(value)[1] if newest is None else newest


def is_stale(value: bytes, than: bytes) -> bool:
    """Whether `value` was written by somebody who knew less than the writer of `than`: a source is further back.

    A worker that lost its partitions without knowing may still write; such a value must not win over the new owner's.
    """
    if value[_SOURCES_AT] == than[_SOURCES_AT] == 1:  # nearly all
        source, offset = _source.unpack_from(value, HEAD_BYTES)
        known, reached = _source.unpack_from(than, HEAD_BYTES)
        return bool(source == known and offset < reached)
    mine, other = _positions(value), _positions(than)
    return any(mine[source] < offset for source, offset in other.items() if source in mine)


def _positions(value: bytes) -> dict[int, int]:
    return dict(_source.iter_unpack(value[HEAD_BYTES : HEAD_BYTES + SOURCE_BYTES * value[_SOURCES_AT]]))


def pack_tokens(tokens: Sequence[int]) -> bytes:
    """The tokens of one review: their number, then each."""
    return struct.pack(f"<B{len(tokens)}I", len(tokens), *tokens)


def unpack_tokens(value: bytes, start: int, types: NDArray[np.uint8]) -> list[list[int]]:
    """The tokens of each event; `start` is where the reviews' begin. Raises TableValueError when the end is amiss."""
    tokens: list[list[int]] = [[] for _ in types]
    reviews = np.flatnonzero(types == _REVIEW)
    _check_tokens(value, start, len(reviews))
    for index in reviews:
        count = value[start]
        tokens[index] = list(struct.unpack_from(f"<{count}I", value, start + 1))
        start += 1 + 4 * count
    return tokens


def _check_tokens(value: bytes, start: int, reviews: int) -> None:
    """Whether the tokens of so many reviews fill the bytes from `start` on."""
    for _ in range(reviews):
        count = value[start] if start < len(value) else TEXT_MAX_TOKENS + 1
        if count > TEXT_MAX_TOKENS or start + 1 + 4 * count > len(value):
            raise TableValueError(f"cut short: {len(value)} bytes end within the text of a review")
        start += 1 + 4 * count
    if start != len(value):
        raise TableValueError(f"{len(value)} bytes, {start} expected")
