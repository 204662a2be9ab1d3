"""A log cut into what is learnt from and what is held out, in the windows that a worker would hold."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.features import Features, HashTable
from models.log import Log
from models.turns import held
from models.windows import Windows
from stream.errors import UsageError
from stream.rules import Rules

QUESTIONS_MAX = 50_000
USERS_MIN = 10
LEARNT, VALIDATION, TEST = 0, 1, 2

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Items:
    """All items that can be right: the catalog's by their rows, then those that only the log has. Entry 0: none."""

    hashes: NDArray[np.uint64]  # [items]
    row: Ints  # [items], the graph's: of an item that the catalog lacks one behind these, or 0
    category: Ints  # [items], the category's row; of an item that the catalog lacks, as its first event says
    known: int  # entries of the catalog, with 0

    @classmethod
    def make(cls, log: Log, features: Features) -> "Items":
        """Of a log, with the rows that `features` gives."""
        known = len(features.item_category)
        catalog = np.zeros(known, np.uint64)
        catalog[features.items.rows] = features.items.keys
        hashes, first = np.unique(log.events["item"], return_index=True)
        lacking = (hashes != 0) & (features.items.find(hashes) == 0)
        told = features.categories.find(log.events["category"][first[lacking]])
        hashes = np.concatenate([catalog, hashes[lacking]])
        return cls(hashes, features.item_rows(hashes), np.concatenate([features.item_category, told]), known)

    def find(self, hashes: NDArray[np.uint64]) -> Ints:
        """Entries of items by hash, each of which must be there."""
        return HashTable.build(self.hashes).find(hashes)


@dataclass(frozen=True, eq=False)
class Split:
    """Each event is learnt from or held out, of each user the later ones, and has the window that ends with it."""

    log: Log
    items: Items
    item: Ints  # [events], entries of `items`
    user: Ints  # [events]
    role: NDArray[np.int8]  # [events], LEARNT, VALIDATION or TEST
    first: Ints  # [events], where the window of a worker begins that has just taken the event
    unseen: bool  # only items are learnt and asked that the user has not had before

    @classmethod
    def make(
        cls,
        log: Log,
        features: Features,
        rules: Rules,
        where: str,
        *,
        kind: str = "time",
        share: float = 0.05,
        unseen: bool = False,
    ) -> "Split":
        """Hold out, by `kind`:

        - `time`: the latest `share` of the events;
        - `last`: the last event of each user who has three, and the one before it as validation;
        - `sessions`: all events of the `share` of users whose last event is the latest.

        Raises:
            UsageError: too few users have two events to learn from; names `where`.
        """
        role = roles(log, kind, share)
        user = np.repeat(np.arange(log.users), np.diff(log.starts))
        able = int((np.bincount(user[role == LEARNT], minlength=log.users) >= 2).sum())
        if able < USERS_MIN:
            raise UsageError(
                f"{where}: expected at least {USERS_MIN} users with two events or more to learn from, got {able} "
                f"among {log.users} users"
            )
        items = Items.make(log, features)
        first = np.arange(len(user)) + 1 - held(log, rules)
        return cls(log, items, items.find(log.events["item"]), user, role, first, unseen)

    def chunks(self, role: int = LEARNT) -> Ints:
        """Runs (first, new, last) of places, int64 [chunks, 3]: a window that grew from `first` to before `last`.

        The events from `new` on, and the one at `last`, follow in it; all are of `role`, but for those of a window that
        are before `new`: these have been asked for in another window, or are of an earlier role. A chunk learnt from
        has nothing in it that is held out.
        """
        follows = np.append(self.user[1:] == self.user[:-1], False) & (np.append(self.role[1:], -1) == role)
        before = np.flatnonzero(follows)  # the events whose next one is asked for
        if not len(before):
            return np.zeros((0, 3), np.int64)
        begins = np.ones(len(before), bool)
        begins[1:] = (np.diff(before) != 1) | (np.diff(self.first[before]) != 0) | (np.diff(self.user[before]) != 0)
        start = np.flatnonzero(begins)
        end = np.append(start[1:], len(before)) - 1
        return np.stack([self.first[before[start]], before[start] + 1, before[end] + 1], axis=1)

    def places(self, chunks: Ints, shuffle: float, random: np.random.Generator) -> Ints:
        """The places of chunks' events as :func:`places` gives them, some in another order.

        With chance `shuffle` a chunk's events of equal time are put in any order: what a log says of it may be nothing.
        """
        place = places(chunks)
        if not shuffle:
            return place
        times = np.where(place >= 0, self.log.events["timestamp"][place], np.iinfo(np.int64).max)
        order = np.where(random.random(len(place))[:, None] < shuffle, random.random(place.shape), 0.0)
        return np.take_along_axis(place, np.lexsort((order, times), axis=-1), axis=1)

    def targets(self, chunks: Ints, place: Ints) -> Ints:
        """The item of the event after each step, int64 [chunks, steps]; 0: nothing is asked there.

        `place` int64 [chunks, steps] holds the places of the steps and, in a last column, of the event after them; -1:
        padding. See :func:`places`.
        """
        following = place[:, 1:]
        asked = (following >= 0) & (np.arange(1, place.shape[1]) >= (chunks[:, 1] - chunks[:, 0])[:, None])
        target = np.where(asked, self.item[following], 0)
        if self.unseen:
            steps = np.where(place[:, :-1] >= 0, self.item[place[:, :-1]], -1)
            for step in range(target.shape[1]):
                target[(steps[:, : step + 1] == target[:, step, None]).any(axis=1), step] = 0
        return target

    def questions(self, role: int, random: np.random.Generator) -> tuple[Ints, int]:
        """Windows (first, end) before events of `role`, int64 [questions, 2]; `end` is the event asked for.

        At most QUESTIONS_MAX, drawn at random. The second value is how many events of `role` there are, those without
        a window before them included.
        """
        place = np.flatnonzero(self.role == role)
        count = len(place)
        place = place[place > self.log.starts[self.user[place]]]
        asked = np.stack([self.first[place - 1], place], axis=1)
        if self.unseen:
            begin = self.log.starts[self.user[place]].tolist()
            pairs = zip(begin, place.tolist(), strict=True)
            asked = asked[np.array([self.item[end] not in self.item[start:end] for start, end in pairs], bool)]
        if len(asked) > QUESTIONS_MAX:
            asked = asked[np.sort(random.permutation(len(asked))[:QUESTIONS_MAX])]
        return asked, count

    def counts(self) -> Ints:
        """How often each of `items` is in what is learnt from, int64 [items]."""
        counts = np.bincount(self.item[self.role == LEARNT], minlength=len(self.items.row))
        counts[0] = 0
        return counts

    def nameable(self) -> NDArray[np.bool_]:
        """Which of `items` a model that has learnt can name: the catalog's and those learnt from, bool [items]."""
        named = (self.counts() > 0) | (np.arange(len(self.items.row)) < self.items.known)
        named[0] = False
        return named


def roles(log: Log, kind: str, share: float) -> NDArray[np.int8]:
    """LEARNT, VALIDATION or TEST for each event, int8 [events], as :meth:`Split.make` says."""
    role = np.full(len(log.events), LEARNT, np.int8)
    counts, ends = np.diff(log.starts), log.starts[1:]
    if kind == "last":
        able = ends[counts >= 3]
        role[able - 1], role[able - 2] = TEST, VALIDATION
    elif share and kind == "time":
        times = log.events["timestamp"]
        role[times > np.quantile(times, 1 - share, method="lower")] = VALIDATION
    elif share and kind == "sessions":
        order = np.lexsort((np.arange(log.users), log.events["timestamp"][ends - 1]))
        late = order[log.users - round(share * log.users) :]
        role[np.isin(np.repeat(np.arange(log.users), counts), late)] = VALIDATION
    return role


def places(chunks: Ints) -> Ints:
    """The places of chunks' events, int64 [chunks, longest], `last` included; -1: padding."""
    found = chunks[:, :1] + np.arange(int((chunks[:, 2] - chunks[:, 0]).max(initial=0)) + 1)
    return np.where(found <= chunks[:, 2:], found, -1)


@dataclass(frozen=True, eq=False)
class Steps:
    """What each event of a log looks like to the graph, once and for all: windows are picked from it."""

    columns: dict[str, NDArray[Any]]  # [events + 1], by input; the last entry is padding's
    text_row: NDArray[np.int32]  # [events + 1], row of `texts`
    texts: NDArray[np.float32]  # [texts + 1, width], the last row zeros

    @classmethod
    def make(cls, log: Log, features: Features) -> "Steps":
        """By the features that serve, each event as one more step of its user's window."""
        previous = np.append(np.int64(-1), log.events["timestamp"][:-1])
        previous[log.starts[:-1]] = -1
        padded = np.concatenate([log.events, np.zeros(1, log.events.dtype)])[:, None]
        text_row = np.append(log.text_row, np.int32(-1))
        blank = Features(**{**vars(features), "used": tuple(name for name in features.used if name != "text")})
        made = blank.inputs(
            padded,
            text_row[:, None],
            log.tokens[:0],
            np.ones(len(padded), np.int32),
            np.append(previous, np.int64(0)),
        )
        columns = {name: made[name][:, 0] for name in blank.used}
        if "gap" in columns:
            columns["gap"][-1] = 0
        texts = features.text(log.tokens if "text" in features.used else log.tokens[:0])
        return cls(columns, np.where(text_row < 0, len(texts) - 1, text_row).astype(np.int32), texts)

    def inputs(self, place: Ints, in_order: Ints | None = None) -> dict[str, NDArray[Any]]:
        """The graph's inputs, without `length`, for windows of which `place` int64 [windows, steps] holds the places.

        -1 is padding. The first step of each has no event before it. `in_order` holds the places before events of equal
        time were shuffled, if they were: the gaps stay where they are.
        """
        answer = {name: column[place] for name, column in self.columns.items()}
        if "gap" in answer:
            answer["gap"] = self.columns["gap"][place if in_order is None else in_order]
            answer["gap"][:, 0] = -1
        if self.texts.shape[1]:
            answer["text"] = self.texts[self.text_row[place]]
        return answer


def windows(log: Log, runs: Ints) -> Windows:
    """The runs (first, end) of events, int64 [runs, 2], as windows."""
    length = (runs[:, 1] - runs[:, 0]).astype(np.int32)
    place = runs[:, :1] + np.arange(int(length.max(initial=1)))
    inside = place < runs[:, 1:]
    place = np.where(inside, place, 0)
    events = log.events[place]
    events[~inside] = np.zeros((), events.dtype)
    text_row = np.where(inside, log.text_row[place], -1)
    used, row = np.unique(text_row, return_inverse=True)
    texts = used[used >= 0]
    return Windows(
        events=events,
        text_row=(row.reshape(text_row.shape) - (len(used) - len(texts))).astype(np.int32),
        tokens=log.tokens[texts],
        length=length,
    )


def golden(split: Split, lengths: tuple[int, ...] = (1, 2, 3, 8, 25, 50)) -> Windows:
    """A few windows of the log, one for each length, or of the longest that there is."""
    length = np.arange(len(split.first)) + 1 - split.first
    runs = []
    for number, wanted in enumerate(lengths):
        able = np.flatnonzero(length == min(wanted, int(length.max())))
        end = int(able[number * 7919 % len(able)]) + 1 if len(able) else int(np.argmax(length)) + 1
        runs.append((int(split.first[end - 1]), end))
    return windows(split.log, np.array(runs, np.int64))
