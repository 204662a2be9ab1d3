"""The simulated shop: exact, repeatable, in order, and within the contract."""

from collections import Counter
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from models.features import text_tokens
from models.simulator import HISTORY_MS, LATE_MAX_MS, Shop, live, simulate, user_id
from stream.commands import run
from stream.decode import decode
from stream.errors import UsageError

END_MS = 1_760_000_000_000
SHOP = Shop()


class Sent(NamedTuple):
    """A record as a broker would hand it over."""

    key: bytes
    value: bytes
    offset: int
    timestamp: int
    headers: tuple[()] = ()


def log(events: int = 6000, users: int = 60, seed: int = 3, **shares: Any) -> list[dict[str, Any]]:
    """A log of the default shop."""
    return list(simulate(SHOP, users=users, events=events, end_ms=END_MS, seed=seed, **shares))


def accepted(events: list[dict[str, Any]]) -> None:
    """All of them pass the contract's check."""
    sent = [Sent(event["user_id"].encode(), orjson.dumps(event), at, END_MS) for at, event in enumerate(events)]
    decoded = decode(sent)
    assert [refused.detail for refused in decoded.refused] == []
    assert len(decoded.keys) == len(events)


def test_shop_is_the_same_for_a_seed_and_another_for_another() -> None:
    """Ids, names and prices hang on the seed alone; names differ within a category."""
    assert (SHOP.item_names, SHOP.prices.tolist()) == (Shop(0).item_names, Shop(0).prices.tolist())
    assert SHOP.item_names != Shop(1).item_names
    sizes = [len(members) for members in SHOP.members]
    assert len(sizes) == 12
    assert min(sizes) >= 40
    assert max(sizes) <= 60
    assert len(set(SHOP.item_ids)) == len(SHOP.item_ids) == sum(sizes)
    assert len({*zip(SHOP.item_names, SHOP.item_category.tolist(), strict=True)}) == len(SHOP.item_ids)
    assert SHOP.prices.min() > 0


@pytest.mark.parametrize("events", [0, 1, 7, 5000])
@pytest.mark.parametrize("shares", [{}, {"late": 0.2, "duplicates": 0.1}])
def test_exact_count_and_same_for_a_seed(events: int, shares: dict[str, Any]) -> None:
    """As many events as asked for, repeated ones included, and the same ones again."""
    assert len(log(events, **shares)) == events
    assert log(events, **shares) == log(events, **shares)


def test_another_seed_is_another_log() -> None:
    """Seeds matter."""
    assert log(100, seed=1) != log(100, seed=2)


def test_within_the_contract_and_two_weeks() -> None:
    """Every event is accepted, none is before the two weeks or after their end, and the last days are not empty."""
    events = log(late=0.1, duplicates=0.1, names=True)
    accepted(events)
    times = [event["timestamp"] for event in events]
    assert min(times) >= END_MS - HISTORY_MS
    assert END_MS - 3_600_000 < max(times) <= END_MS
    assert {event["item_name"] for event in events} <= set(SHOP.item_names)


def test_in_order_unless_late() -> None:
    """Times never fall where nothing is late; with a share of a tenth, about a tenth comes behind later ones."""
    times = [event["timestamp"] for event in log()]
    assert times == sorted(times)
    newest, behind, delay = 0, 0, 0
    for event in log(late=0.1):
        behind += event["timestamp"] < newest
        delay = max(delay, newest - event["timestamp"])
        newest = max(newest, event["timestamp"])
    assert 0.07 < behind / 6000 < 0.13
    assert LATE_MAX_MS / 2 < delay <= LATE_MAX_MS


def test_duplicates_repeat_an_event_whole() -> None:
    """A tenth of the events are earlier ones again, equal to the letter; all others have ids of their own."""
    events = log(duplicates=0.1)
    by_id: dict[str, dict[str, Any]] = {}
    again = 0
    for event in events:
        again += event["event_id"] in by_id
        assert by_id.setdefault(event["event_id"], event) == event
    assert again == 600


@pytest.mark.parametrize("users", [1, 60])
def test_funnel(users: int) -> None:
    """Cart and favorite follow a click on the product, a purchase its cart, a review its purchase, a user at a time."""
    before = {"cart": "click", "favorite": "click", "purchase": "cart", "review": "purchase"}
    done: set[tuple[str, str, str]] = set()
    for event in log(users=users):
        needs = before.get(event["type"])
        assert needs is None or (event["user_id"], event["item_id"], needs) in done, event
        done.add((event["user_id"], event["item_id"], event["type"]))
    counts = Counter(event["type"] for event in log())
    assert set(counts) == {"click", "cart", "favorite", "purchase", "review"}
    assert counts["click"] > 0.6 * 6000


def test_reviews_speak_of_rating_and_language() -> None:
    """Ratings from 1 to 5 come with sentences that differ by mood, in English or Chinese, one language a user."""
    reviews = [event for event in log(40_000) if event["type"] == "review"]
    assert {event["rating"] for event in reviews} == {1, 2, 3, 4, 5}
    assert all(event["text"] and "{" not in event["text"] and text_tokens(event["text"]) for event in reviews)
    chinese = [event for event in reviews if not event["text"].isascii() and "，" in event["text"]]
    assert 0.15 < len(chinese) / len(reviews) < 0.65
    users = {event["user_id"] for event in chinese}
    assert all(event in chinese for event in reviews if event["user_id"] in users)
    for word, ratings in (("recommended!", {4, 5}), ("Disappointed", {1, 2}), ("差评", {1, 2}), ("一般", {3})):
        assert {event["rating"] for event in reviews if word in event["text"]} <= ratings


def test_better_products_are_rated_better() -> None:
    """Reviews carry a signal: the upper half by quality has the better mean rating."""
    quality = dict(zip(SHOP.item_ids, SHOP.quality.tolist(), strict=True))
    middle = sorted(quality.values())[len(quality) // 2]
    better: list[int] = []
    worse: list[int] = []
    for event in log(20_000):
        if event["type"] == "review":
            (better if quality[event["item_id"]] > middle else worse).append(event["rating"])
    assert sum(better) / len(better) > sum(worse) / len(worse) + 0.5


@pytest.mark.parametrize("bad", [{"users": 0}, {"events": -1}, {"late": 1.5}, {"duplicates": 1.0}])
def test_impossible_numbers(bad: dict[str, Any]) -> None:
    """What cannot be is refused before the first event."""
    with pytest.raises(UsageError, match="expected"):
        simulate(SHOP, **{"users": 1, "events": 1, "end_ms": END_MS, "seed": 0, **bad})


def test_live_moves_the_followed_shopper() -> None:
    """One event in ten is user 0's, who goes from category to category within a minute; ids differ between runs."""
    events = list(islice(live(SHOP, users=40, seed=1, start_ms=END_MS), 3000))
    accepted(events)
    mine = [event["category_id"] for event in events if event["user_id"] == user_id(0)]
    assert 240 < len(mine) < 360
    turns = sum(a != b for a, b in pairwise(mine))
    assert 10 < turns < len(mine) / 4
    assert len({event["event_id"] for event in events}) == 3000
    other = next(live(SHOP, users=40, seed=1, start_ms=END_MS + 1))
    assert other["event_id"] not in {event["event_id"] for event in events}


def test_live_with_one_user() -> None:
    """A shop of one user serves that one."""
    assert {event["user_id"] for event in islice(live(SHOP, users=1, seed=0, start_ms=END_MS), 50)} == {user_id(0)}


def test_command_writes_a_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`interest model simulate` writes as many lines as asked for, the same ones for a seed and an end."""
    files = [tmp_path / name for name in ("a.jsonl", "b.jsonl")]
    for file in files:
        options = ["--events", "300", "--users", "9", "--end", "2025-10-09", "--names", "--output", str(file)]
        assert run(["model", "simulate", *options]) == 0
    lines = files[0].read_bytes().splitlines()
    assert lines == files[1].read_bytes().splitlines()
    accepted([orjson.loads(line) for line in lines])
    assert len(lines) == 300
    assert capfd.readouterr().out == f"{files[0]}: 300 events\n{files[1]}: 300 events\n"
    assert run(["model", "simulate", "--output", str(tmp_path / "no" / "a.jsonl")]) == 2
    assert "expected a file that can be written: No such file or directory" in capfd.readouterr().err
