"""The worker's windows against the slow reference: any records, in any order, split into any batches."""

import random
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stream import rules as worker
from stream.apply import Arrivals, apply
from stream.contract import EVENT_DTYPE
from stream.decode import token_rows
from stream.errors import TableValueError
from stream.value import UserState, pack, unpack
from stream.window import NO_TIME, dump, load
from tests.reference import Erase, Event, Reference, Rules, Shown, read_value
from tests.strategies import SOURCES, TIME_ZERO_MS, USERS, Log, Record, events, logs, rules, split

A, B = USERS[:2]
SOURCE = SOURCES[0]


@dataclass
class Table:
    """A table that the worker's code fills, batch after batch; what came of the records is counted."""

    rules: Rules
    partitions: int = 1
    values: list[dict[bytes, bytes]] = field(default_factory=list)
    time: list[int] = field(default_factory=list)
    accepted: int = 0
    late: int = 0
    duplicates: int = 0

    def __post_init__(self) -> None:
        self.values = [{} for _ in range(self.partitions)]
        self.time = [int(NO_TIME)] * self.partitions

    def put(self, *batch: Log) -> None:
        """One batch of all partitions, each partition's records in their order."""
        records = [(partition, record) for partition, log in enumerate(batch) for record in log]
        users = list(dict.fromkeys((partition, record.key) for partition, record in records))
        number = {user: index for index, user in enumerate(users)}
        texts = [
            record.value.tokens for _, record in records if isinstance(record.value, Event) and record.value.tokens
        ]
        text_row = iter(range(len(texts)))
        arrivals = Arrivals(
            user=np.array([number[partition, record.key] for partition, record in records], np.int64),
            source=np.array([SOURCES.index(record.source) for _, record in records], np.int64),
            offset=np.array([record.offset for _, record in records], np.int64),
            events=np.array([fields(record) for _, record in records], EVENT_DTYPE),
            erase=np.array([isinstance(record.value, Erase) for _, record in records], bool),
            text_row=np.array(
                [next(text_row) if getattr(record.value, "tokens", ()) else -1 for _, record in records], np.int32
            ),
            tokens=token_rows(texts),
        )
        applied = apply(
            load([self.values[partition].get(key) for partition, key in users], SOURCES),
            arrivals,
            np.array([partition for partition, _ in users], np.int64),
            np.array(self.time, np.int64),
            worker.Rules(self.rules.max_events, self.rules.keep_events, self.rules.max_age_ms, self.rules.idle_ttl_ms),
        )
        changed = np.flatnonzero(applied.accepted)
        for index, value in zip(changed.tolist(), dump(applied.windows, changed), strict=True):
            partition, key = users[index]
            self.values[partition][key] = value
        self.time = applied.partition_time.tolist()
        self.accepted += int(applied.accepted.sum())
        self.late += applied.late
        self.duplicates += applied.duplicates

    def restart(self) -> None:
        """Forget all but the table: partition time is the newest in it."""
        self.time = [
            max(
                (event.timestamp for value in values.values() for event in read_value(value).events),
                default=int(NO_TIME),
            )
            for values in self.values
        ]

    def shown(self, partition: int = 0) -> dict[bytes, Shown]:
        """Every user's state, read from its bytes by the layout."""
        return {key: read_value(value) for key, value in self.values[partition].items()}


def fields(record: Record) -> tuple[int, ...]:
    """A record as one row of EVENT_DTYPE; of an erase record only the record's own time is set."""
    match record.value:
        case Event(timestamp, item, event_id, category, kind, rating, price, quantity):
            return timestamp, item, event_id, category, kind, rating, price, quantity
        case _:
            return record.time, 0, 0, 0, 0, 0, 0, 0


def replay(reference: Reference, log: Iterable[Record]) -> Reference:
    """The reference after one more stretch of the log."""
    for record in log:
        reference.accept(record.source, record.offset, record.time, record.key, record.value)
    return reference


def shown(reference: Reference) -> dict[bytes, Shown]:
    """Every user's state in the reference."""
    return {key: state for key in reference.users if (state := reference.shown(key))}


def written(*values: Event | Erase, key: bytes = A, source: int = SOURCE, time: int = TIME_ZERO_MS) -> Log:
    """Records of one user at offsets 0, 1, …"""
    return [Record(source, offset, time, key, value) for offset, value in enumerate(values)]


def at(ms: int, item: int = 1, event_id: int = 0) -> Event:
    """An event this long after time zero."""
    return Event(TIME_ZERO_MS + ms, item, event_id)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), rules=rules(), log=logs(erases=False))
def test_any_batches(data: st.DataObject, rules: Rules, log: Log) -> None:
    """Whatever comes, however batched: windows, versions, floors, positions are the reference's (P2, P3, P6, P7).

    Several sources, events in any order, equal times, repeated event ids, redelivered stretches, idle users.
    """
    compare(rules, data.draw(split(log)))


@settings(max_examples=300, deadline=None)
@given(data=st.data(), rules=rules(idle=False), log=logs())
def test_any_batches_with_erased_users(data: st.DataObject, rules: Rules, log: Log) -> None:
    """The same with users who are erased and come back, or whose older events come later (P2, P3, P6)."""
    compare(rules, data.draw(split(log)))


@settings(max_examples=300, deadline=None)
@given(data=st.data(), rules=rules(), log=logs())
def test_any_batches_with_erased_and_idle_users(data: st.DataObject, rules: Rules, log: Log) -> None:
    """The same, where erase markers go with `idle_ttl`, and who is idle is erased (P2, P7).

    Whether the sweep has removed what is idle must make no difference, so rule 0 decides for markers too.
    """
    compare(rules, data.draw(split(log)))


@settings(max_examples=100, deadline=None)
@given(data=st.data(), rules=rules(), other=rules(), log=logs(erases=False))
def test_changed_bounds(data: st.DataObject, rules: Rules, other: Rules, log: Log) -> None:
    """A restart under other bounds: windows that go beyond the new ones are cut as the rules say (P7)."""
    table, reference = Table(rules), Reference(rules)
    for batch in data.draw(split(log)):
        table.put(batch)
        replay(reference, batch)
        assert shown(reference) == table.shown()
        table.rules = reference.rules = other


def compare(rules: Rules, batches: Sequence[Log]) -> None:
    """The worker's table and the reference after each batch, and what became of the records."""
    table, reference = Table(rules), Reference(rules)
    for batch in batches:
        table.put(batch)
        replay(reference, batch)
        assert shown(reference) == table.shown()
    assert reference.outcomes["late"] == table.late
    assert reference.outcomes["duplicate"] == table.duplicates
    assert reference.outcomes["accepted"] + reference.outcomes["erased"] == table.accepted
    assert table.time == [int(NO_TIME) if reference.time is None else reference.time]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.large_base_example])
@given(data=st.data(), rules=rules(), logs=st.lists(logs(max_size=30, erases=False), min_size=2, max_size=3))
def test_partitions_do_not_mix(data: st.DataObject, rules: Rules, logs: list[Log]) -> None:
    """Partitions that share batches, and even users, are as if each were alone (P2)."""
    table, references = Table(rules, partitions=len(logs)), [Reference(rules) for _ in logs]
    queues = [data.draw(split(log)) for log in logs]

    while any(queues):
        chosen = data.draw(st.lists(st.booleans(), min_size=len(queues), max_size=len(queues)))
        batch = [queue.pop(0) if queue and yes else [] for queue, yes in zip(queues, chosen, strict=True)]
        if any(batch):
            table.put(*batch)
        for reference, stretch in zip(references, batch, strict=True):
            replay(reference, stretch)

    for partition, reference in enumerate(references):
        assert shown(reference) == table.shown(partition)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), rules=rules(), log=logs(erases=False))
def test_restarts(data: st.DataObject, rules: Rules, log: Log) -> None:
    """A worker that starts anew from its table between any two batches goes on as if nothing had been (P2, W09)."""
    table, reference = Table(rules), replay(Reference(rules), log)

    for batch in data.draw(split(log)):
        table.restart()
        table.put(batch)

    assert shown(reference) == table.shown()


@settings(max_examples=200, deadline=None)
@given(data=st.data(), rules=rules(idle=False), log=logs(sources=1, redelivered=False))
def test_redelivery_changes_nothing(data: st.DataObject, rules: Rules, log: Log) -> None:
    """What comes again, from any place in the log on, leaves every byte as it was (P3, W06, W09)."""
    table = Table(rules)
    for batch in data.draw(split(log)):
        table.put(batch)
    before, accepted = table.values[0].copy(), table.accepted

    table.put(log[data.draw(st.integers(0, len(log) - 1)) :])

    assert before == table.values[0]
    assert accepted == table.accepted


@settings(max_examples=200, deadline=None)
@given(rules=rules(), log=logs(erases=False))
def test_bounds(rules: Rules, log: Log) -> None:
    """A window is ordered, within its bounds in events and age, free of repeated ids, not below its floor (P7)."""
    table = Table(rules)

    for record in log:
        table.put([record])
        for state in table.shown().values():
            times = [event.timestamp for event in state.events]
            ids = [event.event_id for event in state.events if event.event_id]
            assert sorted(times) == times
            assert 1 <= len(times) <= rules.max_events
            assert times[-1] - times[0] <= rules.max_age_ms
            assert sorted(set(ids)) == sorted(ids)
            assert len(times) <= state.version
            # What left may have shared its millisecond with one that stays.
            assert state.floor <= times[0] + 1


@settings(max_examples=100, deadline=None)
@given(data=st.data(), log=logs(sources=1, erases=False, event_ids=False, redelivered=False))
def test_order_of_arrival_is_forgotten(data: st.DataObject, log: Log) -> None:
    """While nothing is cut, events of distinct times give the same window in whatever order they come (P6, T08)."""
    wide = Rules(max_events=1000, keep_events=500, max_age_ms=1000, idle_ttl_ms=1000)
    distinct = list(
        {(record.key, record.value.timestamp): record for record in log if isinstance(record.value, Event)}.values()
    )
    shuffled = data.draw(st.permutations(distinct))
    arrived = [Record(r.source, offset, r.time, r.key, r.value) for offset, r in enumerate(shuffled)]
    table = Table(wide)

    for batch in data.draw(split(arrived)):
        table.put(batch)

    for key in {record.key for record in distinct}:
        events = sorted((r.value for r in distinct if r.key == key), key=lambda e: getattr(e, "timestamp", 0))
        assert tuple(events) == table.shown()[key].events
        assert len(events) == table.shown()[key].version


@pytest.mark.parametrize("order", list(permutations((1, 2, 3))))
@pytest.mark.parametrize("batches", [1, 3])
def test_three_events(order: tuple[int, ...], batches: int) -> None:
    """All six orders of three events, in one batch and in three, give one window (T08)."""
    log = written(*(at(ms, item=ms) for ms in order))
    table = Table(Rules())

    for batch in [log] if batches == 1 else [[record] for record in log]:
        table.put(batch)

    state = table.shown()[A]
    assert [1, 2, 3] == [event.item for event in state.events]
    assert (state.version, state.floor, state.positions) == (3, 0, ((SOURCE, 2),))


@pytest.mark.parametrize("batches", [1, 2])
def test_equal_times(batches: int) -> None:
    """Two events of the same millisecond keep the order in which they came, and a replay repeats it (T03)."""
    log = written(at(0, item=10), at(5, item=12), at(0, item=11))

    for _ in range(2):
        table = Table(Rules())
        for batch in [log] if batches == 1 else [log[:1], log[1:]]:
            table.put(batch)
        assert [10, 11, 12] == [event.item for event in table.shown()[A].events]


def test_event_id_counts_once() -> None:
    """One event id in a batch, across batches and across a restart counts once; another user's is another (W09)."""
    log = written(at(0, event_id=9), at(1, event_id=9), at(2, event_id=9), at(3, event_id=9), at(4, event_id=8))
    other = [Record(SOURCE, 5, TIME_ZERO_MS, B, at(0, event_id=9))]
    table = Table(Rules())

    table.put(log[:2])
    table.put(log[2:3])
    table.restart()
    table.put(log[3:] + other)

    assert (2, 3, 3) == (table.shown()[A].version, table.duplicates, table.accepted)
    assert [0, 4] == [event.timestamp - TIME_ZERO_MS for event in table.shown()[A].events]
    assert 1 == table.shown()[B].version


def test_full_window_is_cut() -> None:
    """The 51st event leaves the newest 25; the floor is 1 ms past what left, and that stays out (P6, P7)."""
    table = Table(Rules())

    table.put(written(*(at(10 * n, item=n) for n in range(51))))

    state = table.shown()[A]
    assert list(range(26, 51)) == [event.item for event in state.events]
    assert (state.version, state.floor) == (51, TIME_ZERO_MS + 251)

    table.put([Record(SOURCE, 51, 0, A, at(250, item=99)), Record(SOURCE, 52, 0, A, at(251, item=98))])

    state = table.shown()[A]
    assert [98, *range(26, 51)] == [event.item for event in state.events]
    assert (52, 1) == (state.version, table.late)


def test_late_event_into_a_full_window() -> None:
    """A late event that fills the window and is among the oldest is accepted, counted, and leaves with them (P6)."""
    table = Table(Rules())
    table.put(written(*(at(10 * n + 10, item=n) for n in range(50))))

    table.put([Record(SOURCE, 50, 0, A, at(0, item=99))])

    state = table.shown()[A]
    assert list(range(25, 50)) == [event.item for event in state.events]
    assert (state.version, state.floor) == (51, TIME_ZERO_MS + 251)


def test_old_events_leave() -> None:
    """Once the oldest is over 30 days back, all over 15 days back leave; at exactly 30 and 15 days they stay (P7)."""
    day = 86_400_000
    table = Table(Rules())
    table.put(written(at(0, item=0), at(15 * day, item=1), at(15 * day + 1, item=2), at(30 * day, item=3)))
    assert [0, 1, 2, 3] == [event.item for event in table.shown()[A].events]

    table.put([Record(SOURCE, 4, 0, A, at(30 * day + 1, item=4))])

    state = table.shown()[A]
    assert [2, 3, 4] == [event.item for event in state.events]
    assert (5, TIME_ZERO_MS + 15 * day + 1) == (state.version, state.floor)


def test_idle_user_starts_anew() -> None:
    """A user more than 90 days behind the partition starts at version 1; a record as old is late for everybody (P7)."""
    day = 86_400_000
    table = Table(Rules())
    table.put([*written(at(0), at(1)), Record(SOURCE, 2, 0, B, at(90 * day + 1))])
    assert 2 == table.shown()[A].version

    # B's newest is exactly idle_ttl ahead of A's: not idle yet.
    table.put([Record(SOURCE, 3, 0, A, at(2))])
    assert 3 == table.shown()[A].version
    table.put([Record(SOURCE, 4, 0, B, at(90 * day + 3)), Record(SOURCE, 5, 0, USERS[2], at(2))])
    assert (1, False) == (table.late, USERS[2] in table.shown())

    table.put([Record(SOURCE, 6, 0, A, at(3, item=7))])

    assert Shown((at(3, item=7),), 1, 0, ((SOURCE, 6),)) == table.shown()[A]


def test_one_event_far_ahead_expires_nobody_else_at_once() -> None:
    """A jump of another user's time leaves what this user stored in the same batch (P7, T07)."""
    table = Table(Rules())

    table.put([Record(SOURCE, 0, 0, A, at(0)), Record(SOURCE, 1, 0, B, at(400 * 86_400_000))])

    assert 1 == table.shown()[A].version


@pytest.mark.parametrize("batches", [1, 4])
def test_erased_user(batches: int) -> None:
    """An erase record leaves a marker; older events are late, newer ones start at version 1, no replay brings back."""
    log = [
        *written(at(0), at(5)),
        Record(SOURCE, 2, TIME_ZERO_MS + 10, A, Erase()),
        Record(SOURCE, 3, TIME_ZERO_MS + 11, A, at(9)),
    ]
    table = Table(Rules())
    for batch in [log] if batches == 1 else [[record] for record in log]:
        table.put(batch)

    assert Shown((), 0, TIME_ZERO_MS + 10, ((SOURCE, 2),)) == table.shown()[A]
    table.put(log)
    assert Shown((), 0, TIME_ZERO_MS + 10, ((SOURCE, 2),)) == table.shown()[A]

    table.put([Record(SOURCE, 4, TIME_ZERO_MS + 12, A, at(10))])
    assert Shown((at(10),), 1, TIME_ZERO_MS + 10, ((SOURCE, 4),)) == table.shown()[A]


def test_other_sources_keep_their_positions() -> None:
    """Positions in topics that are not read now survive a write: reading them again applies nothing twice (P3)."""
    table = Table(Rules())
    log = [Record(source, 5, 0, A, at(0)) for source in SOURCES]
    table.put(log)
    value = table.values[0][A]

    windows = load([value], SOURCES[:1])
    again = dump(windows, np.array([0]))

    assert read_value(value) == read_value(again[0])
    assert tuple(sorted((source, 5) for source in SOURCES)) == read_value(again[0]).positions


@st.composite
def states(draw: st.DrawFn) -> Shown:
    """Any state that a table may hold."""
    window = sorted(
        (draw(events(item=draw(st.integers(1, 2**64 - 1)))) for _ in range(draw(st.integers(0, 9)))),
        key=lambda event: event.timestamp,
    )
    positions = draw(st.dictionaries(st.sampled_from(SOURCES), st.integers(0, 2**63 - 1)))
    return Shown(
        tuple(window),
        draw(st.integers(len(window), 2**63 - 1)),
        draw(st.sampled_from([0, TIME_ZERO_MS])),
        tuple(sorted(positions.items())),
    )


def packed(state: Shown) -> bytes:
    """A state's bytes, by the worker."""
    return pack(
        UserState(
            state.version,
            state.floor,
            dict(state.positions),
            np.array([fields(Record(0, 0, 0, b"", event)) for event in state.events], EVENT_DTYPE),
            [list(event.tokens) for event in state.events],
        )
    )


@settings(max_examples=200, deadline=None)
@given(states=st.lists(states(), min_size=1, max_size=5))
def test_value_round_trip(states: list[Shown]) -> None:
    """States go to bytes as the layout says and come back, one by one and as columns, in any order of users."""
    values = [packed(state) for state in states]
    order = np.arange(len(states))[::-1]

    again = dump(load(values, SOURCES), order)

    assert states == [read_value(value) for value in values]
    assert states == [read_value(value) for value in again[::-1]]
    for state, value in zip(states, values, strict=True):
        back = unpack(value)
        assert value == pack(back)
        assert (state.version, state.floor, state.positions) == (
            back.version,
            back.floor,
            tuple(sorted(back.positions.items())),
        )
        assert [list(event.tokens) for event in state.events] == back.tokens


def test_frozen_value() -> None:
    """The very bytes of a value with all its parts: tables written today are read by every later release."""
    value = bytes.fromhex(
        "01"  # format
        "0300000000000000"  # version 3
        "e803000000000000"  # floor 1000
        "01"
        "0200"  # one source, two events
        "efcdab8967452301"
        "2a00000000000000"  # its hash, offset 42
        "d007000000000000"
        "0102030405060708"
        "0000000000000000"
        "0a0b0c0d"
        "01"
        "00"
        "00"
        "00"
        "b80b000000000000"
        "1112131415161718"
        "2122232425262728"
        "00000000"
        "05"
        "2d"
        "09"
        "01"
        "02"
        "01000000"
        "ffffffff"  # the review's two tokens
    )
    state = Shown(
        (
            Event(2000, 0x0807060504030201, 0, 0x0D0C0B0A, 1),
            Event(3000, 0x1817161514131211, 0x2827262524232221, 0, 5, 45, 9, 1, (1, 2**32 - 1)),
        ),
        3,
        1000,
        ((0x0123456789ABCDEF, 42),),
    )

    assert state == read_value(value)
    assert value == packed(state)
    assert [value] == dump(load([value], [0x0123456789ABCDEF]), np.array([0]))


@settings(max_examples=50, deadline=None)
@given(state=states(), data=st.data())
@example(state=Shown((), 0, 5, ()), data=None)
def test_damaged_value(state: Shown, data: st.DataObject | None) -> None:
    """A value cut anywhere, longer than it says, or of another format is an error, never another state (R26)."""
    value = packed(state)
    cut = value[: data.draw(st.integers(1, len(value) - 1)) if data else 10]

    for damaged in (cut, value + b"\0", b"\x02" + value[1:], b"\0" + value[1:], struct.pack("<B", 255) + value[1:]):
        with pytest.raises(TableValueError):
            unpack(damaged)
        for values in ([damaged], [value, damaged], [damaged, value], [None, damaged]):
            with pytest.raises(TableValueError):
                load(values, SOURCES)


@pytest.mark.parametrize("seed", range(3))
def test_long_histories(seed: int) -> None:
    """Thousands of events under the default rules, a third of them up to two hours late, in any batches (P2, P6)."""
    chance = random.Random(seed)
    times = sorted(chance.randrange(0, 14_400_000) for _ in range(6000))
    made = sorted((t + chance.choice([0, 0, chance.randrange(7_200_000)]), t) for t in times)
    log = [
        Record(
            SOURCE,
            offset,
            0,
            b"u%d" % chance.randrange(40),
            at(time // 1000 * 1000, item=offset + 1, event_id=chance.randrange(300)),
        )
        for offset, (_, time) in enumerate(made)
    ]
    table, reference = Table(Rules()), replay(Reference(Rules()), log)

    place = 0
    while place < len(log):
        size = chance.choice([1, 7, 300, 2000])
        table.put(log[place : place + size])
        place += size

    assert shown(reference) == table.shown()
    assert reference.outcomes["late"] == table.late > 0
    assert reference.outcomes["duplicate"] == table.duplicates > 0
