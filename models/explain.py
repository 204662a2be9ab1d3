"""Which events of a user's window moved the vector, and where to: the window with and without each of them.

Leave-one-out: what an event did is the vector of the window less the vector of the window without it. Gaps are taken
anew, since the next event then follows the one before. Such parts do not add up to the whole: two events that say the
same can each be left out without much change.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
import numpy as np
import onnxruntime
import orjson
from numpy.typing import NDArray

from models.bundle import Bundle
from models.clean import Limits, clean
from models.formats import read as read_rows
from models.golden import UNIT_TOLERANCE, whole
from models.log import AS_NAMED, JSON, Log, Names, read
from models.rows import Mapped
from models.windows import Windows
from stream import window as stored
from stream.apply import Arrivals, apply
from stream.contract import EVENT_TYPES, hash32, hash64
from stream.errors import BundleError, UsageError
from stream.eventfile import open_events
from stream.rules import Rules

BLOCK: Final = 128  # windows of one call of the graph
SHOWN: Final = 5  # users whom an error names
SOURCE: Final = 1
TYPES: Final = {code: name for name, code in EVENT_TYPES.items()}


@dataclass(frozen=True, eq=False)
class Held:
    """What a worker holds of one user at the end of a log."""

    user: str
    window: Windows  # one window
    names: Names  # of the items and categories of the user's events, as the log calls them


@dataclass(frozen=True, eq=False)
class Explained:
    """A window's vector, and what each of its events did to it. A score is the cosine of vector and item."""

    held: Held
    vector: NDArray[np.float32]  # [dim]
    without: NDArray[np.float32]  # [events, dim], the vector without each event; zeros: it was the only one
    item: NDArray[np.int64]  # [events], the catalog's row; 0: unknown
    category: NDArray[np.int64]  # [events], the event's own, else its item's; 0: none known

    @property
    def events(self) -> NDArray[np.void]:
        """EVENT_DTYPE [events], oldest first."""
        found: NDArray[np.void] = self.held.window.events[0]
        return found

    @property
    def moved(self) -> NDArray[np.float64]:
        """1 - cosine of the vectors with and without each event, float64 [events]: 0 not at all, 2 turned around."""
        cosine = self.without.astype(np.float64) @ self.vector.astype(np.float64)
        return np.clip(1 - cosine, 0, 2)

    def raised(self, vectors: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """For each event, how much it added to the score of each of `vectors` [rows, dim]: float32 [rows]."""
        for without in self.without:
            yield vectors @ (self.vector - without)

    def adds(self, vector: NDArray[np.float32]) -> NDArray[np.float64]:
        """How much each event added to the score of one vector [dim]: float64 [events]."""
        added: NDArray[np.float64] = (self.vector - self.without).astype(np.float64) @ vector.astype(np.float64)
        return added


def lines_of(
    path: Path, users: Sequence[str], first: int = 0, *, form: str = JSON, mapped: Mapped = AS_NAMED
) -> dict[str, list[bytes]]:
    """The lines of some users, as JSON: of those that are named, in their order, else of the `first` few of the log.

    Whatever decides on an event looks at its own user alone (the window's rules, limits of cleaning), so that these
    lines tell the same of a user as the whole log does.

    Raises:
        UsageError: a user who is named has no line.
        InterestError: the file cannot be read.
    """
    found: dict[str, list[bytes]] = {user: [] for user in users}
    seen: dict[str, None] = {}
    for user, line in _users(path) if form == JSON else _converted(path, form, mapped):
        if len(seen) < SHOWN:
            seen[user] = None
        if not users and len(found) < first:
            found.setdefault(user, [])
        if user in found:
            found[user].append(line)
    missing = [user for user, lines in found.items() if not lines]
    if missing:
        there = f"the first users there are {', '.join(map(repr, seen))}" if seen else "nor of anybody"
        raise UsageError(f"{path}: expected events of user {missing[0]!r}, got none; {there}")
    if not found:
        raise UsageError(f"{path}: expected events as {'JSON Lines' if form == JSON else form}, got none of any user")
    return found


def held(lines: Sequence[bytes], user: str, rules: Rules, limits: Limits, where: str) -> Held:
    """The window that a worker would hold after a user's events, lines of JSON, by the worker's own rules.

    Raises:
        UsageError: none of the lines is an event within the limits; names `where` and the user.
    """
    said = f"{where}: expected events of user {user!r} that a worker would take"
    with TemporaryDirectory() as folder:
        own = Path(folder) / "own"
        own.write_bytes(b"\n".join(lines))
        try:
            log = read(own)
        except UsageError as error:
            _, _, why = str(error).partition("; ")
            raise UsageError(f"{said}, got {len(lines)} lines that are none; of them {why}") from error
    if not log.users:
        raise UsageError(f"{said}, got an erase record after them all")
    try:
        cleaned, _ = clean(log, limits)
    except UsageError as error:
        raise UsageError(f"{where}: user {user!r}: {error}") from error
    return Held(user, _window(cleaned, rules), log.names)


def explain(bundle: Bundle, session: onnxruntime.InferenceSession, held: Held) -> Explained:
    """Run the window whole and without each of its events.

    Raises:
        BundleError: a vector is not of unit length: a worker would not publish it.
    """
    window, count = held.window, len(held.window.events[0])
    vectors = [whole(session, bundle.signature, bundle.features, window)]
    if count > 1:
        rows = np.arange(count)
        left = np.arange(count - 1) + (np.arange(count - 1) >= rows[:, None])  # [events, events - 1]
        for start in range(0, count, BLOCK):
            place = left[start : start + BLOCK]
            length = np.full(len(place), count - 1, np.int32)
            part = replace(window, events=window.events[0][place], text_row=window.text_row[0][place], length=length)
            vectors.append(whole(session, bundle.signature, bundle.features, part))
    found = np.concatenate(vectors)
    length = np.linalg.norm(found, axis=1)
    bad = np.flatnonzero(~(np.abs(length - 1) <= UNIT_TOLERANCE))
    if len(bad):
        raise BundleError(
            f"{bundle.folder}: vector of user {held.user!r} expected of unit length, got length {length[bad[0]]:g}"
        )
    item = bundle.features.items.find(window.events[0]["item"])
    told = bundle.features.categories.find(window.events[0]["category"])
    return Explained(
        held=held,
        vector=found[0],
        without=found[1:] if count > 1 else np.zeros((1, bundle.dim), np.float32),
        item=item,
        category=np.where(told > 0, told, bundle.features.item_category[item]),
    )


def item_row(bundle: Bundle, item_id: str) -> int:
    """The row of an item.

    Raises:
        UsageError: the bundle does not know it.
    """
    row = int(bundle.features.items.find(np.array([hash64(item_id)], np.uint64))[0])
    if not row:
        raise UsageError(
            f"expected an item of the {bundle.catalog.items - 1} that bundle {bundle.version} knows, got {item_id!r}"
        )
    return row


def described(bundle: Bundle, explained: Explained, top: int, item: int = 0) -> dict[str, Any]:
    """All of it, ready for JSON.

    Returns:
        `user_id`, `vector` (float32 [dim]), `categories` and `items` (the `top` nearest to the vector, each `id`,
        `name`, `score`), and `events`, oldest first: `timestamp` (ms), `type`, `item_id`, `item_name`, `category_id`,
        `category_name` (null where neither catalog nor log tells), `moved` (1 - cosine), `item_added` and
        `category_added` (to the scores of the event's own; null where the bundle does not know them), and `categories`
        and `items`: the `top` whose score it raised most, each `id`, `name`, `added`. With the row of an `item`: each
        event's `added` to its score, and `item`: `id`, `name`, `score`, and `place` among all items, 1 the best, ties
        against it.
    """
    kinds = _kinds(bundle)
    own_item, own_category = bundle.items[explained.item], bundle.category_vectors[explained.category]
    apart = (explained.vector - explained.without).astype(np.float64)
    item_added, category_added = (apart * own_item).sum(axis=1), (apart * own_category).sum(axis=1)
    events = _named(bundle, explained)
    for place, (event, moved) in enumerate(zip(events, explained.moved.tolist(), strict=True)):
        event["moved"] = _round(moved)
        event["item_added"] = _round(item_added[place]) if explained.item[place] else None
        event["category_added"] = _round(category_added[place]) if explained.category[place] else None
    for name, (vectors, ids, names) in kinds.items():
        for event, added in zip(events, explained.raised(vectors), strict=True):
            best = [row for row in _best(added, top) if added[row] > 0]
            event[name] = [_one(ids, names, row, added=added[row]) for row in best]
    answer: dict[str, Any] = {"user_id": explained.held.user, "vector": explained.vector}
    for name, (vectors, ids, names) in kinds.items():
        score = vectors @ explained.vector
        answer[name] = [_one(ids, names, row, score=score[row]) for row in _best(score, top)]
    if item:
        vectors, ids, names = kinds["items"]
        score = vectors @ explained.vector
        place = int((score >= score[item - 1]).sum())
        answer["item"] = _one(ids, names, item - 1, score=score[item - 1]) | {"place": place}
        for event, one in zip(events, explained.adds(bundle.items[item]).tolist(), strict=True):
            event["added"] = _round(one)
    return answer | {"events": events}


Kind = tuple[NDArray[np.float32], NDArray[np.str_], NDArray[np.str_]]


def _kinds(bundle: Bundle) -> dict[str, Kind]:
    """Vectors, ids and names of what a vector can lean to, without the unknown one; categories without items too."""
    catalog = bundle.catalog
    return {
        "categories": (bundle.category_vectors[1:], catalog.category_ids[1:], catalog.category_names[1:]),
        "items": (bundle.items[1:], catalog.item_ids[1:], catalog.item_names[1:]),
    }


def _one(ids: NDArray[np.str_], names: NDArray[np.str_], row: int, **figures: float) -> dict[str, Any]:
    return {"id": str(ids[row]), "name": str(names[row])} | {name: _round(one) for name, one in figures.items()}


def _round(figure: float) -> float:
    """Beyond six places is what float32 leaves of a sum; never -0.0."""
    return round(float(figure), 6) + 0.0


def _best(score: NDArray[np.float32], count: int) -> list[int]:
    """Rows of the greatest scores, the greatest first; the earlier row of equal ones."""
    count = min(count, len(score))
    if not count:
        return []
    least = np.partition(score, len(score) - count)[len(score) - count]
    able = np.flatnonzero(score >= least)
    best: list[int] = able[np.argsort(-score[able], kind="stable")][:count].tolist()
    return best


def _named(bundle: Bundle, explained: Explained) -> list[dict[str, Any]]:
    """The events with ids and names: the catalog's, else the log's."""
    names, catalog = explained.held.names, bundle.catalog
    ids: Mapping[int, str] = {hash64(item): item for item in names.items}
    of_hash: Mapping[int, str] = {hash32(name): name for name in names.categories}
    events = []
    for event, item, category in zip(
        explained.events, explained.item.tolist(), explained.category.tolist(), strict=True
    ):
        entry: dict[str, Any] = {"timestamp": int(event["timestamp"]), "type": TYPES.get(int(event["type"]), "other")}
        item_id = str(catalog.item_ids[item]) if item else ids.get(int(event["item"]))
        entry["item_id"] = item_id
        entry["item_name"] = str(catalog.item_names[item]) if item else names.items.get(item_id or "")
        category_id = str(catalog.category_ids[category]) if category else of_hash.get(int(event["category"]))
        entry["category_id"] = category_id
        entry["category_name"] = (
            str(catalog.category_names[category]) if category else names.categories.get(category_id or "")
        )
        events.append(entry)
    return events


def _window(log: Log, rules: Rules) -> Windows:
    """The window after all events of a log of one user."""
    count = len(log.events)
    zeros = np.zeros(count, np.int64)
    arrivals = Arrivals(
        user=zeros,
        source=zeros,
        offset=np.arange(count),
        events=log.events,
        erase=np.zeros(count, bool),
        text_row=log.text_row,
        tokens=log.tokens,
    )
    nothing = stored.load([None], (SOURCE,))
    after = apply(nothing, arrivals, np.zeros(1, np.int64), np.full(1, stored.NO_TIME, np.int64), rules).windows
    return Windows(after.events[None], after.text_row[None], after.tokens, np.array([len(after.events)], np.int32))


class _Line(msgspec.Struct, gc=False):
    user_id: object = None


_decode_line = msgspec.json.Decoder(_Line).decode


def _users(path: Path) -> Iterator[tuple[str, bytes]]:
    """Lines of JSON that have a user; the others are nobody's."""
    with open_events(str(path)) as stream:
        for line in stream:
            try:
                user = _decode_line(line).user_id
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            if isinstance(user, str):
                yield user, line.strip()


def _converted(path: Path, form: str, mapped: Mapped) -> Iterator[tuple[str, bytes]]:
    """Rows of another format as the JSON that a shop would publish; those that are no event are nobody's."""
    for row in read_rows(path, form, mapped):
        user = None if row.event is None else row.event.get("user_id")
        if isinstance(user, str):
            try:
                yield user, orjson.dumps(row.event)
            except orjson.JSONEncodeError:  # text that UTF-8 cannot hold
                continue
