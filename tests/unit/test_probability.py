"""Probabilities are what the numbers say, rise with the cosine, and come back from a file that is checked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models import arrays
from models.probability import PROBABILITY_ARRAYS, Probability
from stream.errors import BundleError

HOUR_MS = 3_600_000


def a_head(**changed: Any) -> Probability:
    """Two heads, five items."""
    given: dict[str, Any] = {
        "types": np.array(["click", "purchase"]),
        "horizon_ms": np.array(HOUR_MS),
        "edges": np.array([0.0, 0.5]),
        "slopes": np.array([[1.0, 2, 4], [0, 0, 8]]),
        "popular": np.array([0.5, -1]),
        "bias": np.array([-2.0, -3]),
        "threshold": np.array([0.25, 0.5], np.float32),
        "popularity": np.log1p([0, 0, 1, 3, 9]).astype(np.float32),
    }
    return Probability(**(given | changed))


def unit(random: np.random.Generator, count: int, dim: int = 6) -> NDArray[np.float32]:
    """Vectors of unit length."""
    vectors = random.standard_normal((count, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def test_by_hand() -> None:
    """Log-odds: slopes as far as the cosine reaches, popularity, constant; each type of act has its own."""
    cosine = np.array([-0.5, 0.25, 0.75], np.float32)
    found = a_head().of_cosine(cosine, np.array([1, 3, 4]))
    odds = np.array(
        [
            [-2 - 0.5, -3],
            [-2 + 0.25 * 2 + 0.5 * np.log(4), -3 - np.log(4)],
            [-2 + 0.5 * 2 + 0.25 * 4 + 0.5 * np.log(10), -3 + 0.25 * 8 - np.log(10)],
        ]
    )
    np.testing.assert_allclose(1 / (1 + np.exp(-odds)), found, rtol=1e-6)


def test_users_and_items() -> None:
    """Each user with each item asked for, in that order, is what the pair is alone; row 0 is never said (E10)."""
    random = np.random.default_rng(0)
    head, vectors, items = a_head(), unit(random, 3), unit(random, 5)
    whole = head.of(vectors, items)
    assert (3, 5, 2) == whole.shape
    assert np.float32 == whole.dtype
    assert not whole[:, 0].any()
    rows = np.array([4, 0, 2])
    np.testing.assert_allclose(whole[:, rows], head.of(vectors, items, rows), rtol=1e-6)
    one = head.of_cosine(vectors[1] @ items[4:].T, np.array([4]))
    np.testing.assert_allclose(whole[1, 4], one[0], rtol=1e-6)


def test_a_nearer_item_is_never_less_probable() -> None:
    """Probabilities rise with the cosine, for any head that may be read, and stay between 0 and 1."""
    random = np.random.default_rng(0)
    cosine = np.linspace(-1, 1, 400).astype(np.float32)
    for _ in range(50):
        head = a_head(slopes=random.exponential(9, (2, 3)) * random.integers(0, 2, (2, 3)), bias=random.normal(0, 9, 2))
        head.check("here")
        found = head.of_cosine(cosine, np.full(400, 2))
        assert (np.diff(found, axis=0) >= 0).all()
        assert (0 <= found.min()) & (found.max() <= 1)


def test_written_and_read() -> None:
    """What was written comes back, and says the same."""
    head, path = a_head(), Path("probability.npz")
    again = Probability.read(path, arrays.npz(head.arrays()), 5)
    assert set(PROBABILITY_ARRAYS) == set(head.arrays())
    for name, array in head.arrays().items():
        np.testing.assert_array_equal(array, again.arrays()[name])
    empty = head.arrays() | {"types": np.zeros(0, np.str_), "slopes": np.zeros((0, 3))}
    empty |= {name: head.arrays()[name][:0] for name in ("popular", "bias", "threshold")}
    zeros = np.zeros((2, 4), np.float32), np.zeros((5, 4), np.float32)
    assert (2, 5, 0) == Probability.read(path, arrays.npz(empty), 5).of(*zeros).shape


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("types", np.array(["click", "review"]), r"types expected .* among click, cart, favorite, purchase, got \['c"),
        ("types", np.array(["click", "click"]), "types expected to differ"),
        ("types", np.array(["click"]), r"slopes expected float64 \[heads = 1, segments\], got float64 \[2, 3\]"),
        ("horizon_ms", np.array(0), "horizon_ms expected above 0, got 0"),
        ("edges", np.array([0.5, 0.0]), r"edges expected to ascend, got \[0.5, 0.0\]"),
        ("edges", np.array([0.0]), "slopes expected not below 0, 2 a head"),
        ("slopes", np.array([[1.0, -1, 1], [1, 1, 1]]), "slopes expected not below 0"),
        ("slopes", np.array([[1.0, np.nan, 1], [1, 1, 1]]), "slopes expected not below 0"),
        ("popular", np.array([np.inf, 1]), "popular expected finite"),
        ("bias", np.array([np.nan, 1]), "bias expected finite"),
        ("bias", np.array([1, 1], np.float32), r"bias expected float64 \[heads = 2\], got float32 \[2\]"),
        ("threshold", np.array([0.1, 1.5], np.float32), "threshold expected from 0 to 1"),
        ("popularity", np.array([0, 0, np.nan, 1, 1], np.float32), "popularity expected finite"),
        ("popularity", np.zeros(4, np.float32), r"popularity expected float32 \[items = 5\], got float32 \[4\]"),
    ],
)
def test_a_bad_file_is_told(name: str, array: NDArray[Any], said: str) -> None:
    """What cannot be is refused when it is read, with the file, the array and what was expected."""
    blob = arrays.npz(a_head().arrays() | {name: array})
    with pytest.raises(BundleError, match=f"^p.npz: .*{said}.*; make it again"):
        Probability.read(Path("p.npz"), blob, 5)


def test_an_array_that_is_missing() -> None:
    """A file of something else is told."""
    with pytest.raises(BundleError, match=r"p\.npz: expected the arrays types, horizon_ms, .* without pickle"):
        Probability.read(Path("p.npz"), arrays.npz({"other": np.zeros(2)}), 5)
