"""Vectors of the words in a log's reviews, by one of three methods, of the tokens that the table stores."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models import glove
from models.features import HashTable, TextVectors
from stream.errors import InterestError, UsageError

TEXT_WIDTH: Final = 16
REVIEWS_MIN: Final = 100  # fewer say too little of which words go together
REVIEWS_OF_A_WORD_MIN: Final = 3
WORDS_MAX: Final = 10_000
ROUNDS: Final = 6  # of subspace iteration

# Of word2vec, by how often a logistic regression on the mean of 16 numbers tells good from bad Chinese reviews: with a
# window of 20 .879, of 10 .875; five negative samples are no better than two, in twice the time.
WINDOW: Final = 20
NEGATIVES: Final = 2
EPOCHS: Final = 5

#: Row of each token among the words, int64 [texts, 64], 0 for none; inverse document frequencies, float64 [words];
#: seed; width. Gives vectors, float32 [words, width].
Method = Callable[[NDArray[np.int64], NDArray[np.float64], int, int], NDArray[np.float32]]


def learn(tokens: NDArray[np.uint32], seed: int, width: int = TEXT_WIDTH, method: str = "tfidf") -> TextVectors:
    """Word vectors of `tokens` uint32 [texts, 64]: distinct tokens of each text in order, padded with 0.

    Words are the tokens of at least three texts, the 10,000 commonest; a word's weight is its inverse document
    frequency, idf = log((1 + n) / (1 + df)) + 1. The vectors are learnt by `method`:

    - `tfidf`: a text's row of the matrix is the idf of each of its words, of unit length; a word's vector is its row of
      the right singular vectors (latent semantic analysis: Deerwester et al. 1990).
    - `word2vec`: skip-gram with negative sampling (Mikolov et al. 2013), by gensim.
    - `glove`: see `models.glove`.

    The same tokens and seed give the same vectors. Without enough texts or words: none.

    Raises:
        UsageError: no such method.
        InterestError: gensim is not installed.
    """
    if method not in METHODS:
        raise UsageError(f"method of word vectors expected among {', '.join(METHODS)}, got {method!r}")
    words, counts = np.unique(tokens[tokens > 0], return_counts=True)
    common = np.argsort(-counts, kind="stable")[:WORDS_MAX]
    common = np.sort(common[counts[common] >= REVIEWS_OF_A_WORD_MIN])
    words, counts = words[common], counts[common]
    if len(tokens) < REVIEWS_MIN or len(words) < 2 * width:
        return TextVectors.none()
    idf = np.log((1 + len(tokens)) / (1 + counts)) + 1
    row = HashTable.build(np.concatenate([np.zeros(1, np.uint32), words])).find(tokens)
    return TextVectors(words, METHODS[method](row, idf, seed, width), idf.astype(np.float32))


def _tfidf(row: NDArray[np.int64], idf: NDArray[np.float64], seed: int, width: int) -> NDArray[np.float32]:
    """Truncated singular value decomposition by subspace iteration."""
    weight = np.concatenate([[0.0], idf])[row]
    norm = np.linalg.norm(weight, axis=1, keepdims=True)
    weight /= np.where(norm > 0, norm, 1)

    random = np.random.default_rng([seed, 5])
    basis = random.standard_normal((len(idf) + 1, width + 8))
    for _ in range(ROUNDS):
        basis[0] = 0
        basis = np.linalg.qr(_gram(row, weight, basis))[0]
    basis[0] = 0
    small = basis.T @ _gram(row, weight, basis)
    values, turn = np.linalg.eigh((small + small.T) / 2)
    vectors: NDArray[np.float32] = (basis @ turn[:, np.argsort(-values)[:width]])[1:].astype(np.float32)
    return vectors


def _gram(row: NDArray[np.int64], weight: NDArray[np.float64], basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """XᵀX · basis, [words + 1, width], X being texts by words; in blocks, X is never made whole."""
    total = np.zeros_like(basis)
    for start in range(0, len(row), 4096):
        block, heavy = row[start : start + 4096], weight[start : start + 4096]
        texts = np.einsum("ts,tsw->tw", heavy, basis[block])
        np.add.at(total, block, heavy[:, :, None] * texts[:, None, :])
    return total


def _word2vec(row: NDArray[np.int64], idf: NDArray[np.float64], seed: int, width: int) -> NDArray[np.float32]:
    """A text is its words in the order in which each first appears; one thread, since several race."""
    try:
        from gensim.models import Word2Vec
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "gensim":
            raise
        raise InterestError("word2vec needs gensim: pip install 'interest-stream[train]'") from error
    texts = [[str(word) for word in text if word] for text in row.tolist()]
    model = Word2Vec(
        texts,
        vector_size=width,
        window=WINDOW,
        negative=NEGATIVES,
        epochs=EPOCHS,
        sg=1,
        min_count=1,
        seed=seed,
        workers=1,
    )
    place = [model.wv.key_to_index[str(word)] for word in range(1, len(idf) + 1)]
    vectors: NDArray[np.float32] = model.wv.vectors[place]
    return vectors


def _glove(row: NDArray[np.int64], idf: NDArray[np.float64], seed: int, width: int) -> NDArray[np.float32]:
    return glove.learn(row, len(idf), seed, width)


METHODS: Final[dict[str, Method]] = {"tfidf": _tfidf, "word2vec": _word2vec, "glove": _glove}
