"""Whether a review is good: a logistic regression over the tokens that the table stores of it."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.features import HashTable, TextVectors
from models.threads import one_thread
from stream.errors import InterestError

GOOD_FROM: Final = 40  # ten times the rating, as the table stores it
BAD_TO: Final = 20
EACH_MIN: Final = 20  # good and bad texts; of fewer only their chance words would be learnt
STRENGTH: Final = 4.0  # inverse of the penalty, times 1 + reach; 1 is too little for many texts, 10 too much
FOLDS: Final = 5
# A feature of a single text stays where texts are few: of 1,000 it lifts the area under the curve by .01, of 60,000 it
# is three in four features and changes nothing.
RARE_UNTIL: Final = 10_000
REACH: Final = 1  # of pairs, where nothing but the score is wanted; 2 and 3 add nothing
LOUDNESS: Final = 0.5
TEXTS_A_BLOCK: Final = 4096

_MIX: Final = np.array([0x9E3779B1, 0x85EBCA77], np.uint32)


@dataclass(frozen=True, eq=False)
class Sentiment:
    """What each token, and each pair of tokens, says of a text being good."""

    hashes: NDArray[np.uint32]  # [features], ascending
    idf: NDArray[np.float32]  # [features], inverse document frequency
    weights: NDArray[np.float32]  # [features], above 0 for what good texts hold
    bias: float
    reach: int  # pairs are of tokens up to so many places apart; 0: tokens alone

    def score(self, tokens: NDArray[np.uint32]) -> NDArray[np.float32]:
        """Probability, float32 [texts], that each text of `tokens` uint32 [texts, 64] is good, by numpy alone.

        1 / (1 + exp(-(w·x + bias))), x being the idf of the known features of a text, of unit length.
        """
        table = HashTable.build(np.concatenate([np.zeros(1, np.uint32), self.hashes]))
        idf = np.concatenate([np.zeros(1, np.float32), self.idf])
        weighted = idf * np.concatenate([np.zeros(1, np.float32), self.weights])
        scores = np.empty(len(tokens), np.float32)
        for start in range(0, len(tokens), TEXTS_A_BLOCK):
            row = table.find(features(tokens[start : start + TEXTS_A_BLOCK], self.reach))
            norm = np.sqrt((idf[row] ** 2).sum(axis=1))
            logit = weighted[row].sum(axis=1) / np.where(norm > 0, norm, 1) + self.bias
            scores[start : start + TEXTS_A_BLOCK] = 1 / (1 + np.exp(-logit))
        return scores


def features(tokens: NDArray[np.uint32], reach: int) -> NDArray[np.uint32]:
    """Hashes, uint32 [texts, features], 0 for none: the tokens, then those of pairs 1, 2, … up to `reach` places apart.

    Tokens are distinct and in the order in which each first appears, so neighbours here are mostly neighbours in the
    text: a pair is two words, or three or four Chinese characters.
    """
    columns = [tokens]
    for apart in range(1, reach + 1):
        one, other = tokens[:, :-apart], tokens[:, apart:]
        mixed = (one * _MIX[0] + np.uint32(apart)) ^ (other * _MIX[1])
        columns.append(np.where((one > 0) & (other > 0), np.maximum(mixed, 1), 0).astype(np.uint32))
    return np.concatenate(columns, axis=1)


def by_rating(rating: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which reviews say what they are, bool [reviews], and of all which are good; `rating` is ten times the rating.

    4 to 5 is good, 1 to 2 bad; what lies between, and what has no rating (0), says nothing.
    """
    good = rating >= GOOD_FROM
    return good | ((rating > 0) & (rating <= BAD_TO)), good


def learn(tokens: NDArray[np.uint32], good: NDArray[np.bool_], reach: int = 0) -> Sentiment | None:
    """Learn from `tokens` uint32 [texts, 64] and `good` bool [texts]; None with under 20 texts of either kind.

    1. A text that comes again with the same verdict is taken once, so that no text is on both sides of step 3.
    2. Fit a logistic regression on the features' idf = log((1 + n) / (1 + df)) + 1, each text of unit length.
    3. Stretch and shift it so that what it says of texts left out, five times a fifth, is a probability (Platt 1999).
       Without that it calls everything good where 96 % are.

    Raises:
        InterestError: scikit-learn is not installed.
    """
    try:
        from scipy.sparse import csr_matrix
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import cross_val_predict
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("sklearn", "scipy"):
            raise
        raise InterestError("sentiment needs scikit-learn: pip install 'interest-stream[train]'") from error

    told = np.unique(np.concatenate([tokens, good[:, None].astype(np.uint32)], axis=1), axis=0)
    tokens, good = told[:, :-1], told[:, -1] > 0
    if min(good.sum(), (~good).sum()) < EACH_MIN:
        return None
    found = features(tokens, reach)
    hashes, counts = np.unique(found[found > 0], return_counts=True)
    common = counts > (len(tokens) > RARE_UNTIL)
    hashes, counts = hashes[common], counts[common]
    idf = np.log((1 + len(tokens)) / (1 + counts)) + 1
    row = HashTable.build(np.concatenate([np.zeros(1, np.uint32), hashes])).find(found)
    weight = np.concatenate([[0.0], idf])[row]
    weight /= np.maximum(np.linalg.norm(weight, axis=1, keepdims=True), 1e-12)
    known = row > 0
    ends = np.concatenate([[0], np.cumsum(known.sum(axis=1))])
    texts = csr_matrix((weight[known], row[known] - 1, ends), shape=(len(tokens), len(hashes)))
    model = LogisticRegression(C=STRENGTH * (1 + reach), max_iter=1000)
    with one_thread():
        unseen = cross_val_predict(model, texts, good, cv=FOLDS, method="decision_function")
        stretch = LogisticRegression(C=1e6).fit(unseen[:, None], good)
        model.fit(texts, good)
    factor = stretch.coef_[0, 0]
    return Sentiment(
        hashes=hashes,
        idf=idf.astype(np.float32),
        weights=(factor * model.coef_[0]).astype(np.float32),
        bias=float(factor * model.intercept_[0] + stretch.intercept_[0]),
        reach=reach,
    )


def with_sentiment(text: TextVectors, sentiment: Sentiment) -> TextVectors:
    """`text` with one more column: what each of its words says of a text being good, so that the LSTM sees it.

    A text's feature is the sum of weight times vector over its words, of unit length. The column's sum is w·x of
    `Sentiment.score` but for its length, so its sign says good or bad beside the bias, its size how surely.

    It is scaled to half the length that all other columns have together in an expected text, words taken as
    independent: then it makes up about .45 of a text's unit length, and the rest keeps .9 of its own. From a quarter of
    that length to twice of it a linear model reads sentiment equally well; the product's category it reads best at a
    half.

    Words that only `sentiment` knows are left out where `text` has any: they would make the bundle eight times as large
    to tell .002 more of Chinese reviews. Where `text` has none, all of `sentiment` are its words, and a text's feature
    is 1 or -1.

    Raises:
        ValueError: `sentiment` was learnt of pairs, which are no words.
    """
    if sentiment.reach:
        raise ValueError(f"expected a sentiment of tokens alone, got one of pairs up to {sentiment.reach} apart")
    if not len(text.hashes):
        text = TextVectors(sentiment.hashes, np.zeros((len(sentiment.hashes), text.width), np.float32), sentiment.idf)
    table = HashTable.build(np.concatenate([np.zeros(1, np.uint32), sentiment.hashes]))
    said = np.concatenate([np.zeros(1, np.float32), sentiment.idf * sentiment.weights])[table.find(text.hashes)]
    others, column = _expected(text.weights, text.vectors * text.weights[:, None]), _expected(text.weights, said)
    scale = LOUDNESS * others / column if others and column else 1.0
    vectors = np.concatenate([text.vectors, (scale * said / text.weights)[:, None]], axis=1)
    return TextVectors(text.hashes, vectors.astype(np.float32), text.weights)


def _expected(idf: NDArray[np.float32], values: NDArray[np.float32]) -> float:
    """Root of the mean square of a text's sum of `values` [words] or [words, width], words being independent.

    A word is in a share exp(1 - idf) of the texts.
    """
    share = np.exp(1 - idf.astype(np.float64))
    return float(np.sqrt((share @ values**2).sum() + ((share @ values) ** 2).sum()))
