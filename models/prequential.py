"""A log gone through as a worker would: each event meets the window and the vector that stood before it.

Windows are cut and models advanced by the worker's own code (stream.apply, stream.encode), one event a user at a time,
so a score here is one that a consumer of updates could have had.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models import bundle as bundles
from models.bundle import Bundle
from models.log import Log
from models.turns import turns
from stream.encode import Encoder
from stream.rules import Rules

DAY_MS: Final = 86_400_000
BLOCK_USERS: Final = 1_024


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
    current = np.zeros((len(users), encoder.bundle.dim), np.float32)
    daily, day = current.copy(), np.full(len(users), -1, np.int64)
    keys = [(0, str(user).encode()) for user in users.tolist()]
    for turn in turns(log, users, rules):
        today = log.events["timestamp"][turn.place] // DAY_MS
        begins = day[turn.user] != today
        daily[turn.user[begins]] = current[turn.user[begins]]
        day[turn.user] = today
        wanted = row[turn.place] >= 0
        at, who = row[turn.place[wanted]], turn.user[wanted]
        found.vectors[at], found.daily[at] = current[who], daily[who]
        found.held[at] = np.diff(turn.before.start)[who]

        applied = turn.applied
        changed = np.flatnonzero(applied.accepted)
        encoded = encoder.encode(
            applied.windows,
            changed,
            [keys[user] for user in changed.tolist()],
            applied.appended[changed],
            turn.before.mark[changed],
        )
        current[changed] = encoded.vectors
