"""The rules of a window once more, slow and obvious: one record at a time, lists and dicts, nothing of the worker.

The worker's arrays are compared with this; it is written from the contract and shares with the code only the hashes,
and the call of the graph itself.
"""

import csv
import gzip
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle, run, session, zero_states
from stream.contract import EVENT_TYPES, hash32, hash64

#: What became of a record.
Outcome = Literal["accepted", "erased", "applied before", "duplicate", "late"]

TAOBAO_TYPES = {"pv": "click", "cart": "cart", "fav": "favorite", "buy": "purchase"}

WHOLE_INPUTS = ("item_index", "category_index", "event_type")
REAL_INPUTS = ("gap", "price", "quantity", "rating")


@dataclass(frozen=True)
class Event:
    """One decoded event, fields as the table stores them; `tokens` are those of a review's text."""

    timestamp: int
    item: int = 1
    event_id: int = 0
    category: int = 0
    type: int = 1
    rating: int = 0
    price: int = 0
    quantity: int = 0
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True)
class Erase:
    """An erase record; it has no time but its record's own."""


@dataclass(frozen=True)
class Rules:
    """The bounds of a window, times in milliseconds."""

    max_events: int = 50
    keep_events: int = 25
    max_age_ms: int = 30 * 86_400_000
    idle_ttl_ms: int = 90 * 86_400_000


@dataclass
class User:
    """All that is remembered of one user."""

    events: list[Event] = field(default_factory=list)
    version: int = 0
    floor: int | None = None  # None: nothing is late yet
    positions: dict[int, int] = field(default_factory=dict)  # source: offset of the last accepted record
    erased: bool = False  # an erase marker that no event has followed yet

    def newest(self) -> int | None:
        """The time that decides whether the user is idle: the newest event's, or the erase marker's own."""
        return self.events[-1].timestamp if self.events else self.floor


@dataclass(frozen=True)
class Shown:
    """A user's state without what a window cannot show: to compare with what the worker stored."""

    events: tuple[Event, ...]
    version: int
    floor: int  # 0: nothing is late yet
    positions: tuple[tuple[int, int], ...]


class Reference:
    """One partition: its users and its time. `accept` takes the records in the partition's order."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.users: dict[bytes, User] = {}
        self.time: int | None = None  # partition time: the newest accepted event so far
        self.outcomes: Counter[str] = Counter()

    def accept(self, source: int, offset: int, record_time_ms: int, key: bytes, value: Event | Erase) -> Outcome:
        """Apply rules 0 to 7 to one record and say what became of it."""
        outcome = self._accept(source, offset, record_time_ms, key, value)
        self.outcomes[outcome] += 1
        return outcome

    def _accept(self, source: int, offset: int, record_time_ms: int, key: bytes, value: Event | Erase) -> Outcome:
        # Rule 0. An idle user starts anew, but a refused record leaves no trace of that.
        user = self.users.get(key, User())
        if self.is_idle(user):
            user = User()
        if isinstance(value, Event) and self._is_forgotten(value.timestamp):
            return "late"

        # Rule 1.
        if source in user.positions and offset <= user.positions[source]:
            return "applied before"

        if isinstance(value, Erase):
            self.users[key] = User(
                events=[], version=0, floor=record_time_ms, positions={**user.positions, source: offset}, erased=True
            )
            return "erased"

        # Rule 2.
        if value.event_id != 0 and any(event.event_id == value.event_id for event in user.events):
            return "duplicate"

        # Rule 3.
        if user.floor is not None and value.timestamp < user.floor:
            return "late"

        # Rule 4.
        place = 0
        while place < len(user.events) and user.events[place].timestamp <= value.timestamp:
            place += 1
        user.events.insert(place, value)
        user.version += 1
        user.positions[source] = offset
        user.erased = False

        # Rule 5.
        left: list[Event] = []
        newest = user.events[-1].timestamp
        if user.events[0].timestamp < newest - self.rules.max_age_ms:
            old = [event for event in user.events if 2 * (newest - event.timestamp) > self.rules.max_age_ms]
            left += old
            user.events = user.events[len(old) :]

        # Rule 6.
        if len(user.events) > self.rules.max_events:
            left += user.events[: -self.rules.keep_events]
            user.events = user.events[-self.rules.keep_events :]

        # Rule 7.
        if left:
            floor = max(event.timestamp for event in left) + 1
            user.floor = floor if user.floor is None else max(user.floor, floor)

        self.users[key] = user
        self.time = value.timestamp if self.time is None else max(self.time, value.timestamp)
        return "accepted"

    def _is_forgotten(self, time_ms: int) -> bool:
        return self.time is not None and time_ms < self.time - self.rules.idle_ttl_ms

    def is_idle(self, user: User) -> bool:
        """Whether the partition has moved on so far that nothing is known of this user any more."""
        newest = user.newest()
        return newest is not None and self._is_forgotten(newest)

    def shown(self, key: bytes) -> Shown | None:
        """A user's state as the table has it, None for one that it does not hold."""
        user = self.users.get(key)
        if user is None:
            return None
        return Shown(tuple(user.events), user.version, user.floor or 0, tuple(sorted(user.positions.items())))


def read_value(value: bytes) -> Shown:
    """A table value by its layout, one field after the other; it must end where its last field ends."""
    place = 0

    def take(form: str) -> tuple[int, ...]:
        nonlocal place
        found = struct.unpack_from("<" + form, value, place)
        place += struct.calcsize("<" + form)
        return found

    form, version, floor, sources, count = take("BQqBH")
    assert 1 == form
    positions = [take("Qq") for _ in range(sources)]
    fields = [take("qQQIBBBB") for _ in range(count)]
    events = []
    for timestamp, item, event_id, category, kind, rating, price, quantity in fields:
        tokens = take(f"{take('B')[0]}I") if kind == EVENT_TYPES["review"] else ()
        events.append(Event(timestamp, item, event_id, category, kind, rating, price, quantity, tokens))
    assert place == len(value)
    return Shown(tuple(events), version, floor, tuple(sorted((source, offset) for source, offset in positions)))


@dataclass(frozen=True)
class TaobaoRow:
    """One line of the Tianchi file, strings as they stand there."""

    user_id: str
    item_id: str
    category_id: str
    behaviour: str
    seconds: int

    def event(self) -> Event:
        """The event that the contract makes of the line."""
        return Event(
            timestamp=self.seconds * 1000,
            item=hash64(self.item_id),
            category=hash32(self.category_id),
            type=EVENT_TYPES[TAOBAO_TYPES[self.behaviour]],
        )


def read_taobao(path: Path) -> list[TaobaoRow]:
    """All lines of a Tianchi file (gzip), in its order."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return [
            TaobaoRow(user, item, category, kind, int(time)) for user, item, category, kind, time in csv.reader(file)
        ]


def write_taobao(path: Path, rows: Iterable[TaobaoRow]) -> None:
    """Write lines as `interest publish --format taobao` reads them."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(
            (row.user_id, row.item_id, row.category_id, row.behaviour, row.seconds) for row in rows
        )


def replay_taobao(rows: Iterable[TaobaoRow], rules: Rules | None = None) -> Reference:
    """All rows through one partition, in the given order; rows before the year 2000 are refused and leave nothing.

    One partition stands for all: partition time only decides what is older than `idle_ttl`, and these rows span less.
    """
    reference = Reference(rules)
    for offset, row in enumerate(_not_before_2000(rows)):
        reference.accept(0, offset, 0, row.user_id.encode(), row.event())
    return reference


def _not_before_2000(rows: Iterable[TaobaoRow]) -> Iterator[TaobaoRow]:
    return (row for row in rows if row.seconds >= 946_684_800)


class Model:
    """A bundle run the slow way: inputs made event by event from dictionaries, always the whole window."""

    def __init__(self, bundle: Bundle) -> None:
        catalog, features = bundle.catalog, bundle.features
        self.bundle = bundle
        self._session = session(bundle)
        self._item = {hash64(name): row for row, name in enumerate(catalog.item_ids.tolist()) if row}
        self._category = {hash32(name): row for row, name in enumerate(catalog.category_ids.tolist()) if row}
        self._item_category = catalog.item_category.tolist()
        types = bundle.event_types
        self._type = {code: types.index(name) for name, code in EVENT_TYPES.items() if name in types}
        tokens = zip(features.tokens.keys.tolist(), features.tokens.rows.tolist(), strict=True)
        self._token = {token: features.token_vectors[row] for token, row in tokens}

    def vectors(self, windows: Sequence[Sequence[Event]]) -> NDArray[np.float32]:
        """The model run from zero state over each whole window, float32 [windows, dim]."""
        answer = np.empty((len(windows), self.bundle.dim), np.float32)
        order = sorted(range(len(windows)), key=lambda number: len(windows[number]))
        signature = self.bundle.signature
        for start in range(0, len(order), 256):
            part = order[start : start + 256]
            inputs = self._inputs([windows[number] for number in part])
            answer[part], _ = run(self._session, signature, inputs, zero_states(signature, len(part)))
        return answer

    def _inputs(self, windows: Sequence[Sequence[Event]]) -> dict[str, NDArray[Any]]:
        shape = (len(windows), max(len(window) for window in windows))
        inputs: dict[str, NDArray[Any]] = {name: np.zeros(shape, np.int64) for name in WHOLE_INPUTS}
        inputs |= {name: np.zeros(shape, np.float32) for name in REAL_INPUTS}
        inputs["text"] = np.zeros((*shape, self.bundle.text_width), np.float32)
        for row, window in enumerate(windows):
            before = None
            for step, event in enumerate(window):
                item = self._item.get(event.item, 0)
                place = (row, step)
                inputs["item_index"][place] = item
                inputs["category_index"][place] = self._category.get(event.category, 0) or self._item_category[item]
                inputs["event_type"][place] = self._type.get(event.type, 0)
                inputs["gap"][place] = -1 if before is None else (event.timestamp - before) / 1000
                inputs["price"][place] = (event.price - 1) / 8 if event.price else -1
                inputs["quantity"][place] = (event.quantity - 1) / 8 if event.quantity else -1
                inputs["rating"][place] = event.rating / 10
                inputs["text"][place] = self._text(event)
                before = event.timestamp
        inputs = {name: array for name, array in inputs.items() if name in self.bundle.inputs}
        return {**inputs, "length": np.array([len(window) for window in windows], np.int32)}

    def _text(self, event: Event) -> NDArray[np.float32]:
        total = np.zeros(self.bundle.text_width, np.float32)
        for token in event.tokens:
            if token in self._token:
                total += self._token[token]
        norm = np.linalg.norm(total)
        return total / norm if norm > 0 else total
