"""What a head learns from: which items a user acted on soon after a moment, which not, and how much each stands for.

A moment is an event that is asked for: a user comes, with the vector that stood before the event. The label of an item
for a head is what the user did with it from then on within a horizon, the event itself included.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.log import Log
from models.prequential import Before
from models.probability import HEADS
from stream.contract import EVENT_TYPES
from stream.errors import UsageError

DRAWS: Final = 128  # items a moment; a smaller catalog is taken whole
NEAR: Final = 64  # items nearest to the vector that are taken as themselves
MOMENTS_MAX: Final = 5_000
CELLS: Final = 1 << 23  # moments times items at once: 130 MB


class Label(IntEnum):
    """Of an item, for one head."""

    NEGATIVE = 0
    POSITIVE = 1
    LEFT_OUT = 2


_NO, _YES, _OUT = Label.NEGATIVE, Label.POSITIVE, Label.LEFT_OUT

#: Head -> kind of event -> label of the item. One act that is positive makes it so, else one that leaves it out does.
#: An item that the user did nothing with is a negative of every head.
#:
#: - An act of another type is mostly a negative: who clicked and did not buy is what tells a purchase from a click, and
#:   without those the probability would be that of "bought, or not even looked at".
#: - An act that goes further than the head's own is left out: bought or put into the cart from a list, a page is never
#:   clicked, or the log does not say so. Nothing was declined.
#: - A review is of something bought long before, neither for nor against any head, and has no head itself.
LABELS: Final[Mapping[str, Mapping[str, Label]]] = {
    "click": {"click": _YES, "cart": _OUT, "favorite": _OUT, "purchase": _OUT, "review": _OUT},
    "cart": {"click": _NO, "cart": _YES, "favorite": _NO, "purchase": _OUT, "review": _OUT},
    "favorite": {"click": _NO, "cart": _NO, "favorite": _YES, "purchase": _NO, "review": _OUT},
    "purchase": {"click": _NO, "cart": _NO, "favorite": _NO, "purchase": _YES, "review": _OUT},
}


@dataclass(frozen=True, eq=False)
class Acts:
    """What users did from each moment on within the horizon; a moment and an item once, in their order."""

    moment: NDArray[np.int64]  # [pairs], row of the moment
    item: NDArray[np.int64]  # [pairs], row of the catalog, never 0
    kinds: NDArray[np.uint8]  # [pairs], bit 1 << code of each type of event


@dataclass(frozen=True, eq=False)
class Examples:
    """Items to learn from or to ask for, with what each stands for."""

    moment: NDArray[np.int64]  # [examples], row of the moment
    item: NDArray[np.int64]  # [examples], row of the catalog, never 0
    label: NDArray[np.int8]  # [examples, heads], Label for each of HEADS
    weight: NDArray[np.float64]  # [examples], items of the catalog that it stands for


@dataclass(frozen=True, eq=False)
class Sample:
    """Moments, and examples of each."""

    place: NDArray[np.int64]  # [moments], in the log's events
    user: NDArray[np.int64]  # [moments]
    vectors: NDArray[np.float32]  # [moments, dim], that stood before
    examples: Examples
    without_history: int  # moments left out, since there was no event before, so no vector


def sample(
    log: Log,
    item: NDArray[np.int64],
    items: NDArray[np.float32],
    before: Before,
    chosen: NDArray[np.bool_],
    popularity: NDArray[np.float64],
    *,
    horizon_ms: int,
    seed: int,
    moments_max: int = MOMENTS_MAX,
    draws: int = DRAWS,
) -> Sample:
    """Examples of the chosen moments; of more than `moments_max`, of so many picked by `seed`.

    Args:
        log: all events.
        item: row of each event's item in the catalog, int64 [events].
        items: the model's item vectors, float32 [items, dim].
        before: what stood before the events asked for.
        chosen: of those, bool [asked]; the horizon of each must lie within the log.
        popularity: events of each item before the first moment, float64 [items].
        horizon_ms: how far to look from each moment on, ms.
        seed: the same gives the same.
        moments_max: at most so many.
        draws: items a moment, as of :func:`examples`.
    """
    random = np.random.default_rng([seed, 8])
    able = np.flatnonzero(chosen & (before.held > 0))
    rows = np.sort(random.permutation(able)[:moments_max])
    place = before.place[rows]
    vectors = before.vectors[rows]
    near = nearest(vectors, items, NEAR if len(items) - 1 > max(draws, NEAR) else 0)
    return Sample(
        place=place,
        user=np.searchsorted(log.starts, place, side="right") - 1,
        vectors=vectors,
        examples=examples(acts(log, item, place, horizon_ms), near, popularity, random, draws),
        without_history=int((chosen & (before.held == 0)).sum()),
    )


def acts(log: Log, item: NDArray[np.int64], place: NDArray[np.int64], horizon_ms: int) -> Acts:
    """Items, and what was done with each, in [time, time + horizon_ms) of the same user's events from each place on.

    Args:
        log: all events.
        item: row of each event's item, int64 [events]; those of row 0, unknown, are left out.
        place: of the moments in the log's events, int64 [moments]. An event of the same time that stands before it in
            the log came before.
        horizon_ms: how far to look, ms.
    """
    time = log.events["timestamp"]
    distinct, rank = np.unique(time, return_inverse=True)
    user = np.repeat(np.arange(log.users), np.diff(log.starts))
    # By user, then time, as the events are; ranks instead of times, which a number of 64 bits holds for any log.
    key = user * (len(distinct) + 1) + rank
    last = np.searchsorted(distinct, time[place] + horizon_ms)
    length = np.searchsorted(key, user[place] * (len(distinct) + 1) + last) - place
    moment = np.repeat(np.arange(len(place)), length)
    event = np.arange(len(moment)) + np.repeat(place - np.cumsum(length) + length, length)
    known = item[event] > 0
    moment, event = moment[known], event[known]
    items = int(item.max(initial=0)) + 1
    pair, row = np.unique(moment * items + item[event], return_inverse=True)
    kinds = np.zeros(len(pair), np.uint8)
    np.bitwise_or.at(kinds, row, np.left_shift(1, log.events["type"][event]).astype(np.uint8))
    return Acts(pair // items, pair % items, kinds)


def labels(kinds: NDArray[np.uint8]) -> NDArray[np.int8]:
    """By LABELS, of the acts with an item: Label for each of HEADS, int8 [pairs, heads]."""
    found = np.full((len(kinds), len(HEADS)), Label.NEGATIVE, np.int8)
    for column, head in enumerate(HEADS):
        for label in (Label.LEFT_OUT, Label.POSITIVE):
            bits = sum(1 << EVENT_TYPES[kind] for kind, means in LABELS[head].items() if means == label)
            found[(kinds & bits) > 0, column] = label
    return found


def nearest(vectors: NDArray[np.float32], items: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Rows of the `count` items with the highest u·v, in no order, int64 [moments, count]; row 0 is no item."""
    found = np.empty((len(vectors), count), np.int64)
    block = max(1, CELLS // len(items))
    for start in range(0, len(vectors), block):
        score = vectors[start : start + block] @ items[1:].T
        found[start : start + block] = 1 + np.argpartition(-score, count - 1, axis=1)[:, :count]
    return found


def examples(
    acted: Acts,
    near: NDArray[np.int64],
    popularity: NDArray[np.float64],
    random: np.random.Generator,
    draws: int = DRAWS,
) -> Examples:
    """Every item that was acted on or is near, as itself, and for each moment a sample of the others.

    Half of `draws` are by popularity and half uniform over the catalog, with replacement. A draw of an item stands for
    1 / (how often that item is drawn for a moment, as expected) items, whichever half it came from (the balance
    heuristic: Veach and Guibas, "Optimally Combining Sampling Techniques", 1995); a draw of an item that is there as
    itself counts for nothing. So weighted sums are, as expected, those over the catalog whole, and what is fitted is
    the probability of an item picked at random from the catalog, not from the sample. The near ones are there for
    precision: where yes would be said, one draw that stands for hundreds of items would decide. A catalog that is not
    larger than `draws` is taken whole, each item as itself.

    Args:
        acted: what the users did, of :func:`acts`.
        near: rows of items to take as themselves, which differ, int64 [moments, near].
        popularity: events of each item before the first moment, float64 [items]; row 0 is not looked at.
        random: where the draws come from.
        draws: items a moment.
    """
    moments, size, others = len(near), len(popularity), len(popularity) - 1
    if others <= draws:
        item = np.tile(np.arange(1, size), (moments, 1))
        weight = np.ones(item.shape)
    else:
        share = popularity[1:] / max(1.0, float(popularity[1:].sum()))
        popular = draws // 2 if share.any() else 0
        drawn = random.integers(1, size, (moments, draws))
        if popular:
            drawn[:, :popular] = 1 + random.choice(others, (moments, popular), p=share)
        each = 1 / (popular * share + (draws - popular) / others)
        taken = np.isin(_pairs(drawn, size), _pairs(near, size))
        item = np.concatenate([near, drawn], axis=1)
        weight = np.concatenate([np.ones(near.shape), np.where(taken, 0, each[drawn - 1])], axis=1)
    free = (weight > 0) & ~np.isin(_pairs(item, size), acted.moment * size + acted.item)
    known = labels(acted.kinds)
    return Examples(
        moment=np.concatenate([acted.moment, np.nonzero(free)[0]]),
        item=np.concatenate([acted.item, item[free]]),
        label=np.concatenate([known, np.full((int(free.sum()), len(HEADS)), Label.NEGATIVE, np.int8)]),
        weight=np.concatenate([np.ones(len(known)), weight[free]]),
    )


def _pairs(item: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """A number for each moment and item, int64 [moments, items]."""
    return np.arange(len(item))[:, np.newaxis] * size + item


def parts(
    time_ms: NDArray[np.int64], begin_ms: int, end_ms: int, horizon_ms: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which moments to fit on and which to test on, bool [moments] each: those whose horizon lies in its half whole.

    The first half of what is held out, [begin_ms, end_ms), is fitted on. No event stands in labels of both, and no
    horizon reaches behind the log, where nobody knows what came.

    Raises:
        UsageError: a half is not longer than the horizon.
    """
    middle = begin_ms + (end_ms - begin_ms) // 2
    if middle - begin_ms <= horizon_ms:
        raise UsageError(
            f"expected over {2 * horizon_ms / 3.6e6:g} hours held out, so that probabilities within "
            f"{horizon_ms / 3.6e6:g} hours can be fitted on one half and tested on the other, got "
            f"{(end_ms - begin_ms) / 3.6e6:.1f}: hold out more, or ask for a shorter horizon"
        )
    fit = (time_ms >= begin_ms) & (time_ms + horizon_ms <= middle)
    test = (time_ms >= middle) & (time_ms + horizon_ms <= end_ms)
    return fit, test
