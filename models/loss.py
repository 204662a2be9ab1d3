"""What training makes small: how far the next item is from standing above all others."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.network import Encoder
from models.sequences import Items

UNIFORM: Final = 0.1  # share of negatives that is drawn from all items alike, so that the rare ones are known as wrong


@dataclass(frozen=True, eq=False)
class Negatives:
    """Items that can be wrong, and how they are drawn."""

    pool: Tensor  # int64 [pool], entries of Items
    chance: Tensor  # float64 [pool], of each at one draw
    ends: Tensor  # float64 [pool], the chances added up

    @classmethod
    def make(cls, nameable: NDArray[np.bool_], counts: NDArray[np.int64], popularity: float) -> "Negatives":
        """Of Split.nameable and Split.counts: a share UNIFORM of all alike, the rest by count^popularity; 0: alike."""
        pool = np.flatnonzero(nameable)
        alike = np.full(len(pool), 1 / len(pool))
        weight = counts[pool].astype(np.float64) ** popularity * (counts[pool] > 0)
        chance = UNIFORM * alike + (1 - UNIFORM) * weight / weight.sum() if popularity and weight.any() else alike
        return cls(torch.from_numpy(pool), torch.from_numpy(chance), torch.from_numpy(chance.cumsum()))

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Items int64 [n], and what is added to their scores so that their sum stands for all; float [n].

        A sampled softmax: each is taken for as many items as it would be drawn once for (Bengio 2003, equation 6). A
        pool that is not larger than `count` is taken whole.
        """
        if len(self.pool) <= count:
            return self.pool, torch.zeros(len(self.pool))
        at = torch.rand(count, generator=generator, dtype=torch.float64) * self.ends[-1]
        drawn = torch.searchsorted(self.ends, at).clamp(max=len(self.pool) - 1)
        return self.pool[drawn], -torch.log(count * self.chance[drawn]).float()


@dataclass(frozen=True, eq=False)
class Space:
    """Where the items stand in one step: their rows in the network, and their categories'."""

    row: Tensor  # int64 [items]
    category: Tensor  # int64 [items]

    @classmethod
    def make(cls, items: Items, device: torch.device) -> "Space":
        """As the graph will have them."""
        return cls(torch.from_numpy(items.row).to(device), torch.from_numpy(items.category).to(device))


def next_item_loss(
    encoder: Encoder,
    inputs: dict[str, Tensor],
    item: Tensor,
    target: Tensor,
    space: Space,
    negative: Tensor,
    correction: Tensor,
    *,
    temperature: float,
    unseen: bool = False,
    pairs: bool = False,
) -> Tensor:
    """Summed loss of the next item against negatives at every step that has a target.

    Cross-entropy of a softmax over the target and the negatives, or with `pairs` the mean of -log σ(target - negative)
    (BPR, Rendle 2009). A target among the negatives is left out, and with `unseen` every item that the window held up
    to the step: what a user has had is not a wrong answer then.

    Args:
        item: int64 [batch, steps], entries of Items; -1: padding.
        target: int64 [batch, steps], 0: none.
        negative, correction: of Negatives.draw.
    """
    there = target > 0  # [batch, steps]
    u = encoder.vectors(inputs)[there]  # [targets, dim]
    right = target[there]  # [targets]
    against = u @ encoder.item_vectors(space.row[negative], space.category[negative]).T / temperature
    against = against + correction  # [targets, negatives]
    wrong = negative == right.unsqueeze(-1)
    if unseen:
        wrong = wrong | _had(item, there, negative)
    wanted = (u * encoder.item_vectors(space.row[right], space.category[right])).sum(-1, keepdim=True) / temperature
    if pairs:
        worse = torch.nn.functional.softplus(against - wanted).masked_fill(wrong, 0.0)
        return (worse.sum(-1) / (~wrong).sum(-1).clamp(min=1)).sum()
    against = against.masked_fill(wrong, -math.inf)
    return (torch.logsumexp(torch.cat([wanted, against], dim=-1), dim=-1) - wanted[:, 0]).sum()


def _had(item: Tensor, there: Tensor, negative: Tensor) -> Tensor:
    """Which negatives the window held up to each step with a target, bool [targets, negatives].

    Negatives are few beside all items, so most of a window is not among them: only those that are get written.
    """
    order = negative.argsort()
    ordered = negative[order].contiguous()
    low, high = torch.searchsorted(ordered, item), torch.searchsorted(ordered, item, right=True)
    number = there.flatten().cumsum(0).view_as(there) - 1  # of the target, in each step that has one
    had = torch.zeros(int(there.sum()), len(negative), dtype=torch.bool, device=item.device)
    row, step = torch.nonzero(high > low, as_tuple=True)
    steps = torch.arange(item.shape[1], device=item.device)
    later = there[row] & (steps >= step.unsqueeze(-1))  # [hits, steps]
    hit, at = torch.nonzero(later, as_tuple=True)
    low, count = low[row, step][hit], (high - low)[row, step][hit]  # an item may have been drawn more than once
    offset = torch.arange(int(count.sum()), device=item.device) - (count.cumsum(0) - count).repeat_interleave(count)
    column = order[low.repeat_interleave(count) + offset]
    had[number[row[hit], at].repeat_interleave(count), column] = True
    return had
