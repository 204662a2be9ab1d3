"""How well the next new item is foreseen, beside two baselines; ties, and what is not a number, count against us."""

from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.features import Features
from models.golden import whole
from models.graph import Signature
from models.sequences import Split, windows

TOP: Final = 10
BLOCK: Final = 512


def evaluate(
    split: Split,
    questions: NDArray[np.int64],
    session: onnxruntime.InferenceSession,
    signature: Signature,
    features: Features,
    items: NDArray[np.float32],
) -> dict[str, dict[str, float]]:
    """HR@10 and NDCG@10 of the graph as it will be served, of popularity, and of the last item's category.

    Every item is ranked but the window's own; one item is right. `questions` are those of Split.questions. The category
    baseline puts the items of the last event's category first, each part by popularity.
    """
    popularity = np.bincount(split.item[split.learnt], minlength=len(items)).astype(np.float64)
    ranks: dict[str, list[NDArray[np.int64]]] = {"model": [], "popularity": [], "category": []}
    for start in range(0, len(questions), BLOCK):
        block = questions[start : start + BLOCK]
        target = split.item[block[:, 1]]
        last = split.item[block[:, 1] - 1]
        seen = np.zeros((len(block), len(items)), bool)
        for row, (begin, end) in enumerate(block):
            seen[row, split.item[begin:end]] = True
        seen[:, 0] = True
        same = features.item_category == features.item_category[last][:, None]
        vectors = whole(session, signature, features, windows(split.log, block))
        scores = {
            "model": vectors @ items.T,
            "popularity": np.broadcast_to(popularity, seen.shape),
            "category": popularity + same * (popularity.max() + 1),
        }
        for name, score in scores.items():
            ranks[name].append(rank(score, target, seen))
    return {name: _figures(np.concatenate([np.zeros(0, np.int64), *found])) for name, found in ranks.items()}


def rank(score: NDArray[np.floating], target: NDArray[np.int64], left_out: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The target's place, 0 the best, int64 [rows]: how many others of [rows, items] do not score below it."""
    rows = np.arange(len(target))
    below = score < score[rows, target][:, None]
    others = ~below & ~left_out
    others[rows, target] = False
    places: NDArray[np.int64] = others.sum(axis=1)
    return places


def _figures(places: NDArray[np.int64]) -> dict[str, float]:
    hit = places < TOP
    gain = np.where(hit, 1 / np.log2(places + 2), 0)
    count = max(1, len(places))
    return {"hr@10": round(float(hit.sum()) / count, 4), "ndcg@10": round(float(gain.sum()) / count, 4)}
