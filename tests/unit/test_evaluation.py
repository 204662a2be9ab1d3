"""Ties, constants and NaN count against us."""

import numpy as np
import pytest

from models.evaluation import rank

NONE = np.zeros((2, 5), bool)


def test_the_best_is_0_and_what_is_left_out_does_not_count() -> None:
    """Places are counted among the others that are asked for."""
    score = np.array([[0.0, 9, 5, 7, 1], [0.0, 9, 5, 7, 1]])
    left_out = NONE.copy()
    left_out[1, 1] = True
    assert rank(score, np.array([1, 3]), left_out).tolist() == [0, 0]
    assert rank(score, np.array([4, 4]), left_out).tolist() == [3, 2]


@pytest.mark.parametrize("value", [0.0, np.nan, -np.inf])
def test_e05_a_constant_or_nan_model_scores_nothing(value: float) -> None:
    """E05: whatever ties with the target stands before it, and so does all that cannot be compared."""
    assert rank(np.full((2, 5), value), np.array([1, 3]), NONE).tolist() == [4, 4]


def test_e05_one_nan_stands_before_the_target() -> None:
    """E05: a score that is not a number is never taken for a lower one."""
    score = np.array([[0.0, 9, np.nan, 7, 1], [0.0, np.nan, 5, 7, 1]])
    assert rank(score, np.array([1, 1]), NONE).tolist() == [1, 4]
