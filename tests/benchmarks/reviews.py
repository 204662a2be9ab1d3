"""Review text: what it costs to read, how well its mood is told, and which word vectors tell most.

`python -m tests.benchmarks.reviews` reads the public reviews beside the repository; `--only` takes one part of it.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import labelled, log, sentiment, words
from models.comparison import Told, compare, held_out
from models.features import Features, TextVectors, text_tokens
from models.keywords import texts
from models.labelled import Labelled
from models.threads import one_thread
from stream.contract import TEXT_MAX_TOKENS
from stream.decode import token_rows

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "reviews"
CHINESE, CELLS, BEAUTY = "online_shopping_10_cats.zip", "amazon_cells_labelled.csv", "All_Beauty_5.json.gz"
MAX_US = 100.0  # a review, from its text to its feature
TEXTS = 5_000
BATCH = 1_024
MORE_TOKENS = 256
PARTS = ("cost", "sentiment", "words")


def main() -> int:
    """Print what is asked for; 1 where a review costs more than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="one part  [all]")
    parser.add_argument("--seeds", type=int, default=3, help="splits, and starts of word vectors  [3]")
    told = parser.parse_args()
    if not DATA.is_dir():
        _say(f"no {DATA}: these files lie in shared/data/reviews beside the repository")
        return 1
    parts = [told.only] if told.only else list(PARTS)
    known = {name: read(name) for name in (CHINESE, CELLS, BEAUTY)}
    dear = "cost" in parts and cost({name: known[name] for name in (CHINESE, BEAUTY)}) > MAX_US
    if "sentiment" in parts:
        moods(known, told.seeds)
    if "words" in parts:
        methods(known[CHINESE], told.seeds)
    if dear:
        _say(f"a review costs over {MAX_US:.0f} µs")
    return int(dear)


def read(name: str) -> Labelled:
    """The reviews of a file that say what they are."""
    path = DATA / name
    if name == BEAUTY:
        return labelled.rated(log.read(path, form="amazon"), texts(path, form="amazon"))
    return labelled.read(path, *(("label", "review") if name == CHINESE else ("2", "1")))


def cost(known: dict[str, Labelled]) -> float:
    """Print µs a review for tokens and feature, alone and in batches; give the most."""
    _say(f"{'µs a review':<30} {'tokens':>7} {'feature':>8} {'both':>7}    (feature alone, and {BATCH} at once)")
    most = 0.0
    for name, reviews in known.items():
        some = reviews.texts[:: max(1, len(reviews.texts) // TEXTS)]
        features = _features(words.learn(reviews.tokens, 0))
        tokens = token_rows([text_tokens(text) for text in some])
        reading = _best_us(text_tokens, some) / len(some)
        for how, size in (("alone", 1), ("batched", BATCH)):
            batches = [tokens[start : start + size] for start in range(0, len(tokens), size)]
            making = _best_us(features.text, batches) / len(some)
            most = max(most, reading + making)
            _say(f"{name + ', ' + how:<30} {reading:>7.1f} {making:>8.1f} {reading + making:>7.1f}")
    return most


def moods(known: dict[str, Labelled], seeds: int) -> None:
    """Print how well held-out reviews are told apart, the mean of so many splits, beside the baselines."""
    for name, reviews in known.items():
        found: dict[str, list[Told]] = {}
        longer = token_rows_of(reviews.texts, MORE_TOKENS)
        for seed in range(seeds):
            held = held_out(reviews.tokens, 0.2, seed)
            told = compare(reviews, held).told
            whole = sentiment.learn(longer[~held], reviews.good[~held])
            if whole is not None:
                asked = np.flatnonzero(held)[np.unique(longer[held], axis=0, return_index=True)[1]]
                score = whole.score(longer[asked])
                told.insert(2, Told.of(f"{MORE_TOKENS} tokens", reviews.good[asked], score))
            for one in told:
                found.setdefault(one.by, []).append(one)
        full = f"{(reviews.tokens[:, -1] > 0).mean():.0%} of them with {TEXT_MAX_TOKENS} tokens or more"
        _say(f"\n{name}: {len(reviews.texts):,} reviews, {full}; {seeds} splits")
        _say(f"{'':<22} {'accuracy':>8} {'F1':>7} {'F1 of bad':>9}")
        for by, each in found.items():
            means = (np.mean([getattr(one, field) for one in each]) for field in ("accuracy", "f1", "f1_bad"))
            _say("{:<22} {:>8.4f} {:>7.4f} {:>9.4f}".format(by, *means))


def token_rows_of(raw: Iterable[str], most: int) -> NDArray[np.uint32]:
    """Tokens of each text as text_tokens has them, but up to `most`: uint32 [texts, most], 0 after the last."""
    rows = []
    for text in raw:
        found: dict[int, None] = {}
        for clause in re.split(r"[\s,.!?;，。！？；、～~]+", text):
            for start in range(0, len(clause), TEXT_MAX_TOKENS - 1):  # pieces share a character: no pair is lost
                found |= dict.fromkeys(text_tokens(clause[start : start + TEXT_MAX_TOKENS]))
        rows.append(list(islice(found, most)))
    padded = np.zeros((len(rows), most), np.uint32)
    for row, tokens in zip(padded, rows, strict=True):
        row[: len(tokens)] = tokens
    return padded


def methods(reviews: Labelled, seeds: int) -> None:
    """Print how well a logistic regression on a text's feature tells its mood, with and without a sentiment column."""
    of = f"{len(reviews.texts):,} Chinese reviews, {seeds} splits and starts"
    _say(f"\nlogistic regression on the feature of a text, {of}")
    _say(f"{'method':<10} {'width':>5} {'accuracy':>9} {'with sentiment':>15} {'s to learn':>11}")
    for width in (16, 64):
        for method in words.METHODS:
            plain, more, took = [], [], []
            for seed in range(seeds):
                held = held_out(reviews.tokens, 0.2, seed)
                start = time.perf_counter()
                text = words.learn(reviews.tokens, seed, width, method)
                took.append(time.perf_counter() - start)
                plain.append(_accuracy(text, reviews, held))
                mood = sentiment.learn(reviews.tokens[~held], reviews.good[~held])
                assert mood is not None
                more.append(_accuracy(sentiment.with_sentiment(text, mood), reviews, held))
            figures = (np.mean(plain), np.mean(more), min(took))
            _say("{:<10} {:>5} {:>9.4f} {:>15.4f} {:>11.0f}".format(method, width, *figures))


def _accuracy(text: TextVectors, reviews: Labelled, held: NDArray[np.bool_]) -> float:
    from sklearn.linear_model import LogisticRegression

    features = _features(text)
    rows = [features.text(reviews.tokens[start : start + 4096])[:-1] for start in range(0, len(held), 4096)]
    feature = np.concatenate(rows)
    with one_thread():
        model = LogisticRegression(C=100, max_iter=3000).fit(feature[~held], reviews.good[~held])
    return float(model.score(feature[held], reviews.good[held]))


def _features(text: TextVectors) -> Features:
    return Features.build(
        inputs=("text", "length"),
        event_types=("other",),
        item_hashes=np.zeros(1, np.uint64),
        category_hashes=np.zeros(1, np.uint32),
        item_category=np.zeros(1, np.int64),
        text=text,
    )


def _best_us(work: Callable[[Any], object], each: Sequence[Any]) -> float:
    """The least of three runs over all, µs: others on the machine only add."""
    took = []
    for _ in range(3):
        start = time.perf_counter()
        for one in each:
            work(one)
        took.append(time.perf_counter() - start)
    return 1e6 * min(took)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
