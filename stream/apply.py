"""The rules for a whole batch: users whose windows only grow in one step, all others record by record."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.rules import Rules, UserWindow, Verdict
from stream.window import NO_POSITION, NO_TIME, Windows

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """The records of a batch, of all its partitions; those of a partition in the order they came.

    The offsets of one source ascend within a partition, as Kafka gives them.
    """

    user: Ints  # [n], index in the windows
    source: Ints  # [n], column of `Windows.position`
    offset: Ints  # [n]
    events: NDArray[np.void]  # EVENT_DTYPE [n]
    erase: Bools  # [n]
    text_row: NDArray[np.int32]  # [n]
    tokens: NDArray[np.uint32]  # [rows, TEXT_MAX_TOKENS]


@dataclass(frozen=True, slots=True)
class Applied:
    """Windows after the batch, and what became of its records."""

    windows: Windows
    accepted: Ints  # [users], events and erase records that changed the user
    before: Bools  # [users], a record came that was applied before
    erased: Bools  # [users]
    appended: Ints  # [users], new events at the end of an otherwise unchanged window; -1: the window changed else
    partition_time: Ints  # [partitions], ms
    late: int
    duplicates: int


def apply(windows: Windows, arrivals: Arrivals, partition: Ints, partition_time: Ints, rules: Rules) -> Applied:
    """Apply a batch.

    Args:
        windows: of all users in the batch, as the table has them.
        arrivals: the records.
        partition: int64 [users], index in `partition_time`.
        partition_time: int64 [partitions], ms; NO_TIME where nothing was accepted yet.
        rules: bounds.
    """
    user, time = arrivals.user, arrivals.events["timestamp"]
    before = arrivals.offset <= windows.position[user, arrivals.source]
    furthest = partition_time.copy()  # how far partition time may come within this batch
    np.maximum.at(furthest, partition[user], np.where(arrivals.erase, NO_TIME, time))
    oldest_alive = (furthest - rules.idle_ttl_ms)[partition]

    held = np.diff(windows.start)
    newest = np.where(held > 0, windows.newest, np.where(windows.floor != 0, windows.floor, oldest_alive))
    unusual = (held > rules.max_events) | (newest < oldest_alive)
    amiss = (time < oldest_alive[user]) | (~before & ((time < windows.floor[user]) | arrivals.erase))
    unusual[user[amiss]] = True
    appends = _Appends(windows, arrivals, np.flatnonzero(~before & ~unusual[user]))
    found = appends.unusual(rules)
    if found.any():
        unusual |= found
        appends = _Appends(windows, arrivals, np.flatnonzero(~before & ~unusual[user]))

    who, which = appends.user, appends.record
    total = held + appends.count
    kept = np.where(
        total > rules.max_events,
        rules.keep_events + (total - rules.max_events - 1) % (rules.max_events + 1 - rules.keep_events),
        total,
    )
    left = total - kept
    floor = windows.floor.copy()
    cut = np.flatnonzero(left)
    floor[cut] = appends.time_at(cut, left[cut] - 1) + 1
    position = windows.position.copy()
    np.maximum.at(position, (who, arrivals.source[which]), arrivals.offset[which])
    after = partition_time.copy()
    np.maximum.at(after, partition[who], time[which])
    seen_before = np.zeros(len(windows), bool)
    seen_before[user[before & ~unusual[user]]] = True

    accepted, appended = appends.count.copy(), np.where(left > 0, -1, appends.count)
    erased = np.zeros(len(windows), bool)
    version = windows.version + appends.count
    others = windows.others
    verdicts: Counter[Verdict] = Counter()

    one_by_one: dict[int, UserWindow] = {}
    if unusual.any():
        one_by_one = _open(windows, np.flatnonzero(unusual))
        records = np.flatnonzero(unusual[user])
        quick_time = _running_time(partition[user], partition_time, which, time)
        verdicts = _run(one_by_one, arrivals, records, partition, quick_time, after, rules, windows)
        others = {u: pairs for u, pairs in others.items() if u not in one_by_one}
        for u, window in one_by_one.items():
            version[u], floor[u] = window.version, window.floor
            position[u] = [window.positions.pop(source, NO_POSITION) for source in windows.sources]
            if window.positions:
                others[u] = window.positions
            accepted[u], seen_before[u], erased[u] = window.accepted, window.before, window.erased
            appended[u] = -1 if window.appended is None else len(window.appended)
            kept[u] = len(window.events)

    start = np.zeros(len(windows) + 1, np.int64)
    np.cumsum(kept, out=start[1:])
    take = appends.take(start, left, kept)
    for u, window in one_by_one.items():
        take[start[u] : start[u + 1]] = window.events
    rows = np.where(arrivals.text_row >= 0, arrivals.text_row + len(windows.tokens), -1).astype(np.int32)
    return Applied(
        windows=Windows(
            sources=windows.sources,
            version=version,
            floor=floor,
            position=position,
            start=start,
            events=np.concatenate([windows.events, arrivals.events])[take],
            text_row=np.concatenate([windows.text_row, rows])[take],
            tokens=np.concatenate([windows.tokens, arrivals.tokens]),
            others=others,
        ),
        accepted=accepted,
        before=seen_before,
        erased=erased,
        appended=appended,
        partition_time=after,
        late=verdicts[Verdict.LATE],
        duplicates=verdicts[Verdict.DUPLICATE],
    )


def _open(windows: Windows, users: Ints) -> dict[int, UserWindow]:
    """The windows of some users as objects; their events are numbered as in `windows.events`."""
    opened = {}
    for u in users.tolist():
        a, b = int(windows.start[u]), int(windows.start[u + 1])
        noted = zip(windows.sources, windows.position[u].tolist(), strict=True)
        opened[u] = UserWindow(
            version=int(windows.version[u]),
            floor=int(windows.floor[u]),
            positions={source: at for source, at in noted if at != NO_POSITION} | windows.others.get(u, {}),
            times=windows.events["timestamp"][a:b].tolist(),
            ids=windows.events["event_id"][a:b].tolist(),
            events=list(range(a, b)),
        )
    return opened


def _running_time(partition: Ints, partition_time: Ints, quick: Ints, time: Ints) -> Ints:
    """Partition time before each record [n], as far as the `quick` records, all of them accepted, make it."""
    accepted = np.full(len(time), NO_TIME, np.int64)
    accepted[quick] = time[quick]
    running = np.empty_like(accepted)
    for p in np.unique(partition).tolist():
        at = np.flatnonzero(partition == p)
        running[at] = np.maximum.accumulate(np.concatenate([partition_time[p : p + 1], accepted[at[:-1]]]))
    return running


def _run(
    opened: dict[int, UserWindow],
    arrivals: Arrivals,
    records: Ints,
    partition: Ints,
    quick_time: Ints,
    after: Ints,
    rules: Rules,
    windows: Windows,
) -> Counter[Verdict]:
    """Apply `records`, in order, to their users' opened windows; raises `after`, the partition times."""
    verdicts: Counter[Verdict] = Counter()
    reached: dict[int, int] = {}  # partition -> newest time accepted here
    for n, u, column, offset, event, erase in zip(
        records.tolist(),
        arrivals.user[records].tolist(),
        arrivals.source[records].tolist(),
        arrivals.offset[records].tolist(),
        arrivals.events[["timestamp", "event_id"]][records].tolist(),
        arrivals.erase[records].tolist(),
        strict=True,
    ):
        time, event_id = event
        window, source = opened[u], windows.sources[column]
        p = int(partition[u])
        now = max(int(quick_time[n]), reached.get(p, NO_TIME))
        if erase:
            verdicts[window.erase(rules, now, source, offset, time)] += 1
            continue
        verdict = window.record(rules, now, source, offset, time, event_id, len(windows.events) + n)
        verdicts[verdict] += 1
        if verdict is Verdict.ACCEPTED and time > now:
            reached[p] = time
    for p, time in reached.items():
        after[p] = max(int(after[p]), time)
    return verdicts


class _Appends:
    """New events behind those that their users have. An event of a user is named by its place in the two together."""

    def __init__(self, windows: Windows, arrivals: Arrivals, record: Ints) -> None:
        self._windows = windows
        self._arrivals = arrivals
        self.record = record[np.argsort(arrivals.user[record], kind="stable")]  # [added], by user, then as they came
        self.user = arrivals.user[self.record]  # [added]
        self.count = np.bincount(self.user, minlength=len(windows)).astype(np.int64)  # [users]
        self._first = np.cumsum(self.count) - self.count  # [users], where a user's begin in `record`
        self._held = np.diff(windows.start)  # [users]
        self._time = arrivals.events["timestamp"][self.record]  # [added]
        self._old_time = np.append(windows.events["timestamp"], NO_TIME)

    def time_at(self, user: Ints, place: Ints) -> Ints:
        """Time of each user's event at a place."""
        old = place < self._held[user]
        from_old = self._old_time[np.where(old, self._windows.start[user] + place, -1)]
        if not len(self._time):
            return from_old
        from_new = self._time[np.where(old, 0, self._first[user] + place - self._held[user])]
        return np.where(old, from_old, from_new)

    def unusual(self, rules: Rules) -> Bools:
        """Users [users] for whom appending, and cutting by number, may not be what the rules say."""
        unusual = np.zeros(len(self._windows), bool)
        if not len(self.user):
            return unusual
        # Rule 4: all must come in the order of time.
        place = np.arange(len(self.user)) - self._first[self.user] + self._held[self.user]
        earlier = np.where(place > 0, self.time_at(self.user, np.maximum(place - 1, 0)), NO_TIME)
        unusual[self.user[self._time < earlier]] = True
        # Rule 5: no window may span more than max_age.
        some = np.flatnonzero(self.count)
        last = self._held[some] + self.count[some] - 1
        unusual[some[self.time_at(some, last) - self.time_at(some, np.zeros_like(some)) > rules.max_age_ms]] = True
        # Rule 3 after a cut: an event of the same time as the newest that left would be late. It stands keep_events
        # + 1 places or more behind that one, so more than keep_events of the same time are needed.
        far = (place > rules.keep_events) & (self._held + self.count > rules.max_events)[self.user]
        at = np.flatnonzero(far)
        back = self.time_at(self.user[at], place[at] - rules.keep_events - 1)
        unusual[self.user[at[self._time[at] <= back]]] = True
        self._mark_repeated_ids(unusual)
        return unusual

    def _mark_repeated_ids(self, unusual: Bools) -> None:
        """Rule 2: users with an event id twice. Hashed with the user into one number, so that one sort finds them."""
        new_id = self._arrivals.events["event_id"][self.record]
        named = np.zeros(len(self._windows), bool)
        named[self.user[new_id != 0]] = True
        if not named.any():
            return
        old_user = np.repeat(np.arange(len(self._windows)), self._held)
        old = np.flatnonzero(named[old_user] & (self._windows.events["event_id"] != 0))
        new = np.flatnonzero(new_id)
        owner = np.concatenate([old_user[old], self.user[new]])
        ids = np.concatenate([self._windows.events["event_id"][old], new_id[new]])
        mixed = ids ^ (owner.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        ordered = np.sort(mixed)
        if (ordered[1:] == ordered[:-1]).any():
            order = np.argsort(mixed)
            again = np.flatnonzero(mixed[order[1:]] == mixed[order[:-1]])
            unusual[owner[order[again]]] = True
            unusual[owner[order[again + 1]]] = True

    def take(self, start: Ints, left: Ints, kept: Ints) -> Ints:
        """Where each event of the new windows stands in the old events followed by the new records."""
        user = np.repeat(np.arange(len(kept)), kept)
        place = np.arange(start[-1]) - start[user] + left[user]
        old = place < self._held[user]
        if not len(self.record):
            return self._windows.start[user] + place
        # Where the event is an old one, `new` means nothing but must be an index.
        new = np.clip(self._first[user] + place - self._held[user], 0, len(self.record) - 1)
        return np.where(old, self._windows.start[user] + place, len(self._windows.events) + self.record[new])
