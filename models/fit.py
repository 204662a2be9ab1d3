"""The training loop: sampled softmax over the next item, one cosine from first step to last."""

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.features import Features
from models.network import TEMPERATURE, Encoder
from models.sequences import Split, windows

BATCH: Final = 64  # windows
NEGATIVES: Final = 1024  # drawn anew each step and shared by the batch; a smaller catalog is taken whole
LEARNING_RATE: Final = 5e-3
LEARNING_RATE_END: Final = 0.02  # share of it at the last step
WARM_UP: Final = 50  # steps
CLIP: Final = 5.0


class Progress(NamedTuple):
    """After each step."""

    epoch: int  # from 1
    done: float  # share of all training, 0 to 1
    loss: float  # mean of the epoch so far
    last: bool  # of the epoch


def fit(encoder: Encoder, split: Split, features: Features, *, epochs: int, seed: int) -> Iterator[Progress]:
    """Train `encoder` in place, a step at each turn of the iterator. Random numbers are PyTorch's and of `seed`."""
    random = np.random.default_rng([seed, 6])
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    steps_an_epoch = math.ceil(len(split.chunks(np.random.default_rng(0))) / BATCH)
    done, expected = 0, epochs * steps_an_epoch
    encoder.train()
    for epoch in range(1, epochs + 1):
        chunks = split.chunks(random)
        batches = math.ceil(len(chunks) / BATCH)
        total, positions = 0.0, 0
        for number in range(batches):
            runs = chunks[number * BATCH : (number + 1) * BATCH]
            window = windows(split.log, runs)
            inputs = {name: torch.from_numpy(array) for name, array in window.inputs(features).items()}
            target = torch.from_numpy(split.targets(runs, window.events.shape[1]))
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * schedule(done, expected)
            count = int((target > 0).sum())
            if count:
                loss = next_item_loss(encoder, inputs, target)
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                torch.nn.utils.clip_grad_norm_(encoder.parameters(), CLIP)
                optimizer.step()
                total, positions = total + float(loss.detach()) * count, positions + count
            done = min(done + 1, expected)
            last = number == batches - 1
            share = epoch / epochs if last else min(done / expected, epoch / epochs)
            yield Progress(epoch, share, total / max(1, positions), last)
    encoder.eval()


def schedule(step: int, steps: int) -> float:
    """Share of the learning rate: up over WARM_UP steps, then half a cosine down to LEARNING_RATE_END."""
    warm = min(1.0, (step + 1) / WARM_UP)
    down = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps))))
    return warm * (LEARNING_RATE_END + (1 - LEARNING_RATE_END) * down)


def next_item_loss(encoder: Encoder, inputs: dict[str, Tensor], target: Tensor) -> Tensor:
    """Mean cross-entropy of the next item among negatives at every step that has a target.

    Negatives are uniform and shared; their terms are scaled by how many items each stands for. A target among them and
    every item that the window held up to the step are left out: what a user has seen is not a wrong answer.
    """
    items = encoder.sizes.items
    every = items - 1 <= NEGATIVES
    negative = torch.arange(1, items) if every else torch.randint(1, items, (NEGATIVES,))  # [negatives]
    there = target > 0  # [batch, steps]
    u = encoder.vectors(inputs)[there]  # [targets, dim]
    right = target[there]  # [targets]
    against = u @ encoder.item_vectors(negative).T / TEMPERATURE  # [targets, negatives]
    against = against + math.log((items - 1) / len(negative))
    seen = (inputs["item_index"].unsqueeze(-1) == negative).cummax(dim=1).values[there]  # [targets, negatives]
    against = against.masked_fill(seen | (negative == right.unsqueeze(-1)), -math.inf)
    wanted = (u * encoder.item_vectors(right)).sum(-1, keepdim=True) / TEMPERATURE  # [targets, 1]
    return (torch.logsumexp(torch.cat([wanted, against], dim=-1), dim=-1) - wanted[:, 0]).mean()
