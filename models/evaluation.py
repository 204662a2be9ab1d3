"""How well events that were held out are foreseen, beside baselines; ties, and what is no number, count against us."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.sequences import Split

TOPS: Final = (5, 10, 20)
MISSING: Final = 2**62  # the place of an item that cannot be named
BLOCK: Final = 512


def evaluate(
    split: Split,
    questions: NDArray[np.int64],
    vectors: dict[str, NDArray[np.float32]],
    items: dict[str, NDArray[np.float32]],
) -> dict[str, dict[str, float]]:
    """HR, NDCG and MRR at 5, 10 and 20 of models, of popularity, and of the last item's category.

    Every item that can be named is ranked, one is right; of an `unseen` split all but what the user has had. An event
    of an item that cannot be named is a miss. `questions` are those of Split.questions. The category baseline puts the
    items of the last event's category first, each part by popularity.

    Args:
        vectors: by model, float32 [questions, dim], of the windows asked in.
        items: by model, float32 [items, dim], of Split.items.
    """
    popularity = split.counts().astype(np.float64)
    unnamed = ~split.nameable()
    ranks: dict[str, list[NDArray[np.int64]]] = {name: [] for name in (*vectors, "popularity", "category")}
    for start in range(0, len(questions), BLOCK):
        block = questions[start : start + BLOCK]
        target = split.item[block[:, 1]]
        last = split.item[block[:, 1] - 1]
        left_out = np.repeat(unnamed[None], len(block), axis=0)
        if split.unseen:
            for row, end in enumerate(block[:, 1].tolist()):
                left_out[row, split.item[split.log.starts[split.user[end]] : end]] = True
        same = split.items.category == split.items.category[last][:, None]
        scores = {name: array[start : start + BLOCK] @ items[name].T for name, array in vectors.items()}
        scores["popularity"] = np.broadcast_to(popularity, left_out.shape)
        scores["category"] = popularity + same * (popularity.max() + 1)
        for name, score in scores.items():
            found = rank(score, target, left_out)
            found[unnamed[target]] = MISSING
            ranks[name].append(found)
    return {name: figures(np.concatenate([np.zeros(0, np.int64), *found])) for name, found in ranks.items()}


def rank(score: NDArray[np.floating], target: NDArray[np.int64], left_out: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The target's place, 0 the best, int64 [rows]: how many others of [rows, items] do not score below it."""
    rows = np.arange(len(target))
    below = score < score[rows, target][:, None]
    others = ~below & ~left_out
    others[rows, target] = False
    places: NDArray[np.int64] = others.sum(axis=1)
    return places


def figures(places: NDArray[np.int64]) -> dict[str, float]:
    """HR, NDCG and MRR at each of TOPS, of places from 0."""
    count = max(1, len(places))
    found: dict[str, float] = {}
    for top in TOPS:
        hit = places < top
        found[f"hr@{top}"] = round(float(hit.sum()) / count, 4)
        found[f"ndcg@{top}"] = round(float(np.where(hit, 1 / np.log2(places + 2), 0).sum()) / count, 4)
        found[f"mrr@{top}"] = round(float(np.where(hit, 1 / (places + 1), 0).sum()) / count, 4)
    return found
