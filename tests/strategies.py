"""Hypothesis strategies: what one partition of several event topics may bring, in little.

Times span a few dozen milliseconds and windows a handful of events, so that cuts, late events, erased and idle users
come up in nearly every example.
"""

from dataclasses import dataclass

from hypothesis import strategies as st

from tests.reference import Erase, Event, Rules

TIME_ZERO_MS = 1_700_000_000_000
SPAN_MS = 120
USERS = (b"u0", "用户".encode(), b"u2")
SOURCES = (7, 2**63 + 11, 3)  # hashes of topic name and topic id take all 64 bits


@dataclass(frozen=True)
class Record:
    """One decoded record of the partition, at its place in the log of its source."""

    source: int
    offset: int
    time: int
    key: bytes
    value: Event | Erase


Log = list[Record]


@st.composite
def rules(draw: st.DrawFn, *, idle: bool = True) -> Rules:
    """Windows of 2 to 8 events, ages and (unless told) idle times that an example's times can pass."""
    max_events = draw(st.integers(2, 8))
    keep_events = draw(st.integers(1, max_events - 1))
    max_age_ms = draw(st.integers(1, SPAN_MS))
    idle_ttl_ms = max_age_ms + draw(st.integers(0, SPAN_MS)) if idle else 2 * SPAN_MS
    return Rules(max_events, keep_events, max_age_ms, idle_ttl_ms)


@st.composite
def events(draw: st.DrawFn, *, item: int, event_ids: bool = True) -> Event:
    """An event of any time; equal times and repeated event ids are common, `item` tells events apart."""
    kind = draw(st.sampled_from([1, 1, 2, 3, 4, 5]))
    review = kind == 5
    return Event(
        timestamp=TIME_ZERO_MS + draw(st.integers(0, SPAN_MS)),
        item=item,
        event_id=draw(st.sampled_from([0, 0, 0, 1, 2, 2**64 - 1])) if event_ids else 0,
        category=draw(st.sampled_from([0, 1, 2**32 - 1])),
        type=kind,
        rating=draw(st.sampled_from([0, 10, 45, 50])) if review else 0,
        price=draw(st.sampled_from([0, 1, 255])),
        quantity=draw(st.sampled_from([0, 9])),
        tokens=tuple(draw(st.lists(st.integers(1, 2**32 - 1), max_size=3))) if review else (),
    )


@st.composite
def logs(
    draw: st.DrawFn,
    *,
    max_size: int = 60,
    sources: int = len(SOURCES),
    erases: bool = True,
    event_ids: bool = True,
    redelivered: bool = True,
) -> Log:
    """A partition's records in the order of arrival: gaps in the offsets, several sources, redeliveries."""
    log: Log = []
    next_offset = dict.fromkeys(SOURCES[:sources], 0)
    for number in range(draw(st.integers(1, max_size))):
        source = draw(st.sampled_from(SOURCES[:sources]))
        offset = next_offset[source] + draw(st.sampled_from([0, 0, 0, 1, 5]))
        next_offset[source] = offset + 1
        erase = erases and draw(st.integers(0, 14)) == 0
        log.append(
            Record(
                source,
                offset,
                TIME_ZERO_MS + draw(st.integers(0, SPAN_MS)),
                draw(st.sampled_from(USERS)),
                Erase() if erase else draw(events(item=number + 1, event_ids=event_ids)),
            )
        )
    for _ in range(draw(st.integers(0, 2)) if redelivered else 0):
        start = draw(st.integers(0, len(log) - 1))
        end = draw(st.integers(start + 1, len(log)))
        place = draw(st.integers(end, len(log)))
        log[place:place] = log[start:end]
    return log


@st.composite
def split(draw: st.DrawFn, log: Log) -> list[Log]:
    """The same records in the same order, cut into batches anywhere, and wherever a source's offsets go back.

    Redelivery follows a restart or a rebalance, so it never shares a batch with what it repeats.
    """
    cuts = draw(st.sets(st.integers(1, len(log) - 1), max_size=6)) if len(log) > 1 else set()
    highest: dict[int, int] = {}
    for place, record in enumerate(log):
        if record.offset <= highest.get(record.source, -1):
            cuts.add(place)
            highest.clear()
        elif place in cuts:
            highest.clear()
        highest[record.source] = record.offset
    ordered = sorted(cuts)
    return [log[start:end] for start, end in zip([0, *ordered], [*ordered, len(log)], strict=True)]
