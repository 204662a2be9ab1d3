"""Sentiment is learnt from labels or ratings, reads stored tokens with numpy alone, and becomes a column of text."""

import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models import comparison, labelled
from models.features import Features, TextVectors, text_tokens
from models.labelled import Labelled
from models.sentiment import Sentiment, by_rating, features, learn, with_sentiment
from models.words import learn as learn_words
from stream.contract import hash32
from stream.decode import token_rows
from stream.errors import InterestError, UsageError

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "reviews"
MOODS = {True: ["love", "great", "happy", "很好", "满意"], False: ["bad", "broken", "sad", "太差", "失望"]}
THINGS = [f"thing{number}" for number in range(60)]


def reviews(texts: int = 300, bad: float = 0.5, seed: int = 0) -> list[tuple[str, bool]]:
    """Texts of four things and, in eight of ten, one word of their mood."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(texts):
        good = bool(random.random() >= bad)
        words = [str(word) for word in random.choice(THINGS, 4, replace=False)]
        if random.random() < 0.8:
            words.insert(int(random.integers(0, 5)), str(random.choice(MOODS[good])))
        found.append((" ".join(words), good))
    return found


def tokens_of(*texts: str) -> NDArray[np.uint32]:
    """Stored tokens of each text."""
    return token_rows([text_tokens(text) for text in texts])


def learnt(reach: int = 0, bad: float = 0.5) -> Sentiment:
    """Sentiment of made-up reviews."""
    known = Labelled.of(reviews(bad=bad))
    found = learn(known.tokens, known.good, reach)
    assert found is not None
    return found


@pytest.mark.torch
@pytest.mark.parametrize("reach", [0, 1, 2])
def test_words_of_a_mood_are_told_apart(reach: int) -> None:
    """Good words lift the probability, bad ones lower it, on texts that were not learnt from."""
    sentiment = learnt(reach)
    asked = Labelled.of(reviews(seed=1))
    assert np.mean((sentiment.score(asked.tokens) > 0.5) == asked.good) > 0.85
    good, bad = sentiment.score(tokens_of("love it, 很好", "it broken, 太差"))
    assert good > 0.9
    assert bad < 0.1


def test_score_is_the_formula() -> None:
    """1 / (1 + exp(-(w·x + bias))), x the idf of known tokens of unit length; the unknown says nothing."""
    hashes = np.sort(np.array([hash32("good"), hash32("bad")], np.uint32))
    at = {int(token): place for place, token in enumerate(hashes)}
    idf, weights = np.zeros(2, np.float32), np.zeros(2, np.float32)
    for word, values in {"good": (3, 2), "bad": (4, -1)}.items():
        idf[at[hash32(word)]], weights[at[hash32(word)]] = values
    sentiment = Sentiment(hashes, idf, weights, 0.5, 0)
    got = sentiment.score(tokens_of("good", "bad", "good and bad", "and", ""))
    logits = np.array([2, -1, (3 * 2 - 4) / 5, 0, 0]) + 0.5
    np.testing.assert_allclose(got, 1 / (1 + np.exp(-logits)), rtol=1e-6)
    assert np.float32 == got.dtype


@pytest.mark.torch
def test_a_score_does_not_hang_on_its_neighbours() -> None:
    """Alone, among others and in pieces a text has the same bits."""
    sentiment = learnt(1)
    tokens = np.tile(Labelled.of(reviews(100)).tokens, (50, 1))
    whole = sentiment.score(tokens)
    assert 5000 == len(whole) == len(tokens)
    assert whole[:100].tobytes() == whole[4900:].tobytes()
    assert whole[7] == sentiment.score(tokens[7:8])[0]
    assert 0 == len(sentiment.score(tokens[:0]))


@pytest.mark.torch
def test_same_reviews_same_bits() -> None:
    """Learning draws nothing by chance, and the order of the reviews does not matter."""
    known = Labelled.of(reviews())
    first, again = learn(known.tokens, known.good, 1), learn(known.tokens[::-1], known.good[::-1], 1)
    assert first is not None
    assert again is not None
    assert first.weights.tobytes() == again.weights.tobytes()
    assert first.bias == again.bias


@pytest.mark.torch
def test_a_repeated_text_counts_once() -> None:
    """A text that was sent a hundred times teaches what it teaches once."""
    known = Labelled.of(reviews())
    tokens = np.concatenate([known.tokens, np.repeat(known.tokens[:1], 100, axis=0)])
    once = learn(known.tokens, known.good)
    often = learn(tokens, np.concatenate([known.good, np.repeat(known.good[:1], 100)]))
    assert once is not None
    assert often is not None
    assert once.weights.tobytes() == often.weights.tobytes()


@pytest.mark.torch
def test_a_few_bad_reviews_are_found() -> None:
    """Where one in twelve is bad, what is called bad mostly is, and the mean probability is the share of good ones."""
    sentiment = learnt(bad=0.08)
    asked = Labelled.of(reviews(2000, bad=0.08, seed=1))
    score = sentiment.score(asked.tokens)
    called = score < 0.5
    assert (called & ~asked.good).sum() > 0.4 * (~asked.good).sum()
    assert (called & ~asked.good).sum() > 0.8 * called.sum()
    assert abs(score.mean() - asked.good.mean()) < 0.03


@pytest.mark.torch
def test_too_few_of_either_kind() -> None:
    """Under twenty different texts of a kind: none."""
    known = Labelled.of(reviews())
    bad = np.flatnonzero(~known.good)
    some = np.concatenate([np.flatnonzero(known.good), bad[:19], np.repeat(bad[:1], 30)])
    assert learn(known.tokens[some], known.good[some]) is None
    some = np.append(some, bad[19])
    assert learn(known.tokens[some], known.good[some]) is not None
    assert learn(known.tokens[:0], known.good[:0]) is None


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what to install."""
    monkeypatch.setitem(sys.modules, "sklearn", None)
    for name in [name for name in sys.modules if name.startswith("sklearn.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(InterestError) as raised:
        learn(np.zeros((0, 64), np.uint32), np.zeros(0, bool))
    assert "sentiment needs scikit-learn: pip install 'interest-stream[train]'" == str(raised.value)


def test_pairs_are_of_neighbours_in_order() -> None:
    """Tokens, then pairs one apart, then two apart; a pair has its order, and padding makes none."""
    tokens = np.array([[7, 8, 9, 0], [8, 7, 0, 0]], np.uint32)
    found = features(tokens, 2)
    assert (2, 4 + 3 + 2) == found.shape
    assert tokens.tolist() == found[:, :4].tolist()
    assert [[True, True, False, True, False], [True, False, False, False, False]] == (found[:, 4:] > 0).tolist()
    assert 4 == len(np.unique(found[:, 4:][found[:, 4:] > 0]))
    assert tokens.tolist() == features(tokens, 0).tolist()


def test_ratings_say_what_they_are() -> None:
    """4 to 5 is good, 1 to 2 bad; between them, and without a rating, nothing is said."""
    says, good = by_rating(np.array([0, 10, 20, 21, 30, 39, 40, 50], np.uint8))
    assert [False, True, True, False, False, False, True, True] == says.tolist()
    assert [False, False, False, False, False, False, True, True] == good.tolist()


def text_of(vectors: TextVectors, tokens: NDArray[np.uint32]) -> NDArray[np.float32]:
    """The feature of each text, [texts, width]."""
    return Features.build(
        inputs=("text", "length"),
        event_types=("other",),
        item_hashes=np.zeros(1, np.uint64),
        category_hashes=np.zeros(1, np.uint32),
        item_category=np.zeros(1, np.int64),
        text=vectors,
    ).text(tokens)[:-1]


@pytest.mark.torch
def test_sentiment_as_a_column() -> None:
    """One more column, of the sign of what the words say; the others keep their directions and most of their length."""
    known = Labelled.of(reviews())
    text, sentiment = learn_words(known.tokens, 0, 8), learnt()
    both = with_sentiment(text, sentiment)
    assert (text.hashes.tolist(), 9) == (both.hashes.tolist(), both.width)
    asked = Labelled.of(reviews(seed=1))
    before, after = text_of(text, asked.tokens), text_of(both, asked.tokens)
    logit = sentiment.score(asked.tokens)
    logit = np.log(logit / (1 - logit)) - sentiment.bias
    clear = np.abs(logit) > 0.1
    np.testing.assert_array_equal(np.sign(after[clear, -1]), np.sign(logit[clear]))
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), 1, rtol=1e-5)
    kept = (before * after[:, :-1]).sum(axis=1)
    np.testing.assert_allclose(kept, np.linalg.norm(after[:, :-1], axis=1), rtol=1e-4)
    assert 0.25 < np.sqrt((after[:, -1] ** 2).mean()) < 0.65


@pytest.mark.torch
def test_sentiment_where_there_are_no_words() -> None:
    """Without word vectors the text's feature is 1 or -1, by all words that sentiment knows."""
    sentiment = learnt()
    only = with_sentiment(TextVectors.none(), sentiment)
    assert 1 == only.width
    assert [[1], [-1], [0]] == text_of(only, tokens_of("love 很好", "broken", "nobody's")).tolist()


@pytest.mark.torch
def test_pairs_are_no_words() -> None:
    """A sentiment of pairs cannot be a column of words."""
    with pytest.raises(ValueError, match="expected a sentiment of tokens alone, got one of pairs up to 1 apart"):
        with_sentiment(TextVectors.none(), learnt(1))


def table(path: Path, text: str) -> Path:
    """A file of that text."""
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_of_labels(tmp_path: Path) -> None:
    """Columns by name in any order, quoted text, labels in words; rows whose text has no token are left out."""
    path = table(tmp_path / "t.csv", '\ufeffcat,label,review\nx,1,"很好, 不错"\nx,Negative,"two\nlines"\n\nx,0,…\n')
    found = labelled.read(path, "label", "review")
    assert ["很好, 不错", "two\nlines"] == found.texts
    assert [True, False] == found.good.tolist()
    assert tokens_of(*found.texts).tolist() == found.tokens.tolist()
    assert 1 == found.left_out


def test_a_table_without_header(tmp_path: Path) -> None:
    """Two numbers are places, from 1; a tab separates where there is one, and then a comma is text."""
    found = labelled.read(table(tmp_path / "t.csv", 'Fine, really\t1\n"So, so"\t0\n'), "2", "1")
    assert ["Fine, really", "So, so"] == found.texts
    assert [True, False] == found.good.tolist()


def test_a_zip_of_a_table(tmp_path: Path) -> None:
    """A zip of one table is that table; of two it is refused."""
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("t.csv", "label,text\n1,好\n")
    assert ["好"] == labelled.read(path, "label", "text").texts
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more.csv", "")
    with pytest.raises(UsageError, match="expected a zip of one table, got 2 files"):
        labelled.read(path, "label", "text")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,x\n", "expected a column 'label', got a, b: name it with --label-column or --text-column; "),
        ("label,text\n1\n", "line 2: expected 2 columns or more, got 1"),
        ("label,text\n1,x\nmaybe,y\n", "line 3: expected a label among -1, 0, 1, bad, false, good, neg, negative, "),
        ("label,text\n1,x\n5,y\n", "true, got '5'"),
    ],
)
def test_a_table_that_is_none(content: str, message: str, tmp_path: Path) -> None:
    """The error names the file, the line and what was expected."""
    path = table(tmp_path / "t.csv", content)
    with pytest.raises(UsageError) as raised:
        labelled.read(path, "label", "text")
    assert str(raised.value).startswith(f"{path}: ")
    assert message in str(raised.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    """A file that is missing, and one that is no text."""
    with pytest.raises(UsageError, match=r"none.csv: expected a table, CSV: No such file or directory$"):
        labelled.read(tmp_path / "none.csv", "label", "text")
    (tmp_path / "t.csv").write_bytes(b"label,text\n1,\xff\xfe\n")
    with pytest.raises(UsageError, match=r"t.csv: expected text as UTF-8: 'utf-8' codec can't decode byte 0xff"):
        labelled.read(tmp_path / "t.csv", "label", "text")


def test_held_out_by_text() -> None:
    """A share of the texts that differ; the same text is never on both sides, and a seed gives the same ones."""
    tokens = np.tile(Labelled.of(reviews(100)).tokens, (3, 1))
    held = comparison.held_out(tokens, 0.2, 0)
    assert held[:100].tolist() == held[100:200].tolist() == held[200:].tolist()
    assert 20 == held[:100].sum()
    assert held.tolist() == comparison.held_out(tokens, 0.2, 0).tolist()
    assert held.tolist() != comparison.held_out(tokens, 0.2, 1).tolist()


@pytest.mark.torch
def test_figures_are_those_of_the_definitions() -> None:
    """Accuracy, precision, recall and F1, 0 where there is nothing to divide by."""
    good, score = np.array([True, True, True, False, False]), np.array([0.9, 0.8, 0.2, 0.7, 0.1])
    told = comparison.Told.of("us", good, score)
    assert (3 / 5, 2 / 3, 2 / 3) == (told.accuracy, told.precision, told.recall)
    assert told.f1 == pytest.approx(2 / 3)
    assert told.f1_bad == pytest.approx(1 / 2)
    none = comparison.Told.of("all bad", good, np.zeros(5))
    assert (0, 0, 0) == (none.precision, none.recall, none.f1)


@pytest.mark.torch
def test_ways_are_compared_on_the_same_texts() -> None:
    """All are asked what they have not learnt; with too little the error says how much there is."""
    known = Labelled.of(reviews(500))
    held = comparison.held_out(known.tokens, 0.2, 0)
    found = comparison.compare(known, held)
    assert (len(known.texts) - held.sum(), held.sum()) == (found.learnt, found.asked)
    names = ["64 tokens", "and their pairs", "baseline, words", "baseline, characters", "all good"]
    assert names == [one.by for one in found.told]
    share = found.asked_good / found.asked
    assert found.told[-1].accuracy == pytest.approx(share)
    assert min(one.accuracy for one in found.told[:3]) > share + 0.2
    few = replace(known, texts=known.texts[:30], tokens=known.tokens[:30], good=known.good[:30])
    with pytest.raises(InterestError, match=r"^expected 20 good and 20 bad texts to learn from, and one to ask, got "):
        comparison.compare(few, np.arange(30) < 5)


def require(name: str) -> Path:
    """A file of the reviews, or a skip that says where it should lie."""
    path = DATA / name
    if not path.parent.is_dir():
        pytest.skip(f"no {path}: these files lie in shared/data/reviews beside the repository")
    return path


@pytest.mark.torch
def test_chinese_reviews_are_told_apart() -> None:
    """Of 62,774 public reviews a fifth is held out: accuracy and F1 are .90 or more by the stored tokens alone."""
    known = labelled.read(require("online_shopping_10_cats.zip"), "label", "review")
    held = comparison.held_out(known.tokens, 0.2, 0)
    sentiment = learn(known.tokens[~held], known.good[~held])
    assert sentiment is not None
    told = comparison.Told.of("us", known.good[held], sentiment.score(known.tokens[held]))
    assert told.accuracy >= 0.9
    assert told.f1 >= 0.9
    assert told.f1_bad >= 0.9
