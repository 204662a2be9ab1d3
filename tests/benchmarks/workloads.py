"""What the systems are given: five workloads, seeded, each user's events in time order, the same for everybody."""

import gzip
import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from models.simulator import Shop, simulate
from tests.benchmarks.load import Event

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "taobao"
SLICE = FOLDER / "UserBehavior_timeslice_20171126.csv.gz"
HISTORIES = FOLDER / "UserBehavior_first815users.csv.gz"
TYPES = {"pv": "click", "cart": "cart", "fav": "favorite", "buy": "purchase"}
SLICE_BEGIN_S = 1_511_658_000
HISTORIES_S = range(1_511_539_200, 1_512_316_800)  # 2017-11-25 to 12-03, Chinese days

EVENTS = 400_000
HISTORIES_COPIES = 5  # of 84,440 events
HOT_USERS = 20_000
SLOW_USERS, SLOW_DAYS, SLOW_SECOND = 3_600, 90, 0.25  # second: chance of another event on the same day
SHOP_USERS = 50_000
START_MS = 1_735_689_600_000  # of what is made up: 2025-01-01
DAY_MS = 86_400_000
FIELDS = ("user_id", "type", "item_id", "category_id", "timestamp")


@dataclass(frozen=True)
class Workload:
    """Events to be published.

    `events(limit)` gives about so many of them, None: all. It is the beginning of all, but in `full` and `slow`: there
    some of the users with all that they did, since the beginning would hold young windows only.
    """

    name: str
    what: str
    events: Callable[[int | None], Iterator[Event]]
    catalog: Callable[[], dict[str, str]]  # item: its category


def find(name: str) -> Workload:
    """The workload of that name."""
    return {workload.name: workload for workload in ALL}[name]


def available() -> list[str]:
    """Names of those that can be run here: two need files that are not part of the repository."""
    missing = {"short": not SLICE.is_file(), "full": not HISTORIES.is_file()}
    return [workload.name for workload in ALL if not missing.get(workload.name)]


@cache
def _rows(path: Path, first_s: int, end_s: int) -> list[tuple[str, str, str, str, int]]:
    """User, item, category, type and seconds of the lines of a file whose time is within bounds, in time order."""
    rows = []
    with gzip.open(path, "rt") as lines:
        for line in lines:
            user, item, category, kind, seconds = line.rstrip().split(",")
            if first_s <= int(seconds) < end_s:
                rows.append((user, item, category, TYPES[kind], int(seconds)))
    rows.sort(key=lambda row: row[4])
    return rows


def _slice() -> list[tuple[str, str, str, str, int]]:
    return _rows(SLICE, SLICE_BEGIN_S, SLICE_BEGIN_S + 7200)


def _histories() -> list[tuple[str, str, str, str, int]]:
    return _rows(HISTORIES, HISTORIES_S.start, HISTORIES_S.stop)


def _event(user: str, kind: str, item: str, category: str, timestamp: int) -> Event:
    return {"user_id": user, "type": kind, "item_id": item, "category_id": category, "timestamp": timestamp}


def short(limit: int | None = None) -> Iterator[Event]:
    """Two hours of all users, then the same with other users: most have one or two events."""
    rows = _slice()
    copies = max(1, EVENTS // len(rows))
    every = (
        _event(f"{user}-{copy}" if copy else user, kind, item, category, seconds * 1000)
        for copy in range(copies)
        for user, item, category, kind, seconds in rows
    )
    return islice(every, limit)


def full(limit: int | None = None) -> Iterator[Event]:
    """Nine days of users with a hundred events each, several of them from each, at other hours of the day."""
    rows = _histories()
    random = Random(0)
    shift_ms = [0, *(random.randrange(-DAY_MS // 2, DAY_MS // 2) for _ in range(HISTORIES_COPIES - 1))]
    names = [(copy, user) for copy in range(HISTORIES_COPIES) for user in sorted({row[0] for row in rows})]
    random.shuffle(names)
    share = 1.0 if limit is None else limit / (len(rows) * HISTORIES_COPIES)
    chosen = set(names[: max(1, round(len(names) * share))])

    def copy_of(copy: int) -> Iterator[tuple[int, int, Event]]:
        for order, (user, item, category, kind, seconds) in enumerate(rows):
            if (copy, user) in chosen:
                time = seconds * 1000 + shift_ms[copy]
                yield time, order, _event(f"{user}-{copy}", kind, item, category, time)

    merged = heapq.merge(*(copy_of(copy) for copy in range(HISTORIES_COPIES)), key=lambda entry: entry[:2])
    return (event for _, _, event in merged)


def hot(limit: int | None = None) -> Iterator[Event]:
    """Half of all events come from 1 % of the users; an event every 100 ms."""
    random = np.random.default_rng(0)
    popular = random.random(EVENTS) < 0.5
    users = np.where(popular, random.integers(0, HOT_USERS // 100, EVENTS), random.integers(0, HOT_USERS, EVENTS))
    times = START_MS + 100 * np.arange(EVENTS)
    return islice(_made_up(users.tolist(), times.tolist(), random), limit)


def slow(limit: int | None = None) -> Iterator[Event]:
    """One event a day from each user, sometimes two, for three months: windows are cut by age, not by count."""
    random = np.random.default_rng(0)
    some = SLOW_USERS if limit is None else max(1, round(limit / (SLOW_DAYS * (1 + SLOW_SECOND))))
    users, days = np.meshgrid(np.arange(some), np.arange(SLOW_DAYS))
    again = random.random(users.shape) < SLOW_SECOND
    user = np.concatenate([users.ravel(), users[again]])
    time = START_MS + DAY_MS * np.concatenate([days.ravel(), days[again]]) + random.integers(0, DAY_MS, len(user))
    order = np.argsort(time, kind="stable")
    return _made_up(user[order].tolist(), time[order].tolist(), random)


def _made_up(users: list[int], times: list[int], random: np.random.Generator) -> Iterator[Event]:
    """Events of those users at those times, with items of the simulated shop."""
    shop = Shop(0)
    items = random.integers(0, len(shop.item_ids), len(users)).tolist()
    kinds = random.choice(list(TYPES.values()), len(users), p=[0.89, 0.055, 0.03, 0.025]).tolist()
    for user, time, item, kind in zip(users, times, items, kinds, strict=True):
        yield _event(f"user-{user}", kind, shop.item_ids[item], shop.category_ids[shop.item_category[item]], time)


def shop(limit: int | None = None) -> Iterator[Event]:
    """Two weeks of the simulated shop; of each event what the other workloads' have too."""
    events = simulate(Shop(0), users=SHOP_USERS, events=EVENTS, end_ms=START_MS + 14 * DAY_MS, seed=0)
    return ({name: event[name] for name in FIELDS} for event in islice(events, limit))


def _catalog_of(rows: Callable[[], list[tuple[str, str, str, str, int]]]) -> Callable[[], dict[str, str]]:
    def catalog() -> dict[str, str]:
        return {item: category for _, item, category, _, _ in rows()}

    return catalog


def _shop_catalog() -> dict[str, str]:
    sold: Any = Shop(0)
    return {item: sold.category_ids[category] for item, category in zip(sold.item_ids, sold.item_category, strict=True)}


ALL = (
    Workload("short", "two hours of Taobao, four times with other users", short, _catalog_of(_slice)),
    Workload("full", "nine days of Taobao, windows of 25 to 50 events", full, _catalog_of(_histories)),
    Workload("hot", "half of all events from 1 % of the users", hot, _shop_catalog),
    Workload("slow", "one or two events a user and day, windows cut by age", slow, _shop_catalog),
    Workload("shop", "the simulated shop", shop, _shop_catalog),
)
