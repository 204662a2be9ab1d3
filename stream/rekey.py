"""Users on a new number of partitions: where each goes, and one window of the several that a user may have had.

A user lies on several partitions where publishers used several partitioners, and after a topic has grown under them.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import orjson

from stream.publisher import partition_of
from stream.rules import Rules, UserWindow, Verdict
from stream.value import UserState

_ALWAYS_MS = -(1 << 62)  # a partition time at which nobody is idle


def grown_name(name: str, old: int, new: int) -> str:
    """The name of what has `new` partitions; a suffix that told the old number is replaced."""
    return f"{name.removesuffix(f'-{old}')}-{new}"


def rekey(key: bytes, states: Mapping[int, UserState], old: int, new: int, rules: Rules) -> dict[int, UserState]:
    """A user's state by new partition: merged where murmur2 puts the user; positions are of old topics, so they go.

    A user of whom every old partition holds something, on one at least the marker of an erasure, was erased everywhere:
    then every new partition gets the marker.

    Args:
        key: the user.
        states: by old partition.
        old: number of partitions.
        new: number of partitions.
        rules: bounds of a window.
    """
    found: dict[int, UserState] = {}
    markers = [state.floor for state in states.values() if not state.version]
    if markers and len(states) == old:
        marker = UserState(0, max(markers), {}, next(iter(states.values())).events[:0])
        found = dict.fromkeys(range(new), marker)
    found[partition_of(key, new)] = merge(list(states.values()), rules)
    return found


def merge(states: Sequence[UserState], rules: Rules) -> UserState:
    """One state of several of the same user, as if all events had come to the one with the highest version.

    The others' events are put in by the window's rules, in the order of time; an event id that is in two windows counts
    once. The version is the sum, less those; the floor is the highest.
    """
    ranked = sorted(states, key=lambda state: state.version, reverse=True)
    first, rest = ranked[0], ranked[1:]
    if not rest:
        return UserState(first.version, first.floor, {}, first.events, first.tokens)
    events = np.concatenate([state.events for state in ranked])
    tokens = [found for state in ranked for found in (state.tokens or [[]] * len(state.events))]
    times, ids = events["timestamp"].tolist(), events["event_id"].tolist()
    floor = max(state.floor for state in ranked)
    own = range(bisect_left(times, floor, 0, len(first.events)), len(first.events))
    window = UserWindow(
        version=first.version,
        floor=floor,
        positions={},
        times=times[own.start : own.stop],
        ids=ids[own.start : own.stop],
        events=list(own),
    )
    twice = 0
    for row in sorted(range(len(first.events), len(events)), key=times.__getitem__):
        verdict = window.record(rules, _ALWAYS_MS, 0, row, times[row], ids[row], row)
        twice += verdict is Verdict.DUPLICATE
        window.positions.clear()
    version = sum(state.version for state in ranked) - twice
    return UserState(version, window.floor, {}, events[window.events], [tokens[row] for row in window.events])


def choose_update(values: Iterable[bytes | None], alive: bool) -> bytes | None:
    """The last update of a user of those on several partitions: the newest by (`timestamp`, `version`).

    None, which says to forget the user: there is none, or the table holds no event of the user (`alive`).
    """
    given = [value for value in values if value is not None]
    if not alive or not given:
        return None
    return given[0] if len(given) == 1 else max(given, key=_order)


def _order(update: bytes) -> tuple[int, int]:
    found = orjson.loads(update)
    return found["timestamp"], found["version"]
