"""An event log, read and checked as the worker would: each user's events in the order of their times."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from models.formats import read as read_rows
from models.rows import Mapped
from stream.decode import Decoded, decode
from stream.errors import UsageError
from stream.eventfile import open_events

LINES_A_BATCH = 16_384
# A log has no record times to compare with; after this (2100) a time is in another unit than milliseconds.
NEWEST_MS = 4_102_444_800_000


JSON = "json"
AS_NAMED = Mapped()

#: Lines with where they stand, and what is wrong with those that are left out.
Batch = tuple[list[tuple[str, bytes]], list[str]]


class _Line(msgspec.Struct, gc=False):
    """What a line says beside the event itself; names of another type than text are left out."""

    user_id: object = None
    item_id: object = None
    category_id: object = None
    item_name: object = None
    category_name: object = None
    attributes: object = None


class _Record(NamedTuple):
    key: bytes | None
    value: bytes
    offset: int
    timestamp: int = NEWEST_MS
    headers: tuple[()] = ()


@dataclass
class Names:
    """Items and categories by id, as events and catalog files tell of them; the last word counts."""

    items: dict[str, str] = field(default_factory=dict)  # name, or the id
    categories: dict[str, str] = field(default_factory=dict)  # name, or the id
    category_of: dict[str, str] = field(default_factory=dict)  # item id to category id; absent where none was told
    attributes_of: dict[str, list[str]] = field(default_factory=dict)  # item id to what a catalog file says it has

    def learn(self, line: _Line) -> None:
        """Take in one line that has an item id."""
        item, category = line.item_id, line.category_id
        if not isinstance(item, str) or not item:
            return
        if isinstance(line.item_name, str) and line.item_name:
            self.items[item] = line.item_name
        else:
            self.items.setdefault(item, item)
        if isinstance(category, str) and category:
            self.category_of[item] = category
            if isinstance(line.category_name, str) and line.category_name:
                self.categories[category] = line.category_name
            else:
                self.categories.setdefault(category, category)


@dataclass(frozen=True, eq=False)
class Log:
    """All events, those of a user together and by time; equal times keep the log's order."""

    events: NDArray[np.void]  # EVENT_DTYPE [events]
    text_row: NDArray[np.int32]  # [events], row of `tokens`; -1: no text
    tokens: NDArray[np.uint32]  # [texts, 64], padded with 0
    starts: NDArray[np.int64]  # [users + 1], where each user's events begin; the last: the number of events
    names: Names
    lines: int  # read, blank ones left out
    refused: int  # lines that are no event of the contract
    first_refusal: str  # of which line, and why; "" if none
    repeated: int  # events left out since their event_id came before

    @property
    def users(self) -> int:
        """Users with an event."""
        return len(self.starts) - 1


def read(
    path: Path,
    catalog: Path | None = None,
    *,
    form: str = JSON,
    mapped: Mapped = AS_NAMED,
    attributes: Path | None = None,
) -> Log:
    """Read a log in the order of delivery: JSON Lines of the event contract, or a format of `models.formats`.

    Fields beyond the contract are ignored but for `item_name` and `category_name`. `catalog`, JSON Lines too, may name
    items and categories, and tell of items without an event: `item_id`, `category_id`, `item_name`, `category_name`,
    `attributes` (a list of texts). `attributes`, one JSON object of item id to list, tells of the log's items only.

    Raises:
        UsageError: no such file, or no event in it; names the first line that is none, and why.
    """
    names = Names()
    users: dict[bytes, int] = {}
    parts: list[Decoded] = []
    user_of: list[int] = []
    refused, first_refusal, texts, lines = 0, "", 0, 0
    for batch, problems in _batches(path) if form == JSON else _converted(path, form, mapped):
        lines += len(batch) + len(problems)
        refused += len(problems)
        first_refusal = first_refusal or next(iter(problems), "")
        records, told = [], []
        for number, (_, line) in enumerate(batch):
            seen = _peek(line)
            told.append(seen)
            records.append(_Record(seen.user_id.encode() if isinstance(seen.user_id, str) else None, line, number))
        decoded = decode(records)
        for key, number, erase in zip(decoded.keys, decoded.offset.tolist(), decoded.erase.tolist(), strict=True):
            user_of.append(users.setdefault(key, len(users)))
            if not erase:
                names.learn(told[number])
        if decoded.refused and not first_refusal:
            first = decoded.refused[0]
            first_refusal = f"{batch[first.record.offset][0]}: {first.reason}: {first.detail}"
        refused += len(decoded.refused)
        decoded.text_row[decoded.text_row >= 0] += texts
        texts += len(decoded.tokens)
        parts.append(decoded)
    if catalog is not None:
        for batch, _ in _batches(catalog):
            for place, line in batch:
                told_of = _peek(line)
                if not isinstance(told_of.item_id, str):
                    raise UsageError(f"{catalog}: {place}: expected a JSON object with item_id, got {line[:60]!r}")
                names.learn(told_of)
                _attribute(names, told_of.item_id, told_of.attributes, f"{catalog}: {place}")
    if attributes is not None:
        for item, has in _attributes(attributes).items():
            if item in names.items:  # it names no item that the log lacks: what it is of may be another log
                _attribute(names, item, has, f"{attributes}: {item}")
    if not user_of:
        why = f", got {lines} lines that are not; {first_refusal}" if lines else ", got an empty file"
        raise UsageError(f"{path}: expected events as {'JSON Lines' if form == JSON else form}{why}")
    user = np.array(user_of, np.int64)
    events = np.concatenate([part.events for part in parts])
    kept, repeated = _kept(user, events, np.concatenate([part.erase for part in parts]))
    order = kept[np.lexsort((kept, events["timestamp"][kept], user[kept]))]
    _, counts = np.unique(user[order], return_counts=True)
    return Log(
        events=events[order],
        text_row=np.concatenate([part.text_row for part in parts])[order],
        tokens=np.concatenate([part.tokens for part in parts]),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        names=names,
        lines=lines,
        refused=refused,
        first_refusal=first_refusal,
        repeated=repeated,
    )


def _attribute(names: Names, item: str, has: object, where: str) -> None:
    if has is None:
        return
    if not isinstance(has, list) or not all(isinstance(one, str | int) for one in has):
        raise UsageError(f"{where}: expected attributes as a list of texts or numbers, got {str(has)[:60]}")
    names.attributes_of[item] = [str(one) for one in has]


def _attributes(path: Path) -> dict[str, object]:
    """A file of one JSON object, item id to list, as S3-Rec writes it."""
    try:
        with open_events(str(path)) as stream:
            told = orjson.loads(stream.read())
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{path}: expected one JSON object of item id to list of attributes: {error}") from error
    if not isinstance(told, dict):
        raise UsageError(f"{path}: expected one JSON object of item id to list of attributes, got {str(told)[:60]}")
    return told


def _kept(user: NDArray[np.int64], events: NDArray[np.void], erase: NDArray[np.bool_]) -> tuple[NDArray[np.int64], int]:
    """Places, ascending, of events that no later erase record and no earlier event of the same id takes away."""
    place = np.arange(len(user))
    last_erase = np.full(int(user.max()) + 1, -1, np.int64)
    np.maximum.at(last_erase, user[erase], place[erase])
    place = place[~erase & (place > last_erase[user])]
    named = place[events["event_id"][place] != 0]
    order = named[np.lexsort((named, events["event_id"][named], user[named]))]
    again = (np.diff(user[order]) == 0) & (np.diff(events["event_id"][order]) == 0)
    dropped = order[1:][again]
    return np.setdiff1d(place, dropped), len(dropped)


def _peek(line: bytes) -> _Line:
    try:
        return _decode_line(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Line()


_decode_line = msgspec.json.Decoder(_Line).decode


def _batches(path: Path) -> Iterator[Batch]:
    """Lines that are not blank, in batches."""
    try:
        with path.open("rb") as file:
            yield from _read(file)
    except OSError as error:
        raise UsageError(f"{path}: expected a file of JSON Lines: {error.strerror}") from error


def _read(file: BinaryIO) -> Iterator[Batch]:
    lines = ((f"line {number}", line.strip()) for number, line in enumerate(file, start=1))
    filled = ((place, line) for place, line in lines if line)
    while batch := list(islice(filled, LINES_A_BATCH)):
        yield batch, []


def _converted(path: Path, form: str, mapped: Mapped) -> Iterator[Batch]:
    """Rows of another format as the JSON that a shop would publish, and what is amiss with the others."""
    rows = read_rows(path, form, mapped)
    while batch := list(islice(rows, LINES_A_BATCH)):
        lines, problems = [], []
        for row in batch:
            if row.event is None:
                problems.append(f"{row.place}: {row.problem}")
                continue
            try:
                lines.append((row.place, orjson.dumps(row.event)))
            except orjson.JSONEncodeError:
                problems.append(f"{row.place}: expected text that UTF-8 can hold")
        yield lines, problems


def catalog_lists(names: Names) -> dict[str, list[str]]:
    """The arguments of Catalog.build, by id in order of the alphabet."""
    items, categories = sorted(names.items), sorted(names.categories)
    return {
        "item_ids": items,
        "item_names": [names.items[item] for item in items],
        "item_categories": [names.category_of.get(item, "") for item in items],
        "category_ids": categories,
        "category_names": [names.categories[category] for category in categories],
    }
