"""A log cut into what is learnt from and what is asked at the end."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.features import Features
from models.log import Log
from models.windows import Windows
from stream.errors import UsageError

WINDOW_MAX = 50  # the worker's default
HELD_OUT = 0.05  # share of the log's latest events that training never sees
QUESTIONS_MAX = 10_000
USERS_MIN = 10


@dataclass(frozen=True, eq=False)
class Split:
    """Everything up to a time is learnt from; the events after it are asked for."""

    log: Log
    item: NDArray[np.int64]  # [events], the catalog's row
    user: NDArray[np.int64]  # [events]
    learnt: NDArray[np.bool_]  # [events]; of each user the first so many

    @classmethod
    def make(cls, log: Log, features: Features, where: str) -> "Split":
        """Split by the time before which all but HELD_OUT of the events lie.

        Raises:
            UsageError: too few users have two events to learn from; names `where`.
        """
        times = log.events["timestamp"]
        cut = np.quantile(times, 1 - HELD_OUT, method="lower")
        counts = np.diff(log.starts)
        user = np.repeat(np.arange(log.users), counts)
        learnt = times <= cut
        able = int((np.bincount(user[learnt], minlength=log.users) >= 2).sum())
        if able < USERS_MIN:
            raise UsageError(
                f"{where}: expected at least {USERS_MIN} users with two events or more to learn from, got {able} "
                f"among {log.users} users"
            )
        return cls(log, features.items.find(log.events["item"]), user, learnt)

    def chunks(self, random: np.random.Generator) -> NDArray[np.int64]:
        """Places (first, end) of runs of at most WINDOW_MAX events to learn from, int64 [chunks, 2], shuffled.

        A user's events are cut from a random place on, so that each event is seen at other distances from the start.
        """
        counts = np.bincount(self.user[self.learnt], minlength=self.log.users)
        found = []
        for first, count in zip(self.log.starts[:-1].tolist(), counts.tolist(), strict=True):
            # The last event of a run is only asked for: an event that is the first of the next run, too.
            edge = first + int(random.integers(1, WINDOW_MAX + 1)) if count > WINDOW_MAX else first + WINDOW_MAX
            begin, end = first, first + count - 1
            while begin < end:
                found.append((begin, min(edge, end)))
                begin, edge = edge, edge + WINDOW_MAX
        return random.permutation(np.array(found, np.int64).reshape(-1, 2))

    def targets(self, chunks: NDArray[np.int64], steps: int) -> NDArray[np.int64]:
        """For each step the row of the next event's item, int64 [chunks, steps]; 0: nothing to learn.

        Nothing is learnt from an item that follows itself (a click, then its cart) nor in padding.
        """
        place = chunks[:, :1] + np.arange(steps)
        inside = place < chunks[:, 1:]
        place = np.where(inside, place, 0)
        following = self.item[np.minimum(place + 1, len(self.item) - 1)]
        return np.where(inside & (following != self.item[place]), following, 0)

    def questions(self, random: np.random.Generator) -> tuple[NDArray[np.int64], int]:
        """Windows (first, end) before events that were held out, int64 [questions, 2]; `end` is the event asked for.

        Asked for are events with a known item that the window before them lacks. The second value is how many events
        were held out and had a window at all, for the share that is asked.
        """
        place = np.flatnonzero(~self.learnt)
        place = place[place > self.log.starts[self.user[place]]]
        first = np.maximum(self.log.starts[self.user[place]], place - WINDOW_MAX)
        pairs = zip(first.tolist(), place.tolist(), strict=True)
        new = [bool(self.item[end] > 0 and self.item[end] not in self.item[begin:end]) for begin, end in pairs]
        asked = np.stack([first, place], axis=1)[np.array(new, bool)]
        if len(asked) > QUESTIONS_MAX:
            asked = asked[np.sort(random.permutation(len(asked))[:QUESTIONS_MAX])]
        return asked, len(place)


def windows(log: Log, runs: NDArray[np.int64]) -> Windows:
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


def golden(log: Log, lengths: tuple[int, ...] = (1, 2, 3, 8, 25, 50)) -> Windows:
    """A few windows of the log, one for each length, of users who have as many events, or of who has most."""
    counts = np.diff(log.starts)
    runs = []
    for number, length in enumerate(lengths):
        able = np.flatnonzero(counts >= length)
        user = int(able[number * 7919 % len(able)]) if len(able) else int(np.argmax(counts))
        end = int(log.starts[user + 1])
        runs.append((max(int(log.starts[user]), end - length), end))
    return windows(log, np.array(runs, np.int64))
