"""Vectors of the words in a log's reviews: TF-IDF and a truncated singular value decomposition."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.features import HashTable, TextVectors

TEXT_WIDTH: Final = 16
REVIEWS_MIN: Final = 100  # fewer say too little of which words go together
REVIEWS_OF_A_WORD_MIN: Final = 3
WORDS_MAX: Final = 10_000
ROUNDS: Final = 6  # of subspace iteration


def learn(tokens: NDArray[np.uint32], seed: int, width: int = TEXT_WIDTH) -> TextVectors:
    """Word vectors of `tokens` uint32 [texts, 64]: distinct tokens of each text, padded with 0.

    A text's row of the matrix is the idf of each of its tokens, of unit length, idf = log((1 + n) / (1 + df)) + 1. A
    token's vector is its row of the right singular vectors, its weight the idf. Without enough texts or words: none.
    """
    words, counts = np.unique(tokens[tokens > 0], return_counts=True)
    common = np.argsort(-counts, kind="stable")[:WORDS_MAX]
    common = np.sort(common[counts[common] >= REVIEWS_OF_A_WORD_MIN])
    words, counts = words[common], counts[common]
    if len(tokens) < REVIEWS_MIN or len(words) < 2 * width:
        return TextVectors.none()
    idf = np.log((1 + len(tokens)) / (1 + counts)) + 1
    row = HashTable.build(np.concatenate([np.zeros(1, np.uint32), words])).find(tokens)  # [texts, 64], 0: no such word
    weight = np.concatenate([[0.0], idf])[row]
    norm = np.linalg.norm(weight, axis=1, keepdims=True)
    weight /= np.where(norm > 0, norm, 1)

    random = np.random.default_rng([seed, 5])
    basis = random.standard_normal((len(words) + 1, width + 8))
    for _ in range(ROUNDS):
        basis[0] = 0
        basis = np.linalg.qr(_gram(row, weight, basis))[0]
    basis[0] = 0
    small = basis.T @ _gram(row, weight, basis)
    values, turn = np.linalg.eigh((small + small.T) / 2)
    vectors = (basis @ turn[:, np.argsort(-values)[:width]])[1:]
    return TextVectors(words, vectors.astype(np.float32), idf.astype(np.float32))


def _gram(row: NDArray[np.int64], weight: NDArray[np.float64], basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """XᵀX · basis, [words + 1, width], X being texts by words; in blocks, X is never made whole."""
    total = np.zeros_like(basis)
    for start in range(0, len(row), 4096):
        block, heavy = row[start : start + 4096], weight[start : start + 4096]
        texts = np.einsum("ts,tsw->tw", heavy, basis[block])
        np.add.at(total, block, heavy[:, :, None] * texts[:, None, :])
    return total
