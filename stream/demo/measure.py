"""What the demo measures: each update is matched with the events it answers, by user, version and newest time."""

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stream.contract import hash64
from stream.demo.shop import Kind, Outgoing
from stream.rules import Rules, UserWindow, Verdict

RECENT_S: Final = 10
RATE_OVER_S: Final = 5.0


class Latencies:
    """Whole milliseconds: of the last seconds, and of all."""

    def __init__(self) -> None:
        self.total: Counter[int] = Counter()
        self._seconds: deque[tuple[int, Counter[int]]] = deque()

    def add(self, latency_ms: int, now_s: float) -> None:
        """Count one that became known at `now_s`, which never goes back."""
        second = int(now_s)
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append((second, Counter()))
            self._forget(second)
        self._seconds[-1][1][latency_ms] += 1
        self.total[latency_ms] += 1

    def recent(self, now_s: float) -> Counter[int]:
        """Those of about the last RECENT_S seconds."""
        self._forget(int(now_s))
        recent: Counter[int] = Counter()
        for _, counted in self._seconds:
            recent.update(counted)
        return recent

    def _forget(self, second: int) -> None:
        while self._seconds and self._seconds[0][0] < second - RECENT_S:
            self._seconds.popleft()


def percentile(counted: Mapping[int, int], share: float) -> int | None:
    """The least value that at least `share` of all reach or stay below (nearest rank); None if there are none."""
    rank = math.ceil(share * sum(counted.values()) - 1e-9)  # 0.07 * 100 is a little over 7
    reached = 0
    for value in sorted(counted):
        reached += counted[value]
        if reached >= rank:
            return value
    return None


class Rate:
    """How fast a count grows, over the last seconds."""

    def __init__(self, now_s: float) -> None:
        self._seen: deque[tuple[float, int]] = deque([(now_s, 0)])

    def __call__(self, now_s: float, count: int) -> float:
        """Note the count, and give its growth a second since about RATE_OVER_S ago."""
        self._seen.append((now_s, count))
        while len(self._seen) > 2 and self._seen[1][0] <= now_s - RATE_OVER_S:
            self._seen.popleft()
        since, before = self._seen[0]
        return (count - before) / (now_s - since) if now_s > since else 0.0


@dataclass(slots=True)
class Awaited:
    """An accepted event whose update has not been seen, or whose acknowledgement has not."""

    version: int
    newest_ms: int
    appended_ms: int | None = None  # the broker's time of the event
    answered_ms: int | None = None  # the broker's time of the update


class Measure:
    """Counts what was published and what came back.

    The rules of the window, applied to each user's events in the order they are published, say which are accepted and
    the version and newest time that their updates have. An update answers all of its user's events up to its version.
    Latency is taken between two times of the broker: when it had the event, and when it had the update.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._windows: dict[str, UserWindow] = {}
        self._awaited: dict[str, deque[Awaited]] = {}
        self._open = 0  # accepted, without an update
        self._letters_due = 0
        self.kinds: Counter[Kind] = Counter()
        self.verdicts: Counter[Verdict] = Counter()
        self.published = 0
        self.updates = 0
        self.answered: set[str] = set()  # users with an update
        self.unmatched = 0
        self.refused: Counter[str] = Counter()
        self.latencies = Latencies()

    @property
    def lag(self) -> int:
        """Published records that must get an update or a dead letter and have none yet."""
        return self._open + max(0, self._letters_due - self.refused.total())

    def publish(self, record: Outgoing) -> Awaited | None:
        """Count a record that is published now.

        Returns:
            what is awaited, for `appended`; None if the record gets no update: refused, repeated, or later than the
            window reaches back.
        """
        event = record.event
        self.published += 1
        self.kinds[record.kind] += 1
        if event is None:
            self._letters_due += 1
            return None
        user = event["user_id"]
        window = self._windows.get(user)
        if window is None:
            window = self._windows[user] = UserWindow(version=0, floor=0, positions={}, times=[], ids=[], events=[])
        verdict = window.record(
            self._rules,
            partition_time=0,
            source=0,
            offset=self.published,
            time=event["timestamp"],
            event_id=hash64(event["event_id"]),
            event=0,
        )
        self.verdicts[verdict] += 1
        if verdict is not Verdict.ACCEPTED:
            return None
        awaited = Awaited(window.version, window.times[-1])
        self._awaited.setdefault(user, deque()).append(awaited)
        self._open += 1
        return awaited

    def appended(self, awaited: Awaited, time_ms: int, now_s: float) -> None:
        """The broker has the event since `time_ms`."""
        awaited.appended_ms = time_ms
        self._complete(awaited, now_s)

    def update(self, user: str, version: int, newest_ms: int, time_ms: int, now_s: float) -> bool:
        """An update whose record has the broker's time `time_ms`. False if it is no answer to what was published."""
        self.updates += 1
        waiting = self._awaited.get(user, deque())
        matched = next((awaited for awaited in waiting if awaited.version == version), None)
        if matched is None or matched.newest_ms != newest_ms:
            self.unmatched += 1
            return False
        self.answered.add(user)
        while waiting and waiting[0].version <= version:
            awaited = waiting.popleft()
            awaited.answered_ms = time_ms
            self._open -= 1
            self._complete(awaited, now_s)
        return True

    def letter(self, reason: str) -> None:
        """A dead letter."""
        self.refused[reason] += 1

    def _complete(self, awaited: Awaited, now_s: float) -> None:
        # Either may come first: acknowledgement and update travel on different connections.
        if awaited.appended_ms is not None and awaited.answered_ms is not None:
            self.latencies.add(awaited.answered_ms - awaited.appended_ms, now_s)
