"""A log gone through as a worker would: each event meets the window and the vector that stood before it.

Windows are cut and models advanced by the worker's own code (stream.apply, stream.encode), one event a user at a time,
so a score here is one that a consumer of updates could have had.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models import bundle as bundles
from models.bundle import Bundle
from models.log import Log
from stream.apply import Arrivals, apply
from stream.encode import Encoder
from stream.rules import Rules
from stream.window import NO_TIME, Windows, load

DAY_MS: Final = 86_400_000
BLOCK_USERS: Final = 1_024
SOURCE: Final = 1


@dataclass(frozen=True, eq=False)
class Before:
    """What stood before each of the events asked for."""

    place: NDArray[np.int64]  # [asked], in the log's events
    vectors: NDArray[np.float32]  # [asked, dim], after the event before; zeros: no event before
    daily: NDArray[np.float32]  # [asked, dim], as it was when the event's day (UTC) began
    held: NDArray[np.int64]  # [asked], events in the window: those right before the place


def go_through(log: Log, bundle: Bundle, rules: Rules, asked: NDArray[np.bool_], threads: int = 1) -> Before:
    """Apply every event of the log, and note what stood before those that are `asked` for, bool [events]."""
    place = np.flatnonzero(asked)
    row = np.full(len(asked), -1, np.int64)
    row[place] = np.arange(len(place))
    found = Before(
        place=place,
        vectors=np.zeros((len(place), bundle.dim), np.float32),
        daily=np.zeros((len(place), bundle.dim), np.float32),
        held=np.zeros(len(place), np.int64),
    )
    session = bundles.session(bundle, threads=threads)
    counts = np.diff(log.starts)
    order = np.argsort(counts, kind="stable")  # users of a block end at about the same time
    for start in range(0, len(order), BLOCK_USERS):
        _block(log, Encoder(bundle, session, BLOCK_USERS), rules, order[start : start + BLOCK_USERS], row, found)
    return found


def _block(
    log: Log, encoder: Encoder, rules: Rules, users: NDArray[np.int64], row: NDArray[np.int64], found: Before
) -> None:
    first, counts = log.starts[users], np.diff(log.starts)[users]
    windows = load([None] * len(users), (SOURCE,))
    # Of each user's own: the log is not in the order of time across users, and nobody is late for another.
    time_ms = np.full(len(users), NO_TIME, np.int64)
    current = np.zeros((len(users), encoder.bundle.dim), np.float32)
    daily, day = current.copy(), np.full(len(users), -1, np.int64)
    keys = [(0, str(user).encode()) for user in users.tolist()]
    for turn in range(int(counts.max(initial=0))):
        active = np.flatnonzero(counts > turn)
        place = first[active] + turn
        today = log.events["timestamp"][place] // DAY_MS
        begins = day[active] != today
        daily[active[begins]] = current[active[begins]]
        day[active] = today
        wanted = row[place] >= 0
        at, who = row[place[wanted]], active[wanted]
        found.vectors[at], found.daily[at] = current[who], daily[who]
        found.held[at] = np.diff(windows.start)[who]

        before = windows.mark
        applied = apply(windows, _arrivals(log, place, active, turn), np.arange(len(users)), time_ms, rules)
        windows, time_ms = _compact(applied.windows), applied.partition_time
        changed = np.flatnonzero(applied.accepted)
        encoded = encoder.encode(
            windows, changed, [keys[user] for user in changed.tolist()], applied.appended[changed], before[changed]
        )
        current[changed] = encoded.vectors


def _arrivals(log: Log, place: NDArray[np.int64], user: NDArray[np.int64], turn: int) -> Arrivals:
    text_row = log.text_row[place]
    texts = np.flatnonzero(text_row >= 0)
    rows = np.full(len(place), -1, np.int32)
    rows[texts] = np.arange(len(texts))
    return Arrivals(
        user=user,
        source=np.zeros(len(place), np.int64),
        offset=np.full(len(place), turn, np.int64),
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
