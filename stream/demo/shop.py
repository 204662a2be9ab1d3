"""What the demo publishes: a simulated shop's events at the time they are sent, a few of them late, twice or broken."""

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle
from typing import Any, Final

import orjson

from models.simulator import Shop, live, user_id

FOLLOWED: Final = user_id(0)
FOLLOWED_A_SECOND: Final = 1.0

#: Of so many records two are late, two are earlier ones again, and one is malformed.
FAULTS_EVERY: Final = 200
FAULTS_TOLD: Final = f"Of {FAULTS_EVERY} events 2 are late, 2 sent twice, 1 malformed, on purpose."
LATE_MIN_MS: Final = 2_000
LATE_MAX_MS: Final = 60_000
REMEMBERED: Final = 50
DAMAGES: Final = 3


class Kind(StrEnum):
    """What a record is like."""

    PLAIN = "plain"
    LATE = "late"
    REPEATED = "sent twice"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to publish. `event` is what a worker should read in it; None if it should refuse it."""

    kind: Kind
    key: bytes
    value: bytes
    event: dict[str, Any] | None


class Traffic:
    """The shop's records, without an end; the same arguments give the same shoppers and kinds in the same order.

    User 0 is the shopper who is followed: about one event a second is theirs, and none of those is late, repeated or
    malformed.
    """

    def __init__(self, shop: Shop, *, users: int, seed: int, start_ms: int, rate: float) -> None:
        share = min(1.0, FOLLOWED_A_SECOND / rate)
        self._events = live(shop, users=users, seed=seed, start_ms=start_ms, followed_share=share)
        self._random = random.Random(seed)
        self._due = _faults()
        self._waiting: deque[Kind] = deque()
        self._earlier: deque[Outgoing] = deque(maxlen=REMEMBERED)
        self._damaged = 0

    def next(self, now_ms: int) -> Outgoing:
        """The next record; its event's time is `now_ms`, ms since the epoch, or up to a minute before."""
        kind = next(self._due)
        if kind is not Kind.PLAIN:
            self._waiting.append(kind)
        if self._waiting and self._waiting[0] is Kind.REPEATED and self._earlier:
            self._waiting.popleft()
            again = self._random.choice(self._earlier)
            return Outgoing(Kind.REPEATED, again.key, again.value, again.event)
        event = next(self._events)
        event["timestamp"] = now_ms
        followed = event["user_id"] == FOLLOWED
        kind = self._waiting.popleft() if self._waiting and not followed else Kind.PLAIN
        if kind is Kind.MALFORMED:
            return Outgoing(kind, event["user_id"].encode(), self._damage(event), None)
        if kind is Kind.LATE:
            event["timestamp"] -= self._random.randint(LATE_MIN_MS, LATE_MAX_MS)
        else:
            kind = Kind.PLAIN  # nothing can be repeated yet
        record = Outgoing(kind, event["user_id"].encode(), orjson.dumps(event), event)
        if not followed:
            self._earlier.append(record)
        return record

    def _damage(self, event: dict[str, Any]) -> bytes:
        """As producers get it wrong: cut off, without a field, seconds for milliseconds; in turn."""
        self._damaged += 1
        turn = self._damaged % DAMAGES
        if turn == 1:
            return orjson.dumps(event)[:-20]
        if turn == 2:
            del event["item_id"]
        else:
            event["timestamp"] //= 1000
        return orjson.dumps(event)


def _faults() -> Iterator[Kind]:
    """A kind for each record, evenly spread, so that a short run has its share."""
    every = [Kind.PLAIN] * FAULTS_EVERY
    every[25] = every[125] = Kind.LATE
    every[75] = every[175] = Kind.REPEATED
    every[50] = Kind.MALFORMED
    return cycle(every)
