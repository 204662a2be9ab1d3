"""How well good reviews are told from bad ones that nothing was learnt of, beside what needs the whole text."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.labelled import Labelled
from models.sentiment import EACH_MIN, REACH, learn
from models.threads import one_thread
from stream.errors import InterestError

BASELINE_STRENGTH: Final = 10.0  # of 1, 4 and 10 the best for it on all data sets of models/RESULTS.md


def held_out(tokens: NDArray[np.uint32], share: float, seed: int) -> NDArray[np.bool_]:
    """Which texts to hold out, bool [texts]: a share of those that differ, so that none is on both sides."""
    _, which = np.unique(tokens, axis=0, return_inverse=True)
    distinct = int(which.max(initial=-1)) + 1
    held = np.zeros(distinct, bool)
    held[np.random.default_rng([seed, 13]).permutation(distinct)[: round(share * distinct)]] = True
    answer: NDArray[np.bool_] = held[which.ravel()]
    return answer


@dataclass(frozen=True)
class Told:
    """How well good is told from bad, from 0 to 1."""

    by: str
    accuracy: float
    precision: float  # of what is called good, the good
    recall: float  # of the good, what is called good
    f1: float
    f1_bad: float  # the same of bad: where few are bad the others are high whatever is said

    @classmethod
    def of(cls, by: str, good: NDArray[np.bool_], score: NDArray[np.floating]) -> "Told":
        """Of verdicts bool [texts] and scores [texts]; above 0.5 is called good."""
        from sklearn.metrics import precision_recall_fscore_support

        precision, recall, f1, _ = precision_recall_fscore_support(
            good, score > 0.5, labels=[False, True], zero_division=0
        )
        figures = (np.mean(good == (score > 0.5)), precision[1], recall[1], f1[1], f1[0])
        return cls(by, *(float(figure) for figure in figures))


@dataclass(frozen=True)
class Compared:
    """Texts that differ, learnt from and asked for, and how well each way tells them apart."""

    learnt: int
    asked: int
    asked_good: int
    told: list[Told]


def compare(labelled: Labelled, held: NDArray[np.bool_]) -> Compared:
    """Learn from what is not `held`, bool [texts], and tell the rest apart: by tokens, by pairs, by baselines.

    The baselines are scikit-learn's TF-IDF of words and pairs of them, and of one to three characters, of the whole
    text, each with a logistic regression; and what calls everything good. A text that comes again counts once.

    Raises:
        InterestError: scikit-learn is not installed, or too little to learn from or to ask.
    """
    learnt, asked = _distinct(labelled, ~held), _distinct(labelled, held)
    good = labelled.good
    found: list[Told] = []
    for name, reach in (("64 tokens", 0), ("and their pairs", REACH)):
        sentiment = learn(labelled.tokens[learnt], good[learnt], reach)
        if sentiment is None or not len(asked):
            enough = f"{EACH_MIN} good and {EACH_MIN} bad texts to learn from, and one to ask"
            got = f"{int(good[learnt].sum())}, {int((~good[learnt]).sum())} and {len(asked)}"
            raise InterestError(f"expected {enough}, got {got}")
        found.append(Told.of(name, good[asked], sentiment.score(labelled.tokens[asked])))
    for name, options in BASELINES.items():
        score = _baseline(options)
        told = score([labelled.texts[at] for at in learnt], good[learnt], [labelled.texts[at] for at in asked])
        found.append(Told.of(name, good[asked], told))
    found.append(Told.of("all good", good[asked], np.ones(len(asked))))
    return Compared(len(learnt), len(asked), int(good[asked].sum()), found)


def _distinct(labelled: Labelled, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Places of the first of each text and verdict within the mask, ascending."""
    place = np.flatnonzero(mask)
    rows = np.concatenate([labelled.tokens[place], labelled.good[place, None].astype(np.uint32)], axis=1)
    return np.sort(place[np.unique(rows, axis=0, return_index=True)[1]])


#: Of scikit-learn's TF-IDF. Its own pattern of a word leaves out those of one character, of which a text may consist.
BASELINES: Final[dict[str, dict[str, Any]]] = {
    "baseline, words": {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"\w+"},
    "baseline, characters": {"analyzer": "char", "ngram_range": (1, 3)},
}
Score = Callable[[list[str], NDArray[np.bool_], list[str]], NDArray[np.float64]]


def _baseline(options: dict[str, Any]) -> Score:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    def score(texts: list[str], good: NDArray[np.bool_], asked: list[str]) -> NDArray[np.float64]:
        model = make_pipeline(
            TfidfVectorizer(dtype=np.float32, **options), LogisticRegression(C=BASELINE_STRENGTH, max_iter=1000)
        )
        with one_thread():
            probability: NDArray[np.float64] = model.fit(texts, good).predict_proba(asked)[:, 1]
        return probability

    return score
