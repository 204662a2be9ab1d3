"""What a log holds that no model should learn from, taken out and told: repeated events, impossible times, bots."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.log import Log, Names
from stream.contract import hash64
from stream.errors import UsageError

MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Limits:
    """What is taken out. 0: no limit."""

    since_ms: int = 0  # events before it
    until_ms: int = 0  # events from it on
    minute_max: int = 120  # users who once had more events within a clock minute: no person does
    day_max: int = 2_000  # users who once had more events within a UTC day
    user_min: int = 0  # users with fewer events
    item_min: int = 0  # items with fewer events are left out of the catalog; their events stay, as of an unknown item


@dataclass(frozen=True)
class Dropped:
    """What one limit took out."""

    why: str
    events: int
    users: int  # who had such an event


def clean(log: Log, limits: Limits) -> tuple[Log, list[Dropped]]:
    """The log without what is over the limits, and what that was, in the order in which it was taken out.

    Items that only those events were of are gone from the names, so that nothing is known of what came later.

    Raises:
        UsageError: nothing is left, or nothing was there.
    """
    report: list[Dropped] = []
    steps: list[tuple[str, Callable[[Log], Mask]]] = [("repeated: same user, item, type and time", _repeated)]
    if limits.since_ms:
        steps.append(("too early", lambda log: log.events["timestamp"] < limits.since_ms))
    if limits.until_ms:
        steps.append(("too late", lambda log: log.events["timestamp"] >= limits.until_ms))
    if limits.minute_max:
        steps.append((f"of users with over {limits.minute_max} a minute", _busy(MINUTE_MS, limits.minute_max)))
    if limits.day_max:
        steps.append((f"of users with over {limits.day_max} a day", _busy(DAY_MS, limits.day_max)))
    if limits.user_min:
        steps.append(
            (f"of users with under {limits.user_min}", lambda log: _of_users(log, _counts(log) < limits.user_min))
        )
    whole = log
    if not len(log.events):
        raise UsageError("expected events to clean, got none: all of the log's were erased")
    for why, find in steps:
        bad = find(log)
        if bad.any():
            report.append(Dropped(why, int(bad.sum()), len(np.unique(_user(log)[bad]))))
            log = _without(log, bad)
    if not len(log.events):
        took = ", ".join(f"{one.events} {one.why}" for one in report)
        raise UsageError(f"expected events that are within the limits, got none: {took}")
    gone = np.setdiff1d(whole.events["item"], log.events["item"])
    log = _unnamed(log, gone)
    if limits.item_min:
        found, counts = np.unique(log.events["item"], return_counts=True)
        rare = found[counts < limits.item_min]
        events = np.isin(log.events["item"], rare)
        if events.any():
            why = f"of items with under {limits.item_min}, kept as unknown"
            report.append(Dropped(why, int(events.sum()), len(np.unique(_user(log)[events]))))
            log = _unnamed(log, rare)
    return log, report


def _user(log: Log) -> NDArray[np.int64]:
    return np.repeat(np.arange(log.users), _counts(log))


def _counts(log: Log) -> NDArray[np.int64]:
    return np.diff(log.starts)


def _of_users(log: Log, users: Mask) -> Mask:
    return np.repeat(users, _counts(log))


def _repeated(log: Log) -> Mask:
    """All but the first of events that have user, item, type and time in common; a purchase of two has a quantity."""
    user, events = _user(log), log.events
    order = np.lexsort((np.arange(len(user)), events["type"], events["item"], events["timestamp"], user))
    same = np.ones(len(user) - 1, bool)
    for column in (user, events["timestamp"], events["item"], events["type"]):
        same &= np.diff(column[order]) == 0
    bad = np.zeros(len(user), bool)
    bad[order[1:][same]] = True
    return bad


def _busy(span_ms: int, most: int) -> Callable[[Log], Mask]:
    """Events of users who have more than `most` within one span of the clock."""

    def find(log: Log) -> Mask:
        span = np.stack([_user(log), log.events["timestamp"] // span_ms])
        (user, _), counts = np.unique(span, axis=1, return_counts=True)
        busy = np.zeros(log.users, bool)
        busy[user[counts > most]] = True
        return _of_users(log, busy)

    return find


def _without(log: Log, bad: Mask) -> Log:
    """Without these events, and without users who have no others."""
    counts = np.bincount(_user(log)[~bad], minlength=log.users)
    return replace(
        log,
        events=log.events[~bad],
        text_row=log.text_row[~bad],
        starts=np.concatenate([[0], np.cumsum(counts[counts > 0])]).astype(np.int64),
    )


def _unnamed(log: Log, hashes: NDArray[np.uint64]) -> Log:
    """Without the names of these items: a model takes them for unknown, as the worker will."""
    if not len(hashes):
        return log
    gone = set(hashes.tolist())
    items = {item: name for item, name in log.names.items.items() if hash64(item) not in gone}
    of = {item: category for item, category in log.names.category_of.items() if item in items}
    has = {item: attributes for item, attributes in log.names.attributes_of.items() if item in items}
    return replace(log, names=Names(items, log.names.categories, of, has))
