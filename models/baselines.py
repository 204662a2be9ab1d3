"""What needs no model: places of the items asked for by counts of other events; all ties count against them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.evaluation import MISSING
from models.log import Log

LATEST: Final = 20
REACH: Final = 5


Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Asked:
    """A log's items as numbers, the events asked for, and those that are counted."""

    log: Log
    item: Ints  # [events], from 1
    user: Ints  # [events]
    place: Ints  # [asked]
    learnt_item: Ints  # [counted], 0 where it is asked for
    learnt_user: Ints  # [counted]
    unseen: bool  # what a user has had is left out of every ranking

    @classmethod
    def make(cls, log: Log, asked: NDArray[np.bool_], unseen: bool, history: Log | None = None) -> "Asked":
        """Of a log and what is asked of it, bool [events]; counted is `history`, or else what is not asked for."""
        hashes = log.events["item"] if history is None else np.append(log.events["item"], history.events["item"])
        every = np.unique(hashes, return_inverse=True)[1].reshape(-1).astype(np.int64) + 1
        item, user = every[: len(asked)], _users(log)
        learnt_item, learnt_user = np.where(asked, 0, item), user
        if history is not None:
            learnt_item, learnt_user = every[len(asked) :], _users(history)
        return cls(log, item, user, np.flatnonzero(asked), learnt_item, learnt_user, unseen)

    def counts(self) -> Ints:
        """How often each item is counted, int64 [items]; entry 0: 0."""
        size = int(max(self.item.max(initial=0), self.learnt_item.max(initial=0))) + 1
        counts = np.bincount(self.learnt_item, minlength=size)
        counts[0] = 0
        return counts

    def places(self, scores: Callable[[int, int], Mapping[int, float]]) -> Ints:
        """Of a user's scores by item before an event, from its place and the user's first: above 0 is named."""
        found = np.full(len(self.place), MISSING, np.int64)
        for row, place in enumerate(self.place.tolist()):
            begin = int(self.log.starts[self.user[place]])
            told = scores(place, begin)
            mine = told.get(int(self.item[place]), 0.0)
            if mine <= 0:
                continue
            had = set(self.item[begin:place].tolist()) if self.unseen else set()
            found[row] = sum(score >= mine and other not in had for other, score in told.items()) - 1
        return found


def _users(log: Log) -> Ints:
    return np.repeat(np.arange(log.users), np.diff(log.starts))


def popularity(about: Asked) -> Ints:
    """By how many events an item has."""
    counts = about.counts()
    ordered = np.sort(counts)
    mine = counts[about.item[about.place]]
    found = len(counts) - np.searchsorted(ordered, mine, side="left") - 1
    if about.unseen:
        for row, place in enumerate(about.place.tolist()):
            had = np.unique(about.item[about.log.starts[about.user[place]] : place])
            found[row] -= int((counts[had] >= mine[row]).sum())
    return np.where(mine > 0, found, MISSING)


def markov(about: Asked) -> Ints:
    """By how often an item followed the user's last one."""
    item, learnt, user = about.item, about.learnt_item, about.learnt_user
    follows = np.flatnonzero((user[1:] == user[:-1]) & (learnt[:-1] > 0) & (learnt[1:] > 0))
    after: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for last, following in zip(learnt[follows].tolist(), learnt[follows + 1].tolist(), strict=True):
        after[last][following] += 1
    none: Counter[int] = Counter()
    return about.places(lambda place, begin: after.get(int(item[place - 1]), none) if place > begin else none)


def neighbours(about: Asked) -> Ints:
    """By the sum of cosines to the user's REACH last items; an item is not its own neighbour.

    The cosine of two items: pairs of their events of one user, at most REACH apart, over the root of the product of
    their numbers of events.
    """
    item, learnt, user = about.item, about.learnt_item, about.learnt_user
    counts = about.counts()
    beside: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for apart in range(1, REACH + 1):
        one, other = learnt[:-apart], learnt[apart:]
        pairs = np.flatnonzero((user[:-apart] == user[apart:]) & (one > 0) & (other > 0) & (one != other))
        for a, b in zip(one[pairs].tolist(), other[pairs].tolist(), strict=True):
            beside[a][b] += 1
            beside[b][a] += 1

    def scores(place: int, begin: int) -> Mapping[int, float]:
        found: defaultdict[int, float] = defaultdict(float)
        for last in {*item[max(begin, place - REACH) : place].tolist()}:
            for near, count in beside.get(last, {}).items():
                found[near] += count / float(counts[last] * counts[near]) ** 0.5
        return found

    return about.places(scores)


def latest(about: Asked, names: Ints) -> Ints:
    """Among the user's LATEST distinct names before the event, newest first; int64 [events], 0 is no name."""
    every = names.tolist()
    found = np.full(len(about.place), MISSING, np.int64)
    for row, place in enumerate(about.place.tolist()):
        distinct: dict[int, int] = {}
        for back in range(place - 1, int(about.log.starts[about.user[place]]) - 1, -1):
            if every[back] and every[back] not in distinct:
                distinct[every[back]] = len(distinct)
                if len(distinct) == LATEST:
                    break
        found[row] = distinct.get(every[place], MISSING)
    return found
