"""The window, exactly: what one record does to its user. Rules 0 to 7, in this order:

0. a user whose newest event is older than partition time - `idle_ttl` starts anew; a record older than that is late
   (partition time: the newest accepted event time at that place in the partition);
1. source offset not above the position noted for this user and source: applied before, nothing changes;
2. its event id is in the window: duplicate, nothing changes;
3. its time is below `floor`: late, nothing changes;
4. else it is inserted behind all events of the same or an earlier time, `version` grows by one, the position is noted;
5. if the oldest is older than the newest minus `max_age`, all older than the newest minus half of it leave;
6. if more than `max_events` remain, only the newest `keep_events` stay;
7. whenever events leave, `floor` rises to the time of the newest that left plus 1 ms.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True, slots=True)
class Rules:
    """Bounds of a window."""

    max_events: int
    keep_events: int
    max_age_ms: int
    idle_ttl_ms: int


class Verdict(Enum):
    """What became of a record."""

    ACCEPTED = 0
    BEFORE = 1
    DUPLICATE = 2
    LATE = 3


@dataclass(slots=True)
class UserWindow:
    """One user's window. Events are named by an index that means nothing here."""

    version: int
    floor: int  # ms
    positions: dict[int, int]  # source -> offset
    times: list[int]  # ms, ascending
    ids: list[int]  # event ids, 0: none
    events: list[int]  # the caller's indices, in the order of `times`
    appended: list[int] | None = field(default_factory=list)  # came behind all others; None: the window changed else
    accepted: int = 0
    before: bool = False
    erased: bool = False

    def record(
        self, rules: Rules, partition_time: int, source: int, offset: int, time: int, event_id: int, event: int
    ) -> Verdict:
        """Apply one event."""
        oldest_alive = partition_time - rules.idle_ttl_ms
        if time < oldest_alive:
            return Verdict.LATE
        if self._newest() < oldest_alive:
            self._start_anew()
        elif offset <= self.positions.get(source, -1):
            self.before = True
            return Verdict.BEFORE
        elif event_id and event_id in self.ids:
            return Verdict.DUPLICATE
        elif time < self.floor:
            return Verdict.LATE
        self._insert(time, event_id, event)
        self.version += 1
        self.accepted += 1
        self.positions[source] = offset
        if self.times[0] < self.times[-1] - rules.max_age_ms:
            self._cut(bisect_left(self.times, self.times[-1] - rules.max_age_ms // 2))
        if len(self.times) > rules.max_events:
            self._cut(len(self.times) - rules.keep_events)
        return Verdict.ACCEPTED

    def erase(self, rules: Rules, partition_time: int, source: int, offset: int, record_time: int) -> Verdict:
        """Apply an erase record: a marker stays, and nothing older than the record's own time comes back."""
        if self._newest() < partition_time - rules.idle_ttl_ms:
            self._start_anew()
        elif offset <= self.positions.get(source, -1):
            self.before = True
            return Verdict.BEFORE
        self._clear(version=0, floor=record_time)
        self.positions[source] = offset
        self.accepted += 1
        self.erased = True
        return Verdict.ACCEPTED

    def _newest(self) -> int:
        """Time of the newest event, or of the erase record whose marker this is."""
        return self.times[-1] if self.times else self.floor

    def _start_anew(self) -> None:
        self._clear(version=0, floor=0)
        self.positions.clear()

    def _insert(self, time: int, event_id: int, event: int) -> None:
        at = bisect_right(self.times, time)
        if at < len(self.times):
            self.appended = None
        elif self.appended is not None:
            self.appended.append(event)
        self.times.insert(at, time)
        self.ids.insert(at, event_id)
        self.events.insert(at, event)

    def _cut(self, count: int) -> None:
        self.floor = max(self.floor, self.times[count - 1] + 1)
        del self.times[:count], self.ids[:count], self.events[:count]
        self.appended = None

    def _clear(self, version: int, floor: int) -> None:
        self.version, self.floor = version, floor
        self.times.clear()
        self.ids.clear()
        self.events.clear()
        self.appended = None
