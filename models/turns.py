"""A log gone through by the worker's own rules (stream.apply), one event of each user a turn."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.log import Log
from stream.apply import Applied, Arrivals, apply
from stream.rules import Rules
from stream.window import NO_TIME, Windows, load

SOURCE = 1
BLOCK_USERS = 8_192


@dataclass(frozen=True, eq=False)
class Turn:
    """The next event of each user who has one."""

    user: NDArray[np.int64]  # [active], among the users gone through
    place: NDArray[np.int64]  # [active], in the log's events
    before: Windows  # of all users gone through
    applied: Applied


def turns(log: Log, users: NDArray[np.int64], rules: Rules) -> Iterator[Turn]:
    """Apply the events of `users` int64, those of each in the order of their times."""
    first, counts = log.starts[users], np.diff(log.starts)[users]
    windows = load([None] * len(users), (SOURCE,))
    # Of each user's own: the log is not in the order of time across users, and nobody is late for another.
    time_ms = np.full(len(users), NO_TIME, np.int64)
    for number in range(int(counts.max(initial=0))):
        active = np.flatnonzero(counts > number)
        place = first[active] + number
        applied = apply(windows, _arrivals(log, place, active, number), np.arange(len(users)), time_ms, rules)
        yield Turn(active, place, windows, applied)
        windows, time_ms = _compact(applied.windows), applied.partition_time


def held(log: Log, rules: Rules) -> NDArray[np.int64]:
    """How many events a worker's window holds right after each event, the event included; int64 [events]."""
    found = np.zeros(len(log.events), np.int64)
    counts = np.diff(log.starts)
    order = np.argsort(counts, kind="stable")  # users of a block end at about the same time
    for start in range(0, len(order), BLOCK_USERS):
        for turn in turns(log, order[start : start + BLOCK_USERS], rules):
            found[turn.place] = np.diff(turn.applied.windows.start)[turn.user]
    return found


def _arrivals(log: Log, place: NDArray[np.int64], user: NDArray[np.int64], number: int) -> Arrivals:
    text_row = log.text_row[place]
    texts = np.flatnonzero(text_row >= 0)
    rows = np.full(len(place), -1, np.int32)
    rows[texts] = np.arange(len(texts))
    return Arrivals(
        user=user,
        source=np.zeros(len(place), np.int64),
        offset=np.full(len(place), number, np.int64),
        events=log.events[place],
        erase=np.zeros(len(place), bool),
        text_row=rows,
        tokens=log.tokens[text_row[texts]],
    )


def _compact(windows: Windows) -> Windows:
    """Without the texts of events that have left."""
    has = windows.text_row >= 0
    if len(windows.tokens) <= 2 * int(has.sum()):
        return windows
    used, row = np.unique(windows.text_row[has], return_inverse=True)
    text_row = np.full(len(windows.text_row), -1, np.int32)
    text_row[has] = row
    return replace(windows, text_row=text_row, tokens=windows.tokens[used])
