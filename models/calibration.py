"""Heads fitted to be calibrated, on one half of what a model never saw, and measured on the half after it.

All figures are of the catalog whole: examples count for as many items as they stand for (`models.labels`).
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.labels import Examples, Label, Sample, parts, sample
from models.log import Log
from models.prequential import Before
from models.probability import HEADS, Probability, segments
from stream.errors import BundleError

EDGES: Final = (0.0, 0.25, 0.5, 0.75)  # cosines where a slope may change; more, or a square, gave nothing (RESULTS.md)
ACTS_MIN: Final = 30  # distinct pairs of user and item that a head is fitted on; with fewer there is no such head
PRIOR: Final = 10.0  # variance that a feature's share, a standard deviation of it, has before anything is seen
BINS: Final = 15
SURE: Final = 1e-15  # probabilities are taken for no nearer to 0 or 1 than that by the log loss
BLOCK: Final = 65_536

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def learn(
    log: Log,
    item: NDArray[np.int64],
    items: NDArray[np.float32],
    before: Before,
    *,
    begin_ms: int,
    end_ms: int,
    horizon_ms: int,
    seed: int,
) -> tuple[Probability, Sample]:
    """Heads fitted on the first half of what was held out, and a sample of the second half to measure them on.

    Args:
        log: all events.
        item: row of each event's item in the catalog, int64 [events].
        items: the model's item vectors, float32 [items, dim].
        before: what stood before the events from `begin_ms` on, by a model that learnt nothing from them.
        begin_ms: when what is held out begins, ms; events before it make the popularity.
        end_ms: when it ends, ms; the log goes no further.
        horizon_ms: how far an act may lie ahead, ms.
        seed: of the samples.

    Raises:
        UsageError: too little is held out for the horizon.
        BundleError: vectors are not finite.
    """
    time = log.events["timestamp"]
    fitted, tested = parts(time[before.place], begin_ms, end_ms, horizon_ms)
    counts = np.bincount(item[time < begin_ms], minlength=len(items)).astype(np.float64)
    counts[0] = 0
    first, second = (
        sample(log, item, items, before, chosen, counts, horizon_ms=horizon_ms, seed=seed)
        for chosen in (fitted, tested)
    )
    return fit(first, items, counts, horizon_ms), second


def fit(known: Sample, items: NDArray[np.float32], counts: Floats, horizon_ms: int) -> Probability:
    """Weighted logistic regression, a head at a time; slopes that come out below 0 are made 0, and it is fitted anew.

    So a nearer item is never given less than another as popular. Types with fewer than ACTS_MIN acts get no head.

    Args:
        known: what to learn from.
        items: the model's item vectors, float32 [items, dim].
        counts: events of each item before the first moment, float64 [items].
        horizon_ms: that the labels are of.

    Raises:
        BundleError: vectors are not finite.
    """
    asked, edges = known.examples, np.array(EDGES)
    cosine = _cosines(known.vectors, items, asked)
    if not np.isfinite(cosine).all():
        raise BundleError("probabilities: expected a model whose vectors are finite, got one that is not a number")
    popularity = np.log1p(counts).astype(np.float32)
    features = np.column_stack([*segments(cosine.astype(np.float64), edges), popularity[asked.item]])
    columns, found = [], []
    for column in range(len(HEADS)):
        rows, yes = _of_head(asked, column)
        acted = np.flatnonzero(rows)[yes]
        pairs = known.user[asked.moment[acted]] * len(items) + asked.item[acted]
        if len(np.unique(pairs)) >= ACTS_MIN:
            columns.append(column)
            found.append(_regression(features[rows], yes, asked.weight[rows], len(edges) + 1))
    numbers = np.array(found).reshape(len(columns), len(edges) + 3)
    head = Probability(
        types=np.array([HEADS[column] for column in columns], np.str_),
        horizon_ms=np.array(horizon_ms, np.int64),
        edges=edges,
        slopes=numbers[:, :-2],
        popular=numbers[:, -2],
        bias=numbers[:, -1],
        threshold=np.zeros(len(columns), np.float32),
        popularity=popularity,
    )
    probability = head.of_cosine(cosine, asked.item)
    for place, column in enumerate(columns):
        rows, yes = _of_head(asked, column)
        head.threshold[place] = _best(probability[rows, place], yes, asked.weight[rows])
    return head


def measure(head: Probability, items: NDArray[np.float32], test: Sample) -> dict[str, Any]:
    """How good the heads are on moments that they were not fitted on.

    What is no number from 0 to 1 counts as wrong as can be: as 0 for what was done and 1 for what was not.

    Returns:
        `horizon_hours`, `moments`, `without_history` (moments left out, without a vector), `catalog` (items), and by
        type of act:

        - `positives` (pairs of moment and item), `users` (who have one), `negatives` (pairs in the catalog, as
          estimated), `left_out`, `rate` (share of pairs with the act), `predicted` (the mean probability);
        - `auc` (ties count half), and `popularity_auc`, of the item's popularity alone;
        - `threshold`, of the best F1 where the head was fitted, and there `accuracy` (`never`: of always no),
          `precision`, `recall`, `f1`;
        - `log_loss` in nats, and `rate_log_loss`, of the true rate said for all pairs: the best that a constant can do;
        - `ece`, the mean of |predicted - came| over BINS bins of as many pairs each, sorted by probability (Naeini,
          Cooper and Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", 2015), and
          `ece_of_rate`, as a share of the rate;
        - `bins` for a plot, BINS at most, of as many predicted acts each, since nearly all pairs have next to none:
          mean predicted, share observed, share of all pairs.

        With no act of a type, only the counts.
    """
    asked = test.examples
    probability = head.of_cosine(_cosines(test.vectors, items, asked), asked.item)
    found: dict[str, Any] = {
        "horizon_hours": float(head.horizon_ms) / 3.6e6,
        "moments": len(test.place),
        "without_history": test.without_history,
        "catalog": len(items) - 1,
    }
    for place, name in enumerate(head.types.tolist()):
        rows, yes = _of_head(asked, HEADS.index(name))
        weight, one = asked.weight[rows], probability[rows, place].astype(np.float64)
        found[name] = {
            "positives": int(yes.sum()),
            "users": len(np.unique(test.user[asked.moment[rows][yes]])),
            "negatives": round(float(weight[~yes].sum())),
            "left_out": int((~rows).sum()),
        }
        if yes.any() and not yes.all():
            found[name] |= figures(one, yes, weight, float(head.threshold[place]))
            found[name]["popularity_auc"] = _auc(head.popularity[asked.item[rows]], yes, weight)
    return found


def figures(probability: Floats, yes: Mask, weight: Floats, threshold: float) -> dict[str, Any]:
    """What :func:`measure` tells of one head, from its probabilities, what came, and weights, [examples] each."""
    right = (probability >= 0) & (probability <= 1)
    probability = np.where(right, probability, np.where(yes, 0.0, 1.0))
    total = float(weight.sum())
    rate = float(weight[yes].sum()) / total
    said = probability >= threshold
    hit, told, came = (float(weight[mask].sum()) for mask in (said & yes, said, yes))
    predicted, observed, share = _binned(probability, yes, weight, weight)
    ece = float(np.abs(predicted - observed) @ share)
    return {
        "rate": _short(rate),
        "predicted": _short(float(weight @ probability) / total),
        "auc": _auc(probability, yes, weight),
        "threshold": _short(threshold),
        "accuracy": _short(1 - (told + came - 2 * hit) / total),
        "never": _short(1 - rate),
        "precision": _short(hit / told if told else 0.0),
        "recall": _short(hit / came),
        "f1": _short(2 * hit / (told + came)),
        "log_loss": _short(_log_loss(probability, yes, weight)),
        "rate_log_loss": _short(_log_loss(np.full(len(yes), rate), yes, weight)),
        "ece": _short(ece),
        "ece_of_rate": _short(ece / rate),
        "bins": [
            [_short(number) for number in one]
            for one in zip(*_binned(probability, yes, weight, weight * probability), strict=True)
        ],
    }


def table(found: dict[str, Any]) -> list[str]:
    """The figures as lines of Markdown."""
    names = (
        *("rate", "predicted", "auc", "popularity_auc", "log_loss", "rate_log_loss", "ece", "ece_of_rate"),
        *("threshold", "precision", "recall", "f1", "accuracy", "never"),
    )
    lines = [
        f"Probabilities of an act within {found['horizon_hours']:g} hours, {found['moments']:,} moments and "
        f"{found['catalog']:,} items; {found['without_history']:,} moments of users without an event before.",
        "",
        "| act | pairs with it | users | " + " | ".join(name.replace("_", " ") for name in names) + " |",
        "| --- |" + " --: |" * (len(names) + 2),
    ]
    for name, one in found.items():
        if isinstance(one, dict):
            cells = [f"{one[key]:.4g}" if key in one else "–" for key in names]
            lines.append(f"| {name} | {one['positives']:,} | {one['users']:,} | {' | '.join(cells)} |")
    return lines


def _of_head(asked: Examples, column: int) -> tuple[Mask, Mask]:
    """Which examples are of the head, bool [examples], and which of those are positive."""
    label = asked.label[:, column]
    rows = label != Label.LEFT_OUT
    return rows, label[rows] == Label.POSITIVE


def _cosines(vectors: NDArray[np.float32], items: NDArray[np.float32], asked: Examples) -> NDArray[np.float32]:
    """u·v of each example, float32 [examples]; `vectors` are those of the moments."""
    found = np.empty(len(asked.item), np.float32)
    for start in range(0, len(found), BLOCK):
        rows = slice(start, start + BLOCK)
        found[rows] = np.einsum("ed,ed->e", vectors[asked.moment[rows]], items[asked.item[rows]])
    return found


def _regression(features: Floats, yes: Mask, weight: Floats, rising: int) -> Floats:
    """Shares of the features, the first `rising` of them not below 0, and the constant, float64 [features + 1]."""
    from sklearn.linear_model import LogisticRegression

    scale = features.std(axis=0)
    used = scale > 0
    rate = float(weight[yes].sum() / weight.sum())
    found = np.zeros(features.shape[1] + 1)
    while used.any():
        # The loss is a mean over all weight, so its slope is of the size of the rate, which may be a millionth.
        model = LogisticRegression(C=PRIOR, solver="newton-cholesky", tol=1e-6 * rate, max_iter=200)
        model.fit(features[:, used] / scale[used], yes, sample_weight=weight)
        found[:-1][used] = model.coef_[0] / scale[used]
        found[-1] = model.intercept_[0]
        falling = np.flatnonzero(found[:rising] < 0)
        if not len(falling):
            return found
        used[falling] = False
        found[falling] = 0
    found[-1] = np.log(rate / (1 - rate))
    return found


def _best(probability: NDArray[np.float32], yes: Mask, weight: Floats) -> float:
    """From which probability on to say yes, so that the F1 is highest; the highest such one."""
    order = np.argsort(-probability, kind="stable")
    ranked = probability[order]
    ends = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True))  # equal ones are said yes to together
    hit, told = np.cumsum((weight * yes)[order]), np.cumsum(weight[order])
    return float(ranked[ends[np.argmax(hit[ends] / (told[ends] + hit[-1]))]])


def _auc(score: NDArray[np.floating], yes: Mask, weight: Floats) -> float:
    from sklearn.metrics import roc_auc_score

    return _short(float(roc_auc_score(yes, score, sample_weight=weight)))


def _log_loss(probability: Floats, yes: Mask, weight: Floats) -> float:
    given = np.clip(np.where(yes, probability, 1 - probability), SURE, 1)
    return float(-(weight @ np.log(given)) / weight.sum())


def _binned(probability: Floats, yes: Mask, weight: Floats, size: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean predicted, share observed and share of weight of at most BINS bins of about equal `size`, the lowest first.

    Equal probabilities are in one bin.
    """
    _, group = np.unique(probability, return_inverse=True)
    sizes = np.bincount(group, size)
    middle = np.cumsum(sizes) - sizes / 2
    total = float(sizes.sum())
    place = (np.minimum(middle / total * BINS, BINS - 1).astype(np.int64) if total else np.zeros(len(sizes), int))[
        group
    ]
    weights = np.bincount(place, weight)
    filled = weights > 0
    predicted, observed = (np.bincount(place, weight * one)[filled] / weights[filled] for one in (probability, yes))
    return predicted, observed, weights[filled] / weights.sum()


def _short(value: float) -> float:
    """Four digits."""
    return float(f"{value:.4g}")
