"""The loss: what is wrong, what is not, and that a batch can be learnt by heart."""

from typing import Any

import numpy as np
import pytest

from models.sequences import Items
from tests.unit.test_network import encoder_of, inputs_of

pytestmark = pytest.mark.torch


def items_of() -> Items:
    """Forty items that a catalog has, with row 0, and two that only a log has, told apart by codes."""
    rows = np.append(np.arange(40), [40, 47])
    return Items(rows.astype(np.uint64), rows, np.append(np.zeros(40, np.int64), [1, 2]), 40)


def tensors_of(batch: int, steps: int) -> dict[str, Any]:
    """Random inputs, as tensors."""
    import torch

    return {name: torch.from_numpy(array) for name, array in inputs_of(batch, steps).items() if name != "length"}


def loss_of(encoder: Any, tensors: dict[str, Any], target: Any, **how: Any) -> Any:
    """The summed loss against all items."""
    import torch

    from models.loss import Negatives, Space, next_item_loss

    items = items_of()
    named = np.arange(42) > 0
    negatives = Negatives.make(named, np.ones(42, np.int64), 0.0)
    negative, correction = negatives.draw(100, torch.Generator())
    item = torch.where(tensors["item_index"] < 40, tensors["item_index"], 40)
    space = Space.make(items, torch.device("cpu"))
    return next_item_loss(encoder, tensors, item, target, space, negative, correction, temperature=0.07, **how)


@pytest.mark.parametrize("pairs", [False, True])
def test_overfits_one_batch(pairs: bool) -> None:
    """A dozen windows are learnt by heart, by softmax and by pairs: loss and gradients are right."""
    import torch

    encoder, tensors = encoder_of(), tensors_of(12, 6)
    target = torch.from_numpy(np.random.default_rng(2).integers(1, 42, (12, 6)))
    optimizer = torch.optim.Adam(encoder.parameters(), lr=0.02)
    losses = []
    for _ in range(200):
        loss = loss_of(encoder, tensors, target, pairs=pairs) / 72
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.05 < 0.5 < losses[0]


def test_a_seen_item_is_not_a_wrong_answer() -> None:
    """With `unseen`, the target and what the window held are left out: with nothing left to be wrong, the loss is 0."""
    import torch

    encoder, tensors = encoder_of(), tensors_of(1, 41)
    tensors["item_index"] = torch.arange(1, 42)[None]
    target = torch.zeros(1, 41, dtype=torch.int64)
    with torch.no_grad():
        for step, right in ((40, 7), (39, 41), (38, 41), (0, 5)):
            target[:] = 0
            target[0, step] = right
            known = min(step + 1, 40)  # items 40 and 41 are one entry here, the window's last two
            loss = float(loss_of(encoder, tensors, target, unseen=True))
            assert (loss == pytest.approx(0, abs=1e-6)) == (set(range(1, 42)) <= {*range(1, known + 1), right, 0})
            assert float(loss_of(encoder, tensors, target)) > 0


def test_what_a_window_had_is_found_among_negatives() -> None:
    """Each step leaves out what came up to it, however often it was drawn; padding leaves out nothing."""
    import torch

    from models.loss import _had

    item = torch.tensor([[3, 5, 3, 9], [7, 3, -1, -1]])
    there = torch.tensor([[True, False, True, True], [False, True, False, False]])
    negative = torch.tensor([9, 3, 7, 3, 1])
    expected = [
        [False, True, False, True, False],
        [False, True, False, True, False],
        [True, True, False, True, False],
        [False, True, True, True, False],
    ]
    assert expected == _had(item, there, negative).tolist()


def test_drawn_negatives_stand_for_all() -> None:
    """The sum of exp(correction) over the draws is near the number of items, whatever they are drawn by."""
    import torch

    from models.loss import Negatives

    counts = np.random.default_rng(0).integers(0, 1000, 5000)
    named = np.arange(5000) > 0
    for power in (0.0, 0.5, 1.0):
        negatives = Negatives.make(named, counts, power)
        assert 1 == pytest.approx(float(negatives.chance.sum()))
        drawn, correction = negatives.draw(4000, torch.Generator().manual_seed(1))
        assert 4999 == pytest.approx(float(correction.exp().sum()), rel=0.2)
        assert 0 < int(drawn.min()) <= int(drawn.max()) < 5000
        popular = counts[drawn.numpy()].mean() / counts[1:].mean()
        assert (power == 0) == (0.95 < popular < 1.05)


def test_few_items_are_taken_whole() -> None:
    """A pool that is not larger than the draw is what it is, and nothing is corrected."""
    import torch

    from models.loss import Negatives

    negatives = Negatives.make(np.array([False, True, False, True]), np.array([0, 5, 0, 0]), 0.5)
    drawn, correction = negatives.draw(2, torch.Generator())
    assert [1, 3] == drawn.tolist()
    assert [0, 0] == correction.tolist()
