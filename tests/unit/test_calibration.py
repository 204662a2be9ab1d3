"""Probabilities mean what they say, over the catalog whole; a model that knows nothing is never given good figures."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models import calibration
from models.calibration import figures, fit, learn, measure, table
from models.labels import Acts, Examples, Sample, examples, nearest
from models.log import read
from models.prequential import go_through
from models.probability import HEADS
from stream.contract import EVENT_TYPES
from stream.errors import BundleError, UsageError
from stream.rules import Rules
from tests.bundles import random_bundle
from tests.logs import END_MS, shop_log

pytestmark = pytest.mark.torch  # scikit-learn comes with the same extra

HOUR_MS = 3_600_000


def unit(random: np.random.Generator, count: int, dim: int = 6) -> NDArray[np.float32]:
    """Vectors of unit length."""
    vectors = random.standard_normal((count, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def world(seed: int, moments: int, items: int, *, draws: int = 10_000, near: int = 0, knows: bool = True) -> Any:
    """Carts and favorites by a known law: a sample, item vectors, counts, and the probabilities [moments, items, 2].

    Of one that does not know, the vectors are not those that users act by.
    """
    fixed, random = np.random.default_rng(99), np.random.default_rng(seed)
    vectors, v = unit(fixed, items), unit(random, moments)
    vectors[0] = 0
    counts = np.append(0, fixed.pareto(1, items - 1).round())
    odds = 3 * (v @ vectors.T) + 0.5 * np.log1p(counts)
    truth = 1 / (1 + np.exp(-np.stack([odds - 4, 1.5 * odds - 6], axis=-1)))
    truth[:, 0] = 0
    did = random.random(truth.shape) < truth
    moment, item = np.nonzero(did.any(axis=-1))
    bits = did[moment, item] @ np.array([1 << EVENT_TYPES["cart"], 1 << EVENT_TYPES["favorite"]])
    told = v if knows else unit(random, moments)
    near_rows = nearest(told, vectors, near)
    known = examples(Acts(moment, item, bits.astype(np.uint8)), near_rows, counts, random, draws)
    return Sample(np.arange(moments), np.arange(moments), told, known, 0), vectors, counts, truth


def test_known_probabilities_are_found() -> None:
    """What is fitted on users who act by a known law gives other users and items theirs, and measures so."""
    first, items, counts, _ = world(1, 2_500, 60)
    second, _, _, truth = world(2, 2_500, 60)
    head = fit(first, items, counts, HOUR_MS)
    assert (["cart", "favorite"], HOUR_MS) == (head.types.tolist(), int(head.horizon_ms))
    found = head.of(second.vectors, items)
    assert 0.04 * truth.mean() > np.abs(found - truth).mean()

    said = measure(head, items, second)
    assert (1.0, 2_500, 59) == (said["horizon_hours"], said["moments"], said["catalog"])
    for place, name in enumerate(("cart", "favorite")):
        one = said[name]
        assert truth[:, 1:, place].mean() == pytest.approx(one["rate"], rel=0.05)
        assert one["ece_of_rate"] < 0.06
        assert one["log_loss"] < one["rate_log_loss"]
        assert 0.5 < one["popularity_auc"] < one["auc"]
        assert sum(share for *_, share in one["bins"]) == pytest.approx(1, abs=1e-3)
    head.check("what was fitted")


def test_a_sample_gives_the_probabilities_of_the_whole_catalog() -> None:
    """With 48 draws of 2,500 items, fitted and measured rates are those of all items, and heads are nearly the same."""
    whole, items, counts, truth = world(1, 250, 2_500)
    drawn, *_ = world(1, 250, 2_500, draws=48, near=16)
    assert 10 * len(drawn.examples.item) < len(whole.examples.item)
    one, other = (fit(known, items, counts, HOUR_MS) for known in (whole, drawn))
    found = [head.of(whole.vectors, items)[:, 1:] for head in (one, other)]
    for place, rate in enumerate(truth[:, 1:].mean(axis=(0, 1)).tolist()):
        assert rate == pytest.approx(found[1][..., place].mean(), rel=0.1)
        assert 0.1 * rate > np.abs(found[0][..., place] - found[1][..., place]).mean()
    exact, said = (measure(one, items, test) for test in (whole, drawn))
    for name in ("cart", "favorite"):
        assert exact[name]["negatives"] == pytest.approx(said[name]["negatives"], rel=0.05)
        for figure in ("rate", "predicted", "auc", "log_loss", "f1", "precision", "recall"):
            assert exact[name][figure] == pytest.approx(said[name][figure], rel=0.1), figure


def test_shuffled_labels_are_foreseen_by_nobody() -> None:
    """Labels dealt out anew, on both parts or on what is measured, give an AUC of about one half."""
    first, items, counts, _ = world(1, 2_500, 60)
    second, *_ = world(2, 2_500, 60)

    def shuffled(known: Sample) -> Sample:
        order = np.random.default_rng(0).permutation(len(known.examples.label))
        return replace(known, examples=replace(known.examples, label=known.examples.label[order]))

    for learnt in (first, shuffled(first)):
        said = measure(fit(learnt, items, counts, HOUR_MS), items, shuffled(second))
        for name in ("cart", "favorite"):
            assert 0.5 == pytest.approx(said[name]["auc"], abs=0.03)
            assert said[name]["log_loss"] >= 0.999 * said[name]["rate_log_loss"]


@pytest.mark.parametrize("value", ["another's", "one for all"])
def test_e05_vectors_that_say_nothing(value: str) -> None:
    """E05: the vectors of others, and one and the same for all, are no better than popularity, and calibrated still."""
    (first, items, counts, _), (second, *_) = (world(seed, 2_500, 60, knows=False) for seed in (1, 2))
    if value == "one for all":
        items = np.where(np.arange(60)[:, np.newaxis] > 0, items[1], 0).astype(np.float32)
    head = fit(first, items, counts, HOUR_MS)
    said = measure(head, items, second)
    for name in ("cart", "favorite"):
        assert said[name]["popularity_auc"] == pytest.approx(said[name]["auc"], abs=0.02)
        assert said[name]["predicted"] == pytest.approx(said[name]["rate"], rel=0.1)


@pytest.mark.parametrize(
    ("said", "auc", "ece"), [(0.0, 0.5, 0.25), (0.25, 0.5, 0.0), (1.0, 0.5, 0.75), (np.nan, 0.0, 1.0), (7.0, 0.0, 1.0)]
)
def test_e05_a_constant_or_no_number(said: float, auc: float, ece: float) -> None:
    """E05: one number for all tells nothing apart; what is no probability is as wrong as can be, all figures finite."""
    yes = np.arange(400) % 4 == 0
    found = figures(np.full(400, said), yes, np.ones(400), 0.2)
    assert (auc, ece) == (found["auc"], found["ece"])
    assert found["log_loss"] >= found["rate_log_loss"]
    assert np.isfinite([value for name, value in found.items() if name != "bins"]).all()
    assert found["f1"] <= 0.4
    if auc == 0:
        assert (0.0, 0.0, 0.0, 0.0) == (found["accuracy"], found["precision"], found["recall"], found["f1"])


def test_figures_by_hand() -> None:
    """Four kinds of example, weights 1 to 4: each figure as written down; weight 2 is the example twice."""
    probability, yes = np.array([0.9, 0.8, 0.6, 0.1]), np.array([True, False, True, False])
    weight = np.array([1.0, 2, 1, 4])
    found = figures(probability, yes, weight, 0.7)
    assert 0.25 == found["rate"]
    assert pytest.approx((0.9 + 1.6 + 0.6 + 0.4) / 8, rel=1e-3) == found["predicted"]
    assert pytest.approx((6 + 4) / 12, rel=1e-3) == found["auc"]
    assert (0.7, 0.75) == (found["threshold"], found["never"])
    assert pytest.approx((1 + 4) / 8) == found["accuracy"]
    assert (pytest.approx(1 / 3, rel=1e-3), 0.5, pytest.approx(0.4)) == (
        found["precision"],
        found["recall"],
        found["f1"],
    )
    assert (
        pytest.approx(-(np.log(0.9) + 2 * np.log(0.2) + np.log(0.6) + 4 * np.log(0.9)) / 8, rel=1e-3)
        == (found["log_loss"])
    )
    assert pytest.approx(-(2 * np.log(0.25) + 6 * np.log(0.75)) / 8, rel=1e-3) == found["rate_log_loss"]
    assert pytest.approx((0.1 + 2 * 0.8 + 0.4 + 4 * 0.1) / 8, rel=1e-3) == found["ece"]
    assert [[0.1, 0, 0.5], [0.6, 1, 0.125], [0.8, 0, 0.25], [0.9, 1, 0.125]] == found["bins"]
    often = np.repeat(np.arange(4), weight.astype(int))
    assert found == figures(probability[often], yes[often], np.ones(8), 0.7)


def test_bins_hold_as_much_each() -> None:
    """Fifteen bins of a calibrated model, by predicted acts: each as many, and as many came; the ECE is near 0."""
    random = np.random.default_rng(0)
    probability = random.random(60_000) ** 4
    found = figures(probability, random.random(60_000) < probability, np.ones(60_000), 0.5)
    predicted, observed, share = np.array(found["bins"]).T
    assert 15 == len(share)
    assert (np.diff(predicted) > 0).all()
    np.testing.assert_allclose(predicted * share, probability.mean() / 15, rtol=0.01)
    np.testing.assert_allclose(observed, predicted, rtol=0.15)
    assert found["ece"] < 0.006


def test_the_threshold_is_that_of_the_best_f1() -> None:
    """As trying every probability as a threshold, one by one, says; equal ones go together."""
    random = np.random.default_rng(0)
    probability = (random.integers(1, 40, 300) / 50).astype(np.float32)
    yes, weight = random.random(300) < probability, random.integers(1, 5, 300).astype(np.float64)
    f1 = {one: figures(probability.astype(np.float64), yes, weight, one)["f1"] for one in probability.tolist()}
    assert max(f1.values()) == f1[calibration._best(probability, yes, weight)]


def test_a_rare_act_is_fitted_as_well() -> None:
    """Where one pair in a million has the act, the fitted probabilities still add up to the acts there were."""
    known, items, counts, _ = world(1, 400, 60)
    weight = np.where(known.examples.label[:, HEADS.index("favorite")] == 1, 1.0, 20_000.0)
    rare = replace(known, examples=replace(known.examples, weight=weight))
    said = measure(fit(rare, items, counts, HOUR_MS), items, rare)["favorite"]
    assert said["rate"] < 2e-6
    assert said["rate"] == pytest.approx(said["predicted"], rel=1e-3)


def test_no_head_falls_with_the_cosine() -> None:
    """Of users who act on what is far from their vector, slopes are 0: the head is popularity's, and may be written."""
    known, items, counts, _ = world(1, 2_500, 60)
    head = fit(replace(known, vectors=-known.vectors), items, counts, HOUR_MS)
    head.check("here")
    assert not head.slopes.any()
    said = measure(head, items, replace(known, vectors=-known.vectors))
    for name in ("cart", "favorite"):
        assert said[name]["popularity_auc"] == pytest.approx(said[name]["auc"], abs=1e-3)
        assert said[name]["rate"] == pytest.approx(said[name]["predicted"], rel=1e-3)


def test_too_few_acts_give_no_head() -> None:
    """A type that hardly anyone did is not guessed at; with none there is no head, and nothing to tell."""
    known, items, counts, _ = world(1, 400, 60)
    label = known.examples.label.copy()
    liked = np.flatnonzero(label[:, HEADS.index("favorite")] == 1)
    label[liked[29:], HEADS.index("favorite")] = 0
    few = replace(known, examples=replace(known.examples, label=label))
    assert ["cart"] == fit(few, items, counts, HOUR_MS).types.tolist()
    label[liked] = np.where(known.examples.item[liked, np.newaxis] <= 20, known.examples.label[liked], 0)
    again = replace(known, user=np.zeros_like(known.user), examples=replace(known.examples, label=label))
    assert 30 <= (label[:, HEADS.index("favorite")] == 1).sum()  # of one user, and 20 items at most
    assert ["cart"] == fit(again, items, counts, HOUR_MS).types.tolist()
    nothing = replace(known, examples=replace(known.examples, label=np.zeros_like(label)))
    head = fit(nothing, items, counts, HOUR_MS)
    head.check("here")
    assert ([], 4) == (head.types.tolist(), len(measure(head, items, known)))


def test_an_act_that_nobody_did_in_the_test() -> None:
    """Only counts are told, and the table has dashes."""
    known, items, counts, _ = world(1, 400, 60)
    test = replace(known, examples=replace(known.examples, label=np.zeros_like(known.examples.label)))
    found = measure(fit(known, items, counts, HOUR_MS), items, test)
    assert {"positives": 0, "users": 0, "negatives": 400 * 59, "left_out": 0} == found["cart"]
    assert "| cart | 0 | 0 | – |" in "\n".join(table(found))


def test_e05_vectors_that_are_no_number_are_not_fitted() -> None:
    """E05: told, rather than fitted around."""
    known, items, counts, _ = world(1, 50, 60)
    vectors = known.vectors.copy()
    vectors[7] = np.nan
    with pytest.raises(BundleError, match="expected a model whose vectors are finite"):
        fit(replace(known, vectors=vectors), items, counts, HOUR_MS)


def test_of_a_log(tmp_path: Path) -> None:
    """From a shop's log to figures: the same by the same seed; tested on what comes after."""
    log = read(shop_log(tmp_path / "log", events=6_000, users=150))
    names = sorted(log.names.items)
    bundle = random_bundle(
        tmp_path / "b", item_ids=names, item_categories=[log.names.category_of[name] for name in names], dim=8, hidden=8
    )
    item, time = bundle.features.items.find(log.events["item"]), log.events["timestamp"]
    begin = END_MS - 96 * HOUR_MS
    before = go_through(log, bundle, Rules(50, 25, 30 * 24 * HOUR_MS, 90 * 24 * HOUR_MS), time >= begin)
    when = {"begin_ms": begin, "end_ms": END_MS, "seed": 0}
    head, test = learn(log, item, bundle.items, before, horizon_ms=24 * HOUR_MS, **when)
    again, _ = learn(log, item, bundle.items, before, horizon_ms=24 * HOUR_MS, **when)
    for name, array in head.arrays().items():
        np.testing.assert_array_equal(array, again.arrays()[name])
    assert {"click", "cart", "purchase"} <= set(head.types.tolist())
    assert END_MS - 48 * HOUR_MS <= time[test.place].min()
    assert time[test.place].max() <= END_MS - 24 * HOUR_MS
    count = np.bincount(item[time < begin], minlength=len(bundle.items))
    np.testing.assert_allclose(count[1:], np.expm1(head.popularity[1:]), rtol=1e-4, atol=1e-4)

    found = measure(head, bundle.items, test)
    lines = table(found)
    assert "within 24 hours" in lines[0]
    for name in head.types.tolist():
        assert 0.3 < found[name]["auc"] < 0.8  # of weights at random: about popularity's
        assert any(line.startswith(f"| {name} | {found[name]['positives']:,} |") for line in lines)
    with pytest.raises(UsageError, match="expected over 96 hours held out"):
        learn(log, item, bundle.items, before, horizon_ms=48 * HOUR_MS, **when)


def test_an_empty_sample() -> None:
    """An empty sample has no figures, rather than ones of nothing."""
    none = np.zeros(0, np.int64)
    empty = Examples(none, none, np.zeros((0, 4), np.int8), np.zeros(0))
    sample = Sample(none, none, np.zeros((0, 6), np.float32), empty, 3)
    known, items, counts, _ = world(1, 400, 60)
    found = measure(fit(known, items, counts, HOUR_MS), items, sample)
    assert (0, 3) == (found["moments"], found["without_history"])
    assert {"positives": 0, "users": 0, "negatives": 0, "left_out": 0} == found["cart"]
