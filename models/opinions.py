"""What a log's reviews say of its items: how many, how good, and by which words."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.keywords import keywords
from models.log import Log
from models.sentiment import Sentiment
from stream.contract import EVENT_TYPES, hash64


@dataclass(frozen=True)
class Opinion:
    """An item's reviews. Means are None where there is nothing to take them of."""

    item: str
    name: str
    reviews: int
    rating: float | None  # mean, 1 to 5
    sentiment: float | None  # mean probability that a text is good
    keywords: list[str]  # the most telling first


def opinions(log: Log, top: int, sentiment: Sentiment | None, raw: Iterable[str], most: int) -> list[Opinion]:
    """The `top` items with most reviews, ties by id; items that the log does not name are left out.

    `raw` are the log's texts (`models.keywords.texts`), `most` is how many keywords an item has.
    """
    ids = {hash64(item): item for item in log.names.items}
    place = np.flatnonzero(log.events["type"] == EVENT_TYPES["review"])
    hashes, which, counts = np.unique(log.events["item"][place], return_inverse=True, return_counts=True)
    named = [number for number, one in enumerate(hashes.tolist()) if one in ids]
    chosen = sorted(named, key=lambda number: (-int(counts[number]), ids[int(hashes[number])]))[:top]

    number_of = np.full(len(hashes), -1)
    number_of[chosen] = np.arange(len(chosen))
    item = number_of[which]  # [reviews]
    with_text = log.text_row[place] >= 0
    tokens = log.tokens[log.text_row[place[with_text]]]
    score = np.full(len(place), np.nan)
    if sentiment is not None:
        score[with_text] = sentiment.score(tokens)
    rating = np.where(log.events["rating"][place] > 0, log.events["rating"][place] / 10, np.nan)
    words = keywords(tokens, item[with_text], len(chosen), raw, most)
    found = []
    for number, one in enumerate(chosen):
        own, name = item == number, ids[int(hashes[one])]
        found.append(
            Opinion(
                item=name,
                name=log.names.items[name],
                reviews=int(counts[one]),
                rating=_mean(rating[own]),
                sentiment=_mean(score[own]),
                keywords=words[number],
            )
        )
    return found


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
