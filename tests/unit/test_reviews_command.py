"""`interest model reviews`: items by their reviews, keywords of the raw text, and errors in one line."""

import gzip
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from models import labelled
from models.features import text_tokens
from models.keywords import keywords, named, texts
from models.log import read
from models.opinions import opinions
from models.rows import Mapped
from stream.commands.reviews import command
from stream.contract import hash32
from stream.decode import token_rows
from stream.errors import InterestError, UsageError
from tests.logs import END_MS, event, write_log

GOOD = ["love it", "great value", "很满意", "works well"]
BAD = ["it broke", "a waste", "太差了", "sent back"]


def review(number: int, item: str, text: str, **fields: Any) -> dict[str, Any]:
    """A review of a user of its own."""
    return event(f"u{number}", item, END_MS + number, type="review", text=text, **fields)


def a_log(path: Path) -> Path:
    """Forty good reviews of lamps and thirty bad ones of chairs, a review without text, and a click."""
    lines = [review(n, "lamp", f"{GOOD[n % 4]}, the light {n} 台灯", rating=4 + n % 2) for n in range(40)]
    lines += [review(100 + n, "chair", f"{BAD[n % 4]}, the seat {n}", rating=1 + n % 2) for n in range(30)]
    lines.append({**review(200, "lamp", "", rating=5), "item_name": "A lamp"})
    lines.append(event("u9", "table", END_MS))
    lines.append(review(201, "desk", "fine"))
    return write_log(path, lines)


def run(*arguments: str | Path) -> None:
    """Call the command as the group would."""
    command.main([str(one) for one in arguments], prog_name="interest model reviews", standalone_mode=False)


def keywords_of(*reviews: tuple[int, str], most: int = 3) -> list[list[str]]:
    """Keywords of the items of reviews, as many as there are."""
    raw = [text for _, text in reviews]
    item = np.array([item for item, _ in reviews])
    return keywords(token_rows([text_tokens(text) for text in raw]), item, int(item.max()) + 1, raw, most)


@pytest.mark.torch
def test_items_by_their_reviews(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line an item, most reviews first: number, mean rating, sentiment, keywords; - where there is nothing."""
    log = a_log(tmp_path / "log")
    run(log, "--keywords", "2")
    said = capsys.readouterr().out.splitlines()
    assert f"{log}: 40 good and 30 bad reviews with a text by their ratings" == said[0]
    assert ["item", "reviews", "rating", "sentiment", "keywords"] == said[1].split()
    lamp, chair, desk = (line.split() for line in said[2:])
    assert ["lamp", "A", "lamp", "41", "4.51"] == lamp[:5]
    assert ["light", "台灯"] == sorted(lamp[6:])
    assert ["chair", "30", "1.50"] == chair[:3]
    assert "seat" in chair[4:]
    assert float(lamp[5]) > 0.9 > 0.1 > float(chair[3])
    assert ["desk", "1", "-"] == desk[:3]
    run(log, "--keywords", "2")
    assert said == capsys.readouterr().out.splitlines()


@pytest.mark.torch
def test_top_items_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--top leaves the others out; limits of the log hold, and are told."""
    run(a_log(tmp_path / "log"), "--top", "2")
    assert ["lamp", "chair"] == [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]]
    run(a_log(tmp_path / "log"), "--item-min", "35")
    said = capsys.readouterr()
    assert ["lamp"] == [line.split()[0] for line in said.out.splitlines()[2:]]
    assert "left out: 32 events of items with under 35, kept as unknown (32 users)\n" == said.err


@pytest.mark.torch
def test_too_few_to_learn_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Items are shown without a sentiment, and why is said."""
    run(write_log(tmp_path / "log", [review(1, "a", "good", rating=5), review(2, "a", "good", rating=3)]))
    said = capsys.readouterr()
    assert "no sentiment: expected 20 different good and 20 bad texts to learn from\n" == said.err
    assert ["a", "2", "4.00", "-"] == said.out.splitlines()[-1].split()


@pytest.mark.torch
def test_learnt_from_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--labelled goes before the ratings, and needs no log; --held-out shows a table that a seed fixes."""
    rows = [f"{text} {n},{label}" for n in range(40) for label, some in ((1, GOOD), (0, BAD)) for text in some]
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(["words,mood", *rows]), encoding="utf-8")
    columns: list[str | Path] = ["--labelled", path, "--label-column", "mood", "--text-column", "words"]
    run(*columns, "--held-out", "0.25", "--seed", "1")
    said = capsys.readouterr().out.splitlines()
    assert f"{path}: 160 good and 160 bad reviews with a text, 0 rows without text left out" == said[0]
    assert said[1].startswith("learnt from 240 texts that differ, asked 80, ")
    assert said[1].endswith(" of them good; seed 1")
    assert ["accuracy", "precision", "recall", "F1", "F1", "of", "bad"] == said[2].split()
    assert "64 tokens               1.0000    1.0000 1.0000 1.0000    1.0000" == said[3]
    assert 8 == len(said)
    run(*columns, "--held-out", "0.25", "--seed", "1")
    assert said == capsys.readouterr().out.splitlines()
    lines = [review(1, "a", "love it", rating=1), review(2, "b", "it broke", rating=5)]
    run(write_log(tmp_path / "log", lines), *columns)
    one, other = (line.split() for line in capsys.readouterr().out.splitlines()[2:])
    assert float(one[3]) > 0.9 > 0.1 > float(other[3])


@pytest.mark.torch
def test_held_out_of_ratings_reads_another_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Reviews as Amazon writes them, compressed: the baseline gets the raw text."""
    path = tmp_path / "reviews.json.gz"
    with gzip.open(path, "wb") as file:
        for line in a_log(tmp_path / "log").read_bytes().splitlines():
            told = orjson.loads(line)
            row = {"reviewerID": told["user_id"], "asin": told["item_id"], "overall": told.get("rating")}
            row |= {"unixReviewTime": told["timestamp"] // 1000, "reviewText": told.get("text")}
            file.write(orjson.dumps(row) + b"\n")
    run(path, "--format", "amazon", "--held-out", "0.2")
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith("learnt from 56 texts that differ, asked 14, ")
    assert float(said[5].split()[2]) > 0.8  # baseline, words
    assert ["lamp", "chair", "desk", "table"] == [line.split()[0] for line in said[9:]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected EVENTS, or --labelled with reviews to learn from, got neither"),
        (("clicks",), "clicks: expected reviews with a text, got none in 1 event"),
        (("none",), "none: expected a file of JSON Lines: No such file or directory"),
        (("pipe",), "pipe: expected a file or a folder, since it is read twice, got a stream"),
        (("--labelled", "none"), "none: expected a table, CSV: No such file or directory"),
    ],
)
def test_errors(arguments: Sequence[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong call says what was expected and what came."""
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path / "clicks", [event("u", "a", END_MS)])
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError) as raised:
        run(*arguments)
    assert message == str(raised.value)


@pytest.mark.torch
def test_too_few_to_hold_out(tmp_path: Path) -> None:
    """The error says how many there are."""
    path = tmp_path / "t.csv"
    path.write_text("label,text\n1,good\n0,bad\n")
    with pytest.raises(InterestError, match="expected 20 good and 20 bad texts to learn from, and one to ask, got 1, "):
        run("--labelled", path, "--held-out", "0.5")


def test_texts_as_they_stand(tmp_path: Path) -> None:
    """Of JSON Lines and of other formats, cut as the worker cuts them; what is no JSON or has no text is left out."""
    path = write_log(
        tmp_path / "log", [review(1, "a", "好 x"), b"{", b"\xff", event("u", "a", 1), review(2, "a", "y" * 10_001)]
    )
    assert ["好 x", "y" * 10_000] == list(texts(path))
    (tmp_path / "t.csv").write_text("user_id,item_id,timestamp,text\nu,a,9,fine\nu,a,x,late\nu,a,9,\n")
    assert ["fine"] == list(texts(tmp_path / "t.csv", form="csv", mapped=Mapped(type="review")))


def test_a_log_by_its_ratings(tmp_path: Path) -> None:
    """Reviews with text and a rating that says something; their texts are found by their tokens."""
    told: list[dict[str, Any]] = [
        {"rating": 5, "text": "Love it"},
        {"rating": 3, "text": "So so"},
        {"rating": 1.5, "text": "太差"},
        {"text": "none"},
        {"rating": 4},
    ]
    lines = [event("u", "a", END_MS + number, type="review", **fields) for number, fields in enumerate(told)]
    log = read(write_log(tmp_path / "log", lines))
    found = labelled.rated(log, ["太差", "So so", "unknown", "Love it"])
    assert ["Love it", "太差"] == found.texts
    assert [True, False] == found.good.tolist()
    assert token_rows([text_tokens("Love it"), text_tokens("太差")]).tolist() == found.tokens.tolist()
    assert ["", ""] == labelled.rated(log).texts
    with pytest.raises(InterestError, match="expected the log's texts when it was read again, got others"):
        labelled.rated(log, ["Love it"])


def test_keywords_are_what_others_lack() -> None:
    """Words of one item come before words of all; a word of a single review is none; most telling first."""
    of_a = [(0, f"the battery lasts, the charger is slow {n}") for n in range(9)] + [(0, "battery here")]
    of_b = [(1, f"the fabric is soft, the zip {n} jams") for n in range(10)]
    found = keywords_of(*of_a, *of_b)
    assert "battery" == found[0][0]
    assert {"lasts", "charger", "slow"} >= set(found[0][1:])
    assert {"fabric", "soft", "zip", "jams"} >= set(found[1])
    assert [3, 3] == [len(words) for words in found]


def test_items_that_are_not_asked_for_count_as_others() -> None:
    """Texts of item -1 say which words are common."""
    raw = ["good lamp", "good lamp", *["good chair"] * 20]
    tokens = token_rows([text_tokens(text) for text in raw])
    assert [["lamp"]] == keywords(tokens, np.array([0, 0, *[-1] * 20]), 1, raw, 5)


def test_pairs_of_characters_are_joined() -> None:
    """A word of three characters is one keyword; a pair over the edge of a word is none."""
    of_a = [(0, text) for text in ["热水器很好", "这热水器", "热水器坏", "买热水器"]]
    of_b = [(1, text) for text in ["红的苹果", "大的苹果", "苹果好吃", "吃苹果", "苹果"]]
    found = keywords_of(*of_a, *of_b, most=2)
    assert "热水器" == found[0][0]
    assert "苹果" == found[1][0]
    assert "的苹" not in found[1]


def test_words_of_two_letters_are_not_joined() -> None:
    """Only what is written without spaces is: Russian words that share a letter stay two."""
    found = keywords_of(*[(0, "да аж")] * 5, *[(1, "other words")] * 5, most=2)
    assert ["аж", "да"] == sorted(found[0])


def test_a_character_that_comes_around() -> None:
    """Pairs that follow each other in a ring end."""
    found = keywords_of(*[(0, "甲乙甲")] * 5, *[(1, "丙丁")] * 5)
    assert ["甲乙甲"] == found[0] or ["乙甲乙"] == found[0]


def test_words_behind_hashes() -> None:
    """A token's word is found in the text, folded as tokens are; reading ends when all are found."""

    def raw() -> Any:
        yield "telephone ＰＨＯＮＥ—don’t, iPhone手机Good"
        yield "x" * 40
        raise AssertionError("read on")

    words = ["phone", "don't", "iphone", "手机", "good", "x" * 40]
    assert {hash32(word): word for word in words} == named({hash32(word) for word in words}, raw())
    assert {} == named({hash32("missing")}, ["text"])


def test_nothing_to_tell() -> None:
    """No review, and reviews of one word, have no keywords."""
    assert [[], []] == keywords(np.zeros((0, 64), np.uint32), np.zeros(0, np.int64), 2, [], 3)
    assert [[]] == keywords_of((0, "good"), (0, "good"))


def test_means_are_of_what_there_is(tmp_path: Path) -> None:
    """A rating that is missing is left out of the mean; ties go by id; names come from the log."""
    lines = [review(1, "b", "x", rating=4), review(2, "b", "y"), review(3, "a", "z"), review(4, "a", "z")]
    log = read(write_log(tmp_path / "log", [*lines, {**event("u", "a", END_MS), "item_name": "An A"}]))
    first, second = opinions(log, 5, None, ["x", "y", "z"], 1)
    assert ("a", "An A", 2, None, None) == (first.item, first.name, first.reviews, first.rating, first.sentiment)
    assert ("b", 2, 4.0) == (second.item, second.reviews, second.rating)
    assert ["z"] == first.keywords
