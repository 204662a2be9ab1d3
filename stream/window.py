"""The windows of many users as columns, from and to table values."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream.contract import EVENT_DTYPE, EVENT_TYPES
from stream.decode import token_rows
from stream.errors import TableValueError
from stream.value import (
    EVENT_BYTES,
    FORMAT,
    HEAD_BYTES,
    HEAD_DTYPE,
    SOURCE_BYTES,
    SOURCE_DTYPE,
    check,
    pack_tokens,
    unpack,
    unpack_tokens,
)

NO_POSITION = -1
SOURCES_MAX = 255
NO_TIME = np.iinfo(np.int64).min // 2  # before any time, and far enough from the end to subtract from

_EMPTY_HEAD = np.array([(FORMAT, 0, 0, 0, 0)], HEAD_DTYPE).tobytes()
_REVIEW = EVENT_TYPES["review"]


@dataclass(frozen=True, slots=True)
class Windows:
    """The state of `users` users. The events of user u are `events[start[u]:start[u + 1]]`, oldest first."""

    sources: tuple[int, ...]  # hashes of the sources that are read, the columns of `position`
    version: NDArray[np.int64]  # [users]
    floor: NDArray[np.int64]  # [users], ms
    position: NDArray[np.int64]  # [users, sources], offset of the last accepted record, NO_POSITION: none
    start: NDArray[np.int64]  # [users + 1]
    events: NDArray[np.void]  # EVENT_DTYPE [events]
    text_row: NDArray[np.int32]  # [events], row in `tokens`, -1 without text
    tokens: NDArray[np.uint32]  # [rows, TEXT_MAX_TOKENS], 0 after the last
    # Positions of sources that are not read now, by user: a topic left out for a while, or its former id.
    others: dict[int, dict[int, int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.version)

    @property
    def newest(self) -> NDArray[np.int64]:
        """Time of the newest event, int64 [users], NO_TIME for a user without any."""
        newest = np.full(len(self), NO_TIME, np.int64)
        some = np.flatnonzero(self.start[1:] > self.start[:-1])
        newest[some] = self.events["timestamp"][self.start[some + 1] - 1]
        return newest

    @property
    def mark(self) -> NDArray[np.int64]:
        """What tells one window of a user from all others, int64 [users, 1 + sources]: version and positions.

        Each accepted record raises a position, so the same mark means the same window, also after the user was erased
        and is back at a former version, or was another worker's for a while.
        """
        return np.concatenate([self.version[:, None], self.position], axis=1)


def load(values: Sequence[bytes | None], sources: Sequence[int]) -> Windows:
    """Table values to columns; `sources` are the hashes of the sources that are read.

    Raises:
        TableValueError: a value cannot be read; the line says which and why.
    """
    users = len(values)
    length = np.array([HEAD_BYTES if v is None else len(v) for v in values], np.int64)
    if (length < HEAD_BYTES).any():
        check(values[int(np.argmin(length))] or b"")
    heads = np.frombuffer(b"".join([_EMPTY_HEAD if v is None else v[:HEAD_BYTES] for v in values]), HEAD_DTYPE)
    if (heads["format"] != FORMAT).any():
        check(values[int(np.argmax(heads["format"] != FORMAT))] or b"")
    count = heads["events"].astype(np.int64)
    begin = HEAD_BYTES + SOURCE_BYTES * heads["sources"].astype(np.int64)
    end = begin + EVENT_BYTES * count
    if (length < end).any():
        check(values[int(np.argmax(length < end))] or b"")
    start = np.zeros(users + 1, np.int64)
    np.cumsum(count, out=start[1:])
    events = np.frombuffer(
        b"".join([v[a:b] for v, a, b in zip(values, begin.tolist(), end.tolist(), strict=True) if v]), EVENT_DTYPE
    )
    position, others = _positions(values, heads["sources"], sources)
    text_row = np.full(len(events), -1, np.int32)
    rows: list[list[int]] = []
    for user in np.flatnonzero(length > end).tolist():
        at = int(start[user])
        texts = unpack_tokens(values[user] or b"", int(end[user]), events["type"][at : int(start[user + 1])])
        for index, tokens in enumerate(texts):
            if tokens:
                text_row[at + index] = len(rows)
                rows.append(tokens)
    return Windows(
        sources=tuple(sources),
        version=heads["version"].astype(np.int64),
        floor=heads["floor"].astype(np.int64),
        position=position,
        start=start,
        events=events,
        text_row=text_row,
        tokens=token_rows(rows),
        others=others,
    )


def _positions(
    values: Sequence[bytes | None], counts: NDArray[np.uint8], sources: Sequence[int]
) -> tuple[NDArray[np.int64], dict[int, dict[int, int]]]:
    """Positions [users, sources], and what is noted of other sources."""
    position = np.full((len(values), len(sources)), NO_POSITION, np.int64)
    others: dict[int, dict[int, int]] = {}
    one = np.flatnonzero(counts == 1)
    pairs = np.frombuffer(
        b"".join([(values[u] or b"")[HEAD_BYTES : HEAD_BYTES + SOURCE_BYTES] for u in one.tolist()]), SOURCE_DTYPE
    )
    known = np.zeros(len(one), bool)
    for column, source in enumerate(sources):
        mine = pairs["source"] == source
        position[one[mine], column] = pairs["offset"][mine]
        known |= mine
    columns = {source: column for column, source in enumerate(sources)}
    for user in [*one[~known].tolist(), *np.flatnonzero(counts > 1).tolist()]:
        for source, offset in unpack(values[user] or b"").positions.items():
            if source in columns:
                position[user, columns[source]] = offset
            else:
                others.setdefault(user, {})[source] = offset
    return position, others


def dump(windows: Windows, users: NDArray[np.int64]) -> list[bytes]:
    """The table values of some users, in the order of `users`; the inverse of :func:`load`.

    Raises:
        TableValueError: a user's events came from more topics than a value can note.
    """
    heads = np.zeros(len(users), HEAD_DTYPE)
    heads["format"] = FORMAT
    heads["version"] = windows.version[users]
    heads["floor"] = windows.floor[users]
    noted = windows.position[users] != NO_POSITION
    extra = np.array([len(windows.others.get(u, ())) for u in users.tolist()], np.int64) if windows.others else 0
    sources = noted.sum(axis=1) + extra
    if len(users) and sources.max() > SOURCES_MAX:
        raise TableValueError(f"{sources.max()} event topics noted for one user, a table value holds {SOURCES_MAX}")
    heads["sources"] = sources
    begin, end = windows.start[users], windows.start[users + 1]
    heads["events"] = end - begin

    pairs = np.zeros(int(noted.sum()), SOURCE_DTYPE)
    rows, columns = np.nonzero(noted)
    pairs["source"] = np.array(windows.sources, np.uint64)[columns]
    pairs["offset"] = windows.position[users[rows], columns]
    pair_end = np.cumsum(noted.sum(axis=1)) * SOURCE_BYTES

    head, pair, event = heads.tobytes(), pairs.tobytes(), windows.events.tobytes()
    values = [
        head[h : h + HEAD_BYTES] + pair[p:q] + event[a:b]
        for h, p, q, a, b in zip(
            range(0, len(head), HEAD_BYTES),
            [0, *pair_end.tolist()],
            pair_end.tolist(),
            (begin * EVENT_BYTES).tolist(),
            (end * EVENT_BYTES).tolist(),
            strict=False,
        )
    ]
    for index, user in enumerate(users.tolist() if windows.others else ()):
        pairs_of_others = np.array(list(windows.others.get(user, {}).items()), SOURCE_DTYPE).tobytes()
        cut = HEAD_BYTES + int(noted[index].sum()) * SOURCE_BYTES
        values[index] = values[index][:cut] + pairs_of_others + values[index][cut:]
    review = windows.events["type"] == _REVIEW
    if review.any():
        total = np.concatenate([[0], np.cumsum(review)])
        for index in np.flatnonzero(total[end] > total[begin]).tolist():
            a, b = int(begin[index]), int(end[index])
            texts = [windows.tokens[row] if row >= 0 else () for row in windows.text_row[a:b][review[a:b]].tolist()]
            values[index] += b"".join([pack_tokens([int(t) for t in text if t]) for text in texts])
    return values
