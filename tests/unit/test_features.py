"""What events look like to the graph."""

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from models.features import INPUTS, Features, HashTable, TextVectors, text_tokens
from stream import contract

TYPES = ("other", "click", "purchase", "review")


def features(inputs: tuple[str, ...] = tuple(INPUTS)) -> Features:
    """Items a and b of category x, c of none; category y without items; tokens "good" and "很好"."""
    return Features.build(
        inputs=inputs,
        event_types=TYPES,
        item_hashes=np.array([0, *map(contract.hash64, "abc")], np.uint64),
        category_hashes=np.array([0, *map(contract.hash32, "xy")], np.uint32),
        item_category=np.array([0, 1, 1, 0]),
        text=TextVectors(
            hashes=np.array([contract.hash32("good"), contract.hash32("很好")], np.uint32),
            vectors=np.array([[1, 0], [0, 1]], np.float32),
            weights=np.array([3, 4], np.float32),
        ),
    )


def event(time_ms: int = 1, item: str = "", category: str = "", type_code: int = 1) -> NDArray[np.void]:
    """One stored event, with ids hashed."""
    row = np.zeros((), contract.EVENT_DTYPE)
    row["timestamp"] = time_ms
    row["item"] = contract.hash64(item) if item else 0
    row["category"] = contract.hash32(category) if category else 0
    row["type"] = type_code
    return row


def inputs_of(
    *events: NDArray[np.void], previous_ms: int = -1, length: int | None = None
) -> dict[str, NDArray[np.float32]]:
    """One window's inputs, without text."""
    return features().inputs(
        np.stack(events)[None],
        np.full((1, len(events)), -1, np.int32),
        np.zeros((0, contract.TEXT_MAX_TOKENS), np.uint32),
        np.array([len(events) if length is None else length], np.int32),
        np.array([previous_ms]),
    )


def test_dtypes_and_shapes_are_the_contract() -> None:
    """Every input comes in the dtype and with the axes that INPUTS names, in a batch of any size."""
    for batch in (0, 1, 3):
        got = features().inputs(
            np.zeros((batch, 5), contract.EVENT_DTYPE),
            np.full((batch, 5), -1, np.int32),
            np.zeros((0, 64), np.uint32),
            np.ones(batch, np.int32),
            np.full(batch, -1),
        )
        sizes = {"batch": batch, "steps": 5, "text": 2}
        expected = {
            name: ("float32" if dtype == "float" else dtype, tuple(sizes[axis] for axis in axes))
            for name, (dtype, axes) in INPUTS.items()
        }
        assert expected == {name: (str(array.dtype), array.shape) for name, array in got.items()}


def test_only_what_the_bundle_uses() -> None:
    """A bundle of two inputs gets these two and `length`."""
    got = features(("category_index", "gap")).inputs(
        np.zeros((1, 1), contract.EVENT_DTYPE),
        np.full((1, 1), -1, np.int32),
        np.zeros((0, 64), np.uint32),
        np.ones(1, np.int32),
        np.full(1, -1),
    )
    assert list(got) == ["category_index", "gap", "length"]


def test_i11_what_is_unknown_is_row_0() -> None:
    """I11: no index reaches the graph that has no row: unknown item, category and type are 0."""
    got = inputs_of(
        event(item="nobody's", category="nobody's", type_code=2), event(item="", category="", type_code=255)
    )
    assert got["item_index"].tolist() == [[0, 0]]
    assert got["category_index"].tolist() == [[0, 0]]
    assert got["event_type"].tolist() == [[0, 0]]


def test_category_of_event_then_of_catalog() -> None:
    """An event's own category goes first; a known item brings its own where there is none, or none that is known."""
    got = inputs_of(
        event(item="a", category="y"),
        event(item="b"),
        event(item="b", category="nobody's"),
        event(item="nobody's", category="y"),
        event(item="c"),
    )
    assert got["item_index"].tolist() == [[1, 2, 2, 0, 3]]
    assert got["category_index"].tolist() == [[2, 1, 1, 2, 0]]


def test_types_are_positions_among_the_bundles() -> None:
    """A code of the table becomes the position of its name; a type that the bundle lacks is "other"."""
    codes = contract.EVENT_TYPES
    got = inputs_of(*(event(type_code=codes[name]) for name in ("click", "purchase", "review", "cart", "favorite")))
    assert got["event_type"].tolist() == [[1, 2, 3, 0, 0]]


def test_t09_gap_keeps_seconds_apart() -> None:
    """T09: times of 1.7e9 s with 60 and 4 s between them; the difference is taken before float32."""
    got = inputs_of(*(event((1_700_000_000 + after) * 1000) for after in (0, 60, 64)))
    assert got["gap"].tolist() == [[-1, 60, 4]]
    got = inputs_of(event(1_700_000_000_250), previous_ms=1_700_000_000_000)
    assert got["gap"].tolist() == [[0.25]]


def test_gap_of_equal_times_is_not_that_of_the_first() -> None:
    """0 for two events at once, -1 for the first, and 0 in padding."""
    assert inputs_of(event(5), event(5), event(9), length=2)["gap"].tolist() == [[-1, 0, 0]]


def test_amounts_and_rating() -> None:
    """Codes of the table become log2(1 + amount), -1 for none; the rating is in stars, 0 for none."""
    full, empty = event(), event()
    full["price"], full["quantity"], full["rating"] = contract.amount_code(7), contract.amount_code(0), 45
    got = inputs_of(full, empty)
    assert got["price"].tolist() == [[3, -1]]
    assert got["quantity"].tolist() == [[0, -1]]
    assert got["rating"].tolist() == [[4.5, 0]]


def test_text_is_the_weighted_mean_of_unit_length() -> None:
    """Known tokens by weight, unknown ones left out, zeros where no text or nothing known."""
    tokens = np.zeros((3, 64), np.uint32)
    tokens[0, :2] = contract.hash32("good"), contract.hash32("很好")
    tokens[1, :2] = contract.hash32("nobody's"), contract.hash32("good")
    tokens[2, 0] = contract.hash32("nobody's")
    got = features().inputs(
        np.zeros((1, 5), contract.EVENT_DTYPE),
        np.array([[2, 0, -1, 1, 1]], np.int32),
        tokens,
        np.array([4], np.int32),
        np.array([-1]),
    )["text"]
    expected = np.array([[[0, 0], [0.6, 0.8], [0, 0], [1, 0], [0, 0]]])
    np.testing.assert_allclose(got, expected, atol=1e-7)


@pytest.mark.parametrize(("length", "bad"), [([2, 3, 1], 3), ([2, 0, 1], 0), ([1, -1, 2], -1)])
def test_i05_i06_no_wrong_length_reaches_the_graph(length: list[int], bad: int) -> None:
    """I05, I06: a length above the steps would fail the whole call, a length of 0 give a zero vector: named instead."""
    with pytest.raises(ValueError, match=f"length of row 1 expected between 1 and 2 steps, got {bad}"):
        features().inputs(
            np.zeros((3, 2), contract.EVENT_DTYPE),
            np.full((3, 2), -1, np.int32),
            np.zeros((0, 64), np.uint32),
            np.array(length, np.int32),
            np.full(3, -1),
        )


def test_hash_table_without_entries() -> None:
    """A catalog of nothing finds nothing."""
    table = HashTable.build(np.zeros(1, np.uint64))
    assert table.find(np.array([0, 7], np.uint64)).tolist() == [0, 0]


def test_two_ids_of_one_hash_find_the_first() -> None:
    """Should two categories share 32 bits, training and serving see the same one."""
    table = HashTable.build(np.array([0, 9, 5, 9], np.uint32))
    assert table.find(np.array([9, 5], np.uint32)).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Good GOOD good", ["good"]),
        ("I don't like it, I don’t.", ["i", "don't", "like", "it"]),
        ("Straße STRASSE", ["strasse"]),
        ("ＡＢＣ abc", ["abc"]),
        ("snake_case 4.5", ["snake", "case", "4", "5"]),
        ("很好", ["很好"]),
        ("好", ["好"]),
        ("很好用很好。好", ["很好", "好用", "用很", "好"]),
        ("iPhone手机good", ["iphone", "手机", "good"]),
        ("すごい", ["すご", "ごい"]),
        ("좋은 제품", ["좋은", "제품"]),
        ("", []),
        (" \t…!?\u0000", []),
        ("ok \ud800 then", ["ok", "then"]),
    ],
)
def test_tokens(text: str, tokens: list[str]) -> None:
    """Words folded, Chinese and kana in pairs, distinct, in order of appearance."""
    assert [contract.hash32(token) for token in tokens] == text_tokens(text)


def test_tokens_are_frozen() -> None:
    """The table stores these numbers: they may never change."""
    assert text_tokens("Good 很好") == [2211921529, 2115574410]


def test_at_most_64_tokens() -> None:
    """The first 64 distinct ones, of words and of Chinese without an end."""
    words = [f"w{number}" for number in range(200)]
    assert [contract.hash32(word) for word in words[:64]] == text_tokens(" ".join(words))
    chinese = "".join(chr(0x4E00 + number) for number in range(9000))
    assert len(text_tokens(chinese)) == contract.TEXT_MAX_TOKENS


def test_tokens_are_quick() -> None:
    """A typical review takes tens of µs; the bound is wide for a busy machine."""
    review = "This phone is great: the battery lasts two days and I would buy it again. 这个手机真的很好用。"
    took = []
    for _ in range(20):
        start = time.perf_counter()
        text_tokens(review)
        took.append(time.perf_counter() - start)
    assert min(took) < 1e-4
