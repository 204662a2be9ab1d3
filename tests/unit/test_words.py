"""Word vectors of every method, and that a text's features are the same bits in training and in the worker."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from models import glove
from models.features import Features, TextVectors, text_tokens
from models.log import read
from models.words import METHODS, REVIEWS_MIN, learn
from stream.contract import TEXT_MAX_CHARS, hash32
from stream.decode import decode, token_rows
from stream.errors import InterestError, UsageError
from stream.value import UserState, pack, unpack
from stream.window import load
from tests.logs import END_MS, event, write_log

TOPICS = [[f"{topic}{number}" for number in range(20)] for topic in ("camera", "shirt")]
SHARED = ["very", "quite", "rather", "almost"]
LEARNT = [pytest.param(name, marks=[] if name == "tfidf" else pytest.mark.torch) for name in METHODS]


def tokens_of(texts: int = 400, seed: int = 0) -> NDArray[np.uint32]:
    """Texts of eight words of one topic and two that both have."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(texts):
        words = [*random.choice(TOPICS[number % 2], 8, replace=False), *random.choice(SHARED, 2, replace=False)]
        rows.append(text_tokens(" ".join(words)))
    return token_rows(rows)


def features(text: TextVectors) -> Features:
    """Of a model that reads nothing but text."""
    return Features.build(
        inputs=("text", "length"),
        event_types=("other",),
        item_hashes=np.zeros(1, np.uint64),
        category_hashes=np.zeros(1, np.uint32),
        item_category=np.zeros(1, np.int64),
        text=text,
    )


@pytest.mark.parametrize("method", LEARNT)
def test_words_of_a_topic_stand_together(method: str) -> None:
    """A word is nearer to those it stands in texts with than to those it does not, by the cosine."""
    text = learn(tokens_of(), 0, 8, method)
    assert (44, 8) == text.vectors.shape
    of = {int(token): vector for token, vector in zip(text.hashes, text.vectors, strict=True)}
    unit = [[of[hash32(word)] / np.linalg.norm(of[hash32(word)]) for word in topic] for topic in TOPICS]
    camera, shirt = np.array(unit[0]), np.array(unit[1])
    assert (camera @ camera.T).mean() > (camera @ shirt.T).mean() + 0.2


@pytest.mark.parametrize("method", LEARNT)
def test_weights_are_inverse_document_frequencies(method: str) -> None:
    """Whatever the method: log((1 + n) / (1 + df)) + 1, float32 and finite, of words in three texts or more."""
    tokens = tokens_of(150)
    tokens[0, 10] = hash32("once")
    text = learn(tokens, 0, 4, method)
    assert hash32("once") not in text.hashes
    expected = [np.log(151 / (1 + (tokens == token).sum())) + 1 for token in text.hashes]
    np.testing.assert_allclose(text.weights, expected, rtol=1e-6)
    assert [np.float32] * 2 == [text.vectors.dtype, text.weights.dtype]
    assert np.isfinite(text.vectors).all()


@pytest.mark.parametrize("method", LEARNT)
def test_same_seed_same_bits(method: str) -> None:
    """The same tokens and seed give the same vectors, another seed others; width is what was asked for."""
    tokens = tokens_of()
    first, again, other = (learn(tokens, seed, 6, method) for seed in (3, 3, 4))
    assert first.vectors.tobytes() == again.vectors.tobytes()
    assert first.vectors.tobytes() != other.vectors.tobytes()
    assert [6, 3] == [first.width, learn(tokens, 3, 3, method).width]


@pytest.mark.torch
@pytest.mark.parametrize("method", ["word2vec", "glove"])
def test_same_bits_in_another_process(method: str) -> None:
    """Nothing depends on how Python hashes text, which differs from process to process."""
    code = f"""
import hashlib
from models.words import learn
from tests.unit.test_words import tokens_of
print(hashlib.sha256(learn(tokens_of(200), 1, 4, {method!r}).vectors.tobytes()).hexdigest())
"""
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1]


@pytest.mark.parametrize("method", LEARNT)
def test_too_little_gives_nothing(method: str) -> None:
    """Under a hundred texts, or fewer words than twice the width: none, of width 0."""
    tokens = tokens_of()
    assert 0 == learn(tokens[: REVIEWS_MIN - 1], 0, 4, method).width
    assert 0 == learn(tokens, 0, 23, method).width
    assert 0 == len(learn(np.zeros((500, 64), np.uint32), 0, 4, method).hashes)


def test_no_such_method() -> None:
    """The error names those that there are."""
    with pytest.raises(UsageError, match=r"^method of word vectors expected among tfidf, word2vec, glove, got 'bert'$"):
        learn(tokens_of(), 0, method="bert")


@pytest.mark.parametrize(
    ("method", "missing", "message"),
    [
        ("word2vec", "gensim", "word2vec needs gensim: pip install 'interest-stream[train]'"),
        ("glove", "threadpoolctl", "learning needs threadpoolctl: pip install 'interest-stream[train]'"),
    ],
)
def test_without_the_library(method: str, missing: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what to install."""
    monkeypatch.setitem(sys.modules, missing, None)
    for name in [name for name in sys.modules if name.startswith(f"{missing}.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(InterestError) as raised:
        learn(tokens_of(), 0, 4, method)
    assert message == str(raised.value)


def test_together_counts_texts() -> None:
    """Two words stand together once in each text that has both, wherever; words that are none do not."""
    row = np.array([[1, 2, 3, 0], [3, 0, 1, 0], [2, 0, 0, 0], [4, 1, 2, 3]])
    first, second, times = glove.together(row)
    pairs = zip(first.tolist(), second.tolist(), times.tolist(), strict=True)
    assert {(1, 2): 2, (1, 3): 3, (1, 4): 1, (2, 3): 2, (2, 4): 1, (3, 4): 1} == {(a, b): n for a, b, n in pairs}


def test_together_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken a few texts at a time, pairs and numbers are the same."""
    row = np.random.default_rng(0).integers(0, 30, (101, 12))
    row = np.array([np.pad(one := np.unique(texts), (0, 12 - len(one))) for texts in row])
    whole = glove.together(row)
    monkeypatch.setattr(glove, "TEXTS_A_BLOCK", 7)
    for expected, got in zip(whole, glove.together(row), strict=True):
        np.testing.assert_array_equal(expected, got)
    assert 30 > row.max() > 20


def test_together_of_nothing() -> None:
    """Texts of one word have no pair."""
    assert [0, 0, 0] == [len(one) for one in glove.together(np.array([[1, 0], [2, 0]]))]


@pytest.mark.torch
def test_glove_tells_how_often() -> None:
    """Pairs of a topic have a larger product than pairs across, by more than chance makes of it."""
    random = np.random.default_rng(0)
    row = np.array([random.choice(np.arange(1, 11) + 10 * (number % 2), 6, replace=False) for number in range(600)])
    vectors = glove.learn(row, 20, 0, 6)
    product = vectors @ vectors.T
    inside = np.kron(np.eye(2), np.ones((10, 10))).astype(bool) & ~np.eye(20, dtype=bool)
    across = np.kron(1 - np.eye(2), np.ones((10, 10))).astype(bool)
    assert product[inside].mean() > product[across].mean() + 1


REVIEWS = [
    "Love it! The lens doesn’t scratch, ＧＯＯＤ value — camera1 camera2.",
    "手机很好用，屏幕清晰，iPhone手机也不错。",
    "よかった。すごい カメラ",
    "좋은 제품 😀 camera3",
    " ".join(f"word{number}" for number in range(300)),
    "字" + "".join(chr(0x4E00 + 7 * number) for number in range(2500)),
    "x" * (TEXT_MAX_CHARS + 5) + " camera1",
    "  …  ",
    "good",
]


def test_features_are_the_same_bits_in_training_and_in_the_worker(tmp_path: Path) -> None:
    """A text read from a log and one that went through the worker's decoding, its table and a window: equal bits."""
    lines = [
        event(f"u{number % 2}", "a", END_MS + number, type="review", text=text) for number, text in enumerate(REVIEWS)
    ]
    log = read(write_log(tmp_path / "log", lines))

    values: list[bytes | None] = []
    for user in ("u0", "u1"):
        records = [
            SimpleNamespace(
                key=user.encode(), value=orjson.dumps(line), offset=number, timestamp=END_MS + 99, headers=()
            )
            for number, line in enumerate(lines)
            if line["user_id"] == user
        ]
        decoded = decode(records)
        assert [] == decoded.refused
        texts = [decoded.tokens[row].tolist() if row >= 0 else [] for row in decoded.text_row.tolist()]
        stored = [[token for token in text if token] for text in texts]
        value = pack(UserState(len(records), 0, {1: 9}, decoded.events, stored))
        assert stored == unpack(value).tokens
        values.append(value)
    windows = load(values, [1])

    np.testing.assert_array_equal(windows.events, log.events)
    known = np.unique(np.concatenate([windows.tokens[windows.tokens > 0], tokens_of()[:, :10].ravel()]))
    random = np.random.default_rng(0)
    text = TextVectors(
        known,
        random.standard_normal((len(known), 16), np.float32),
        random.uniform(1, 9, len(known)).astype(np.float32),
    )
    trained, served = features(text).text(log.tokens), features(text).text(windows.tokens)
    assert len(REVIEWS) - 1 == (trained[log.text_row] != 0).any(axis=1).sum()
    assert trained[log.text_row].tobytes() == served[windows.text_row].tobytes()

    alone = np.concatenate([features(text).text(windows.tokens[row : row + 1])[:1] for row in range(len(REVIEWS) - 1)])
    assert alone.tobytes() == served[:-1].tobytes()
