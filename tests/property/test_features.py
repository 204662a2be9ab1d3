"""Batching, padding and stepping never change what an event looks like to the graph."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bundle import Bundle, Windows, run, session, zero_states
from models.features import text_tokens
from models.golden import stepped, whole
from stream import contract
from tests.bundles import random_bundle, random_windows

ITEMS = [f"item {number}" for number in range(30)]
CATEGORIES = [f"category {number % 7}" if number % 5 else "" for number in range(30)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A random model."""
    folder: Path = tmp_path_factory.mktemp("bundles") / "random"
    return random_bundle(folder, item_ids=ITEMS, item_categories=CATEGORIES)


def windows(lengths: list[int], seed: int) -> Windows:
    """Random windows of the given lengths."""
    return random_windows(ITEMS, CATEGORIES, lengths=lengths, random=np.random.default_rng(seed))


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_steps_are_the_windows_columns(bundle: Bundle, lengths: list[int], seed: int) -> None:
    """The inputs of one step, told the previous time, are that column of the whole window's."""
    some = windows(lengths, seed)
    together = some.inputs(bundle.features)
    for step in range(max(lengths)):
        rows = np.flatnonzero(some.length > step)
        for name, alone in some.step_inputs(bundle.features, step, rows).items():
            if name != "length":
                np.testing.assert_array_equal(together[name][rows, step], alone[:, 0], err_msg=name)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_i04_padding_says_nothing(bundle: Bundle, lengths: list[int], seed: int) -> None:
    """I04: whatever lies in padded steps, the inputs are the same."""
    some = windows(lengths, seed)
    junk = np.random.default_rng(seed).bytes(some.events.nbytes)
    padded = np.arange(some.events.shape[1]) >= some.length[:, None]
    other = np.frombuffer(junk, contract.EVENT_DTYPE).reshape(some.events.shape)
    soiled = Windows(
        np.where(padded, other, some.events),
        np.where(padded, 0, some.text_row).astype(np.int32),
        some.tokens,
        some.length,
    )
    if not len(some.tokens):
        soiled = Windows(soiled.events, some.text_row, some.tokens, some.length)
    clean = some.inputs(bundle.features)
    for name, array in soiled.inputs(bundle.features).items():
        np.testing.assert_array_equal(clean[name], array, err_msg=name)


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_p1_stepping_is_running_whole(bundle: Bundle, lengths: list[int], seed: int) -> None:
    """P1: one event at a time with carried states gives the whole window's vector within 1e-5."""
    graph, some = session(bundle), windows(lengths, seed)
    once = whole(graph, bundle.signature, bundle.features, some)
    np.testing.assert_allclose(once, stepped(graph, bundle.signature, bundle.features, some), atol=1e-5)


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=2, max_size=6), st.integers(0, 2**32 - 1))
def test_i09_rows_are_as_if_alone(bundle: Bundle, lengths: list[int], seed: int) -> None:
    """I09: mixed lengths in one call, padded to the longest: each row as without the others and without padding."""
    graph, some = session(bundle), windows(lengths, seed)
    together = whole(graph, bundle.signature, bundle.features, some)
    for row, length in enumerate(lengths):
        alone = Windows(some.events[[row], :length], some.text_row[[row], :length], some.tokens, some.length[[row]])
        np.testing.assert_allclose(
            together[[row]], whole(graph, bundle.signature, bundle.features, alone), atol=1e-5, err_msg=f"row {row}"
        )


def test_i15_a_nan_stays_in_its_row(bundle: Bundle) -> None:
    """I15: one NaN price changes no other row's vector, and a batch of nothing makes no call."""
    some = windows([3, 3, 3], 0)
    inputs, graph = some.inputs(bundle.features), session(bundle)
    clean, _ = run(graph, bundle.signature, inputs, zero_states(bundle.signature, 3))
    inputs["price"][1, 1] = np.nan
    vector, _ = run(graph, bundle.signature, inputs, zero_states(bundle.signature, 3))
    np.testing.assert_allclose(vector[[0, 2]], clean[[0, 2]], atol=1e-5)
    none, states = run(graph, bundle.signature, windows([], 0).inputs(bundle.features), {})
    assert (none.shape, states) == ((0, bundle.dim), {})


@given(st.text(max_size=300))
def test_tokens_are_bounded_and_distinct(text: str) -> None:
    """Any text: at most 64 distinct non-zero 32-bit numbers, the same each time, whatever stands after a space."""
    tokens = text_tokens(text)
    assert contract.TEXT_MAX_TOKENS >= len(tokens) == len(set(tokens))
    assert all(0 < token < 2**32 for token in tokens)
    assert tokens == text_tokens(text) == text_tokens(text + " ")
