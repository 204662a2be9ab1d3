"""GloVe (Pennington, Socher, Manning 2014): word vectors whose products tell how often two words stand together."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.threads import one_thread

TEXTS_A_BLOCK: Final = 2_000  # some million pairs at once
# Times from which two words count in full. The paper has 100, for billions of words; of 62,771 reviews 10, 30 and 100
# do worse than 3, .885, .883 and .872 beside .889 of them told apart, see below.
TIMES_FULL: Final = 3.0
POWER: Final = 0.75  # of the weighting function, the paper's
RATE: Final = 0.2  # the paper's 0.05 is for one pair at a time
EPOCHS: Final = 15
WORDS_A_BLOCK: Final = 500


def learn(row: NDArray[np.int64], words: int, seed: int, width: int) -> NDArray[np.float32]:
    """Vectors, float32 [words, width], of the words 1 to `words` in `row` int64 [texts, 64], 0 for none.

    Minimised is Σ f(x)·(w·c + b + d - log x)² over pairs of words that stand together x times, w and b being vector and
    bias of the one as a word, c and d of the other as context, f(x) = min(1, x / 3)^0.75 (equations 8 and 9); a word's
    vector is w + c of it (section 4.2).

    Two words stand together once in each text that has both, wherever. The paper counts each place and divides by the
    distance; of a review the table keeps distinct tokens in the order in which they first appear, so their places are
    not those of the text. Of 62,771 Chinese reviews a logistic regression on the mean of 16 numbers tells good from
    bad in .889 so, in .857 with the distance.

    AdaGrad, one step for each block of 500 words by 500 contexts, in a random order: within a block all is one matrix
    product, ten times as fast as pairs in any order.
    """
    first, second, times = together(row)
    random = np.random.default_rng([seed, 11])
    blocks = -(-words // WORDS_A_BLOCK)
    size = blocks * WORDS_A_BLOCK
    place = random.permutation(words)
    one, other = place[first - 1], place[second - 1]
    word, context = np.concatenate([one, other]), np.concatenate([other, one])
    times = np.tile(times, 2)

    block = word // WORDS_A_BLOCK * blocks + context // WORDS_A_BLOCK
    order = np.argsort(block, kind="stable")
    cuts = np.searchsorted(block[order], np.arange(blocks * blocks + 1))
    cell = (word % WORDS_A_BLOCK * WORDS_A_BLOCK + context % WORDS_A_BLOCK)[order]  # int64 [pairs]
    weight = np.minimum(1, (times / TIMES_FULL) ** POWER).astype(np.float32)[order]
    target = np.log(times).astype(np.float32)[order]

    # [size, width + 1], the last column the bias; sums of squared gradients begin at 1, as in the authors' program.
    of_word, of_context = (random.random((2, size, width + 1), np.float32) - np.float32(0.5)) / np.float32(width)
    word_sums, context_sums = np.ones_like(of_word), np.ones_like(of_context)
    with one_thread():
        for number in np.concatenate([random.permutation(blocks * blocks) for _ in range(EPOCHS)]):
            pairs = slice(cuts[number], cuts[number + 1])
            top, left = number // blocks * WORDS_A_BLOCK, number % blocks * WORDS_A_BLOCK
            rows, columns = slice(top, top + WORDS_A_BLOCK), slice(left, left + WORDS_A_BLOCK)
            w, c = of_word[rows], of_context[columns]
            said = w[:, :-1] @ c[:, :-1].T
            said += w[:, -1:]
            said += c[:, -1]
            flat = np.zeros(WORDS_A_BLOCK * WORDS_A_BLOCK, np.float32)
            flat[cell[pairs]] = weight[pairs] * (said.ravel()[cell[pairs]] - target[pairs])
            slope = flat.reshape(WORDS_A_BLOCK, WORDS_A_BLOCK)
            of_w = np.concatenate([slope @ c[:, :-1], slope.sum(axis=1)[:, None]], axis=1)
            of_c = np.concatenate([slope.T @ w[:, :-1], slope.sum(axis=0)[:, None]], axis=1)
            _step(w, word_sums[rows], of_w)
            _step(c, context_sums[columns], of_c)
    vectors: NDArray[np.float32] = (of_word + of_context)[place, :-1]
    return vectors


def _step(vectors: NDArray[np.float32], sums: NDArray[np.float32], slope: NDArray[np.float32]) -> None:
    """One of AdaGrad (Duchi et al. 2011), in place."""
    sums += slope * slope
    vectors -= np.float32(RATE) * slope / np.sqrt(sums)


def together(row: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """In how many texts of `row` int64 [texts, 64] two words stand: first < second, int64 [pairs], and times [pairs].

    0 is no word. Pairs are in the order of first, then second.
    """
    words = int(row.max(initial=0)) + 1
    left, right = np.triu_indices(row.shape[1], 1)
    keys, times = np.zeros(0, np.int64), np.zeros(0, np.int64)
    waiting: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for start in range(0, len(row), TEXTS_A_BLOCK):
        texts = row[start : start + TEXTS_A_BLOCK]
        one, other = texts[:, left], texts[:, right]
        both = (one > 0) & (other > 0)
        one, other = one[both], other[both]
        waiting.append(np.unique(np.minimum(one, other) * words + np.maximum(one, other), return_counts=True))
        # Sorting all again for each block would take most of the time.
        if sum(len(part) for part, _ in waiting) > len(keys):
            keys, times = _merged([(keys, times), *waiting])
            waiting = []
    keys, times = _merged([(keys, times), *waiting])
    return keys // words, keys % words, times.astype(np.float64)


def _merged(parts: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct keys, ascending, and the sums of their numbers."""
    keys, numbers = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(keys, kind="stable")
    keys, numbers = keys[order], numbers[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[starts], np.add.reduceat(numbers, starts) if len(starts) else numbers
