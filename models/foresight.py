"""How well what is held out is foreseen while training goes on, by the network itself."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.evaluation import rank
from models.loss import Space
from models.network import Encoder
from models.sequences import VALIDATION, Split, Steps, places

TOP = 10
BLOCK = 128  # windows
QUESTIONS_MAX = 10_000


@dataclass(frozen=True, eq=False)
class Foresight:
    """The validation events of a split, asked in the windows before them."""

    split: Split
    chunks: NDArray[np.int64]  # [chunks, 3]
    left_out: NDArray[np.bool_]  # [items], those that cannot be named

    @classmethod
    def make(cls, split: Split, seed: int) -> "Foresight":
        """At most QUESTIONS_MAX events, in whole windows drawn at random."""
        chunks = np.random.default_rng([seed, 8]).permutation(split.chunks(VALIDATION))
        within = np.cumsum(chunks[:, 2] - chunks[:, 1] + 1) <= QUESTIONS_MAX
        return cls(split, chunks[within], ~split.nameable())

    def had(self, place: NDArray[np.int64], target: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which events, at `place`, are of an item that the user had at any time before, bool [windows, steps]."""
        split = self.split
        had = np.zeros(target.shape, bool)
        for row, step in np.argwhere(target > 0).tolist():
            end = int(place[row, step])
            had[row, step] = split.item[end] in split.item[split.log.starts[split.user[end]] : end]
        return had

    def hr(self, encoder: Encoder, data: Steps, space: Space) -> float:
        """HR@10 of the events that have a window before them, all ties against us; 0 if there is none."""
        split, hits, asked = self.split, 0, 0
        encoder.eval()
        with torch.no_grad():
            every = encoder.item_vectors(space.row, space.category)
            for start in range(0, len(self.chunks), BLOCK):
                chunks = self.chunks[start : start + BLOCK]
                place = places(chunks)
                target = split.targets(chunks, place)
                if split.unseen:
                    target = np.where(self.had(place[:, 1:], target), 0, target)
                there = np.nonzero(target)
                inputs = {
                    name: torch.from_numpy(array).to(every.device) for name, array in data.inputs(place[:, :-1]).items()
                }
                score = (encoder.vectors(inputs)[there] @ every.T).float().cpu().numpy()
                left_out = np.repeat(self.left_out[None], len(score), axis=0)
                if split.unseen:
                    for row, end in enumerate(place[:, 1:][there].tolist()):
                        left_out[row, split.item[split.log.starts[split.user[end]] : end]] = True
                found = rank(score, target[there], left_out)
                hits += int(((found < TOP) & ~self.left_out[target[there]]).sum())
                asked += len(found)
        return hits / max(1, asked)
