"""A simulated shop's events: two weeks of history for a log, or an endless stream to be watched."""

import heapq
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from models.products import Shop
from models.reviews import review
from models.shoppers import Shoppers
from stream.errors import UsageError

__all__ = ["Shop", "live", "simulate", "user_id"]

HISTORY_MS: Final = 14 * 86_400_000
LATE_MAX_MS: Final = 2 * 3_600_000
AGAIN_MAX_MS: Final = 600_000
STEPS_MEAN: Final = 9  # of a visit
LIVE_STEPS_MEAN: Final = 14

# How many visits begin in each hour of the day (UTC): least at night, most in the evening.
HOURS: Final = (3, 2, 1, 1, 1, 2, 4, 6, 7, 8, 9, 10, 11, 10, 9, 9, 10, 11, 12, 14, 16, 15, 10, 6)


def user_id(user: int) -> str:
    """The id of the user of that number."""
    return f"user-{user}"


def simulate(
    shop: Shop,
    *,
    users: int,
    events: int,
    end_ms: int,
    seed: int,
    late: float = 0.0,
    duplicates: float = 0.0,
    names: bool = False,
) -> Iterator[dict[str, Any]]:
    """Exactly `events` events of the last two weeks before `end_ms`, in the order they are delivered.

    Args:
        shop: what is on sale.
        users: how many may come; a few come often, some perhaps never.
        events: how many to give, repeated ones included.
        end_ms: the newest time, ms since the epoch; the oldest is at most 14 days before.
        seed: the same arguments give the same events.
        late: share of events that are delivered up to two hours after their time, so behind later ones.
        duplicates: share of events that are earlier ones again, with the same event_id, up to ten minutes later.
        names: add `item_name` and `category_name`, which training puts into the catalog.

    Raises:
        UsageError: a number that cannot be.
    """
    if users < 1 or events < 0:
        raise UsageError(f"expected at least 1 user and not less than 0 events, got {users} and {events}")
    if not (0 <= late <= 1 and 0 <= duplicates < 1):
        raise UsageError(f"shares of late and duplicate events expected from 0 to below 1, got {late} and {duplicates}")
    return _simulate(shop, users, events, end_ms, seed, late, duplicates, names)


def _simulate(
    shop: Shop, users: int, events: int, end_ms: int, seed: int, late: float, duplicates: float, names: bool
) -> Iterator[dict[str, Any]]:
    shoppers = Shoppers(shop, users, seed)
    make = _maker(shop, shoppers, f"{seed:x}-{end_ms:x}", names)
    random = np.random.default_rng([seed, 4])
    uniform = shoppers.uniform
    again = round(events * duplicates)  # left to repeat
    fresh = events - again  # left to make
    steps = _steps(random, fresh)
    starts = _starts(random, len(steps), end_ms)
    free_ms: dict[int, int] = {}  # when a user's last visit ends
    waiting: list[tuple[int, int, dict[str, Any]]] = []  # heap by time of delivery
    order = 0
    for begin, count in zip(starts.tolist(), steps.tolist(), strict=True):
        while waiting and waiting[0][0] <= begin:
            yield heapq.heappop(waiting)[2]
        for _ in range(4):
            user = shoppers.pick()
            if free_ms.get(user, 0) <= begin:
                break
        start = min(end_ms, max(begin, free_ms.get(user, 0)))  # a user is at one place at a time
        category = shoppers.intent(user, start / 86_400_000)
        pauses = np.cumsum(np.minimum(random.lognormal(10.1, 0.9, count), AGAIN_MAX_MS))  # median 24 s
        pauses *= min(1.0, (end_ms - start) / float(pauses[-1]))
        for (kind, item), pause in zip(shoppers.visit(user, category, count), pauses.tolist(), strict=True):
            time = start + int(pause)
            event = make(user, kind, item, time)
            order += 1
            delivered = time + int(LATE_MAX_MS * uniform()) if uniform() < late else time
            heapq.heappush(waiting, (delivered, order, event))
            if uniform() * fresh < again:  # selection sampling: exactly as many as asked for
                again -= 1
                order += 1
                heapq.heappush(waiting, (delivered + 1 + int(AGAIN_MAX_MS * uniform()), order, dict(event)))
            fresh -= 1
        free_ms[user] = time
    while waiting:
        yield heapq.heappop(waiting)[2]


def live(shop: Shop, *, users: int, seed: int, start_ms: int, followed_share: float = 0.1) -> Iterator[dict[str, Any]]:
    """Events without an end, to be published at once: `timestamp` is `start_ms`, and the caller sets it to now.

    Each event is user 0's with a chance of `followed_share` (one a second at a rate of 10 a second), else anyone's. A
    user stays with a category for about 14 events and then goes to another, so that user 0's vector moves visibly
    within a minute. Event ids hold `start_ms`: another run's differ.
    """
    shoppers = Shoppers(shop, users, seed)
    make = _maker(shop, shoppers, f"{seed:x}-{start_ms:x}", names=False)
    uniform = shoppers.uniform
    plans: dict[int, list[tuple[str, int]]] = {}
    last: dict[int, int] = {}
    day = start_ms / 86_400_000
    while True:
        user = 0 if users == 1 or uniform() < followed_share else 1 + int(uniform() * (users - 1))
        if not plans.get(user):
            day += 1e-3
            for _ in range(4):
                category = shoppers.intent(user, day)
                day += 2  # a day and more away: the last visit's category has no hold
                if category != last.get(user):
                    break
            last[user] = category
            count = 5 + int(2 * (LIVE_STEPS_MEAN - 5) * uniform())
            plans[user] = shoppers.visit(user, category, count)[::-1]
        kind, item = plans[user].pop()
        yield make(user, kind, item, start_ms)


def _maker(shop: Shop, shoppers: Shoppers, prefix: str, names: bool) -> Callable[[int, str, int, int], dict[str, Any]]:
    """Makes events of the contract, each with an event_id of its own."""
    prices, uniform = shop.prices.tolist(), shoppers.uniform
    of = shop.item_category.tolist()
    number = 0

    def make(user: int, kind: str, item: int, time: int) -> dict[str, Any]:
        nonlocal number
        number += 1
        event: dict[str, Any] = {
            "user_id": user_id(user),
            "type": kind,
            "item_id": shop.item_ids[item],
            "timestamp": time,
            "event_id": f"{prefix}-{number:x}",
            "category_id": shop.category_ids[of[item]],
            "price": prices[item],
        }
        if kind in ("cart", "purchase"):
            event["quantity"] = 1 + int(1.3 * uniform())
        elif kind == "review":
            rating = shoppers.rating(user, item)
            event["rating"] = rating
            event["text"] = review(
                shop.categories[of[item]],
                shop.item_names[item],
                rating,
                chinese=shoppers.chinese[user],
                uniform=uniform,
            )
        if names:
            event["item_name"] = shop.item_names[item]
            event["category_name"] = shop.category_names[of[item]]
        return event

    return make


def _steps(random: np.random.Generator, total: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Steps of each visit, at least 1, that add up to `total`."""
    steps = np.zeros(0, np.int64)
    while steps.sum() < total:
        more = random.geometric(1 / STEPS_MEAN, max(16, total // STEPS_MEAN // 4))
        steps = np.concatenate([steps, more])
    ends = np.cumsum(steps)
    visits = int(np.searchsorted(ends, total))
    steps = steps[: visits + 1] if total else steps[:0]
    if total:
        steps[-1] -= ends[visits] - total
    return steps


def _starts(random: np.random.Generator, visits: int, end_ms: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """When each visit begins, ascending, ms: over 14 days before `end_ms` by the hours of the day."""
    hour_ms = 3_600_000
    edges = np.arange(end_ms - HISTORY_MS, end_ms + 1, hour_ms)
    weight = np.array(HOURS)[(edges[:-1] // hour_ms) % 24]
    share = np.concatenate([[0], np.cumsum(weight)]) / weight.sum()
    starts: np.ndarray[tuple[int], np.dtype[np.int64]] = np.interp(
        (np.arange(visits) + random.random(visits)) / max(1, visits), share, edges
    ).astype(np.int64)
    return starts
