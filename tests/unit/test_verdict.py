"""Better and worse are said only where 95 % intervals say so, and items decide whether a model is rolled out."""

from typing import Any

import numpy as np
import pytest

from models.verdict import ALIKE, BETTER, WORSE, differences, interval, systems_of, verdict, wilson


def figures(share: float, asked: int = 1000) -> dict[str, Any]:
    """What models.measure says of one system and group."""
    return {"asked": asked, "hr": {"5": share / 2, "20": share}}


def found(asked: int = 1000, category: dict[str, float] | None = None, **items: float) -> dict[str, Any]:
    """Shares of items, and of categories, by system; `_` stands for a space."""
    systems: dict[str, Any] = {name.replace("_", " "): {"item": figures(one, asked)} for name, one in items.items()}
    for name, share in (category or {}).items():
        systems[name]["category"] = figures(share, asked)
    return {"systems": systems}


@pytest.mark.parametrize(
    ("ours", "asked", "theirs", "their_asked", "low", "high"),
    [
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (6, 7, 2, 7, 0.0582, 0.8062),
        (5, 56, 0, 29, -0.0381, 0.1926),
        (0, 10, 0, 20, -0.1611, 0.2775),
        (0, 10, 0, 10, -0.2775, 0.2775),
        (10, 10, 0, 20, 0.6791, 1.0),
        (10, 10, 0, 10, 0.6075, 1.0),
    ],
)
def test_intervals_as_published(ours: int, asked: int, theirs: int, their_asked: int, low: float, high: float) -> None:
    """The examples of Newcombe's paper (1998, table II, method 10), to its four places."""
    assert (low, high) == tuple(
        round(one, 4) for one in interval(ours / asked, asked, theirs / their_asked, their_asked)
    )


def test_an_interval_of_one_share() -> None:
    """Known values; of nothing asked nothing is known; a share is within its own interval, however rare or common."""
    assert (0.4038, 0.5962) == tuple(round(one, 4) for one in wilson(0.5, 100))
    assert (0.0, 0.2775) == tuple(round(one, 4) for one in wilson(0, 10))
    assert (0.0, 1.0) == wilson(0.0, 0)
    for share in (0.0, 1e-9, 0.3, 1 - 1e-9, 1.0):
        low, high = wilson(share, 7)
        assert 0 <= low <= share <= high <= 1


def test_intervals_cover_what_they_should() -> None:
    """Of draws of two true shares, about 95 % of the intervals hold the true difference."""
    random = np.random.default_rng(0)
    ours, theirs = random.binomial(400, 0.06, 2000) / 400, random.binomial(400, 0.04, 2000) / 400
    bounds = [interval(a, 400, b, 400) for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)]
    assert 0.93 < np.mean([low <= 0.02 <= high for low, high in bounds]) < 0.98


def test_words() -> None:
    """On one side of 0 better or worse, across it not told apart; more events tell more apart."""
    told = {one.against: one.word for one in differences(found(model=0.1, a=0.05, b=0.2, c=0.09), "item")}
    assert {"a": BETTER, "b": WORSE, "c": ALIKE} == told
    assert BETTER == differences(found(100_000, model=0.1, c=0.09), "item")[0].word
    assert ALIKE == differences(found(model=0.0, c=0.0), "item")[0].word


def test_order_and_what_is_not_there() -> None:
    """The model's own come first; a group that a system, or the model, was not asked for is left out."""
    told = found(latest=0.1, daily=0.1, model_without_its_LSTM=0.1, model=0.1, category={"model": 0.5, "latest": 0.6})
    assert ["model", "model without its LSTM", "daily", "latest"] == systems_of(told)
    assert ["latest"] == [one.against for one in differences(told, "category")]
    assert [] == differences(found(model=0.1, latest=0.2, category={"latest": 0.5}), "category")


@pytest.mark.parametrize(
    ("told", "answer", "reason"),
    [
        (
            found(model=0.3, markov=0.1, latest=0.2),
            "Roll out",
            "The model finds more of the items than markov and latest (HR@20).",
        ),
        (
            found(model=0.2, markov=0.1, latest=0.3),
            "Do not roll out",
            "latest, which needs no model, finds more of the items (HR@20).",
        ),
        (
            found(model=0.1, popularity=0.3, markov=0.1, latest=0.3),
            "Do not roll out",
            "popularity and latest, which need no model, find more of the items (HR@20).",
        ),
        (
            found(model=0.2, popularity=0.2, markov=0.21, latest=0.19),
            "Not decided",
            "Of the items, the model's share is not told apart from that of popularity, markov and latest (HR@20).",
        ),
        (
            found(model=0.2, latest=0.1, served=0.3),
            "Do not roll out",
            "served finds more of the items (HR@20).",
        ),
        (found(model=0.2), "Not decided", "Nothing else was measured beside the model."),
        (
            found(model=0.2, daily=0.9, model_without_its_LSTM=0.9, markov=0.1),
            "Roll out",
            "The model finds more of the items than markov (HR@20).",
        ),
        (
            found(model=0.2, latest=0.1, category={"model": 0.1, "latest": 0.9}),
            "Roll out",
            "The model finds more of the items than latest (HR@20).",
        ),
    ],
)
def test_verdict(told: dict[str, Any], answer: str, reason: str) -> None:
    """Better than all others: roll out; worse than any: do not; the model's own parts and categories decide nothing."""
    assert (answer, reason) == (verdict(told).answer, verdict(told).reason)
