"""The training loop: windows in batches of like length, one loss, one cosine from first step to last."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.foresight import Foresight
from models.loss import Negatives, Space, next_item_loss
from models.network import Encoder
from models.options import Options
from models.parallel import add_gradients, processes, total
from models.sequences import Split, Steps, places
from stream.errors import UsageError

RATE_END: Final = 0.02  # share of the learning rate at the last step
WARM_UP: Final = 50  # steps
CLIP: Final = 5.0
LATE: Final = 0.75  # share of training after which `negatives_late` counts
RECENCY_LEAST: Final = 0.1  # chance that a window of any age is learnt from
PART: Final = 64  # windows of a batch that are padded to the longest of them; parts are sorted by length

Ints = NDArray[np.int64]


class Progress(NamedTuple):
    """After each step."""

    epoch: int  # from 1
    done: float  # share of all training, 0 to 1
    loss: float  # mean of the epoch so far
    last: bool  # of the epoch
    foreseen: float  # HR@10 on what is held out, after the epoch's last step; -1: not asked


@dataclass
class Best:
    """The weights that did best on what is held out."""

    hr: float = -1.0
    epoch: int = 0
    weights: dict[str, Tensor] | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """Some windows of a batch."""

    inputs: dict[str, Tensor]  # [windows, steps, ...]
    item: Tensor  # int64 [windows, steps], entries of Split.items; -1: padding
    target: Tensor  # int64 [windows, steps], 0: none


class Fit:
    """Trains an encoder in place, a step at each turn of :meth:`steps`."""

    def __init__(
        self, encoder: Encoder, split: Split, steps: Steps, options: Options, *, each_epoch: bool = False
    ) -> None:
        """`each_epoch`: ask what is held out after every epoch, even where it does not decide when to stop."""
        self.encoder, self.split, self.data, self.options = encoder, split, steps, options
        self.device = encoder.item_rows.weight.device
        self.chunks = split.chunks()
        self.space = Space.make(split.items, self.device)
        self.negatives = Negatives.make(split.nameable(), split.counts(), options.popularity)
        self.optimizer = torch.optim.AdamW(
            encoder.parameters(), lr=options.rate, weight_decay=options.weight_decay, fused=True
        )
        self.random = np.random.default_rng([options.seed, 6])
        self.drawn = torch.Generator().manual_seed(options.seed)
        self.foresight = Foresight.make(split, options.seed) if options.patience or each_epoch else None
        self.best = Best()
        self.epoch = 0
        self.keep = self._keep()
        self.expected = options.epochs * max(1, math.ceil(self.keep.sum() / options.batch))
        self.done = 0
        self.history: list[dict[str, float | None]] = []

    def steps(self) -> Iterator[Progress]:
        """Train from where it stands to the end; at the end of each epoch the state is whole and can be saved."""
        while self.epoch < self.options.epochs and not self._patience_is_over():
            self.encoder.train()
            summed, targets = 0.0, 0
            batches = self._batches()
            for number, chunks in enumerate(batches, start=1):
                loss, count = self._step(chunks)
                summed, targets = summed + loss, targets + count
                mean = summed / max(1, targets)
                if number < len(batches):
                    share = min(self.done / self.expected, (self.epoch + 1) / self.options.epochs)
                    yield Progress(self.epoch + 1, share, mean, False, -1.0)
            self.epoch += 1
            foreseen = self._foreseen()
            hr = round(foreseen, 4) if foreseen >= 0 else None
            self.history.append({"epoch": self.epoch, "loss": round(mean, 4), "hr@10": hr})
            yield Progress(self.epoch, self.epoch / self.options.epochs, mean, True, foreseen)
        if self.best.weights is not None:
            self.encoder.load_state_dict(self.best.weights)
        self.encoder.eval()

    def _keep(self) -> NDArray[np.float64]:
        """The chance that each chunk is learnt from in an epoch, float64 [chunks]; by its age among the others."""
        if not self.options.recency or not len(self.chunks):
            return np.ones(len(self.chunks))
        times = self.split.log.events["timestamp"][self.chunks[:, 2]]
        age = 1 - (np.searchsorted(np.sort(times), times, side="right") / len(times))
        keep: NDArray[np.float64] = RECENCY_LEAST + (1 - RECENCY_LEAST) * 0.5 ** (age / self.options.recency)
        return keep

    def _batches(self) -> list[Ints]:
        """This epoch's windows in batches, shuffled, and sorted by length within each.

        Batches of windows of like length would be faster still, and worse: each step would see short ones or long ones
        only (Beauty, HR@10 on validation .108 instead of .118).
        """
        chunks = self.chunks[self.random.random(len(self.chunks)) < self.keep]
        if self.options.crop:
            chunks = _cropped(chunks, self.options.crop, self.random)
        chunks = self.random.permutation(chunks)
        size = self.options.batch
        batches = [chunks[at : at + size] for at in range(0, len(chunks), size)]
        return [batch[np.argsort(batch[:, 2] - batch[:, 0], kind="stable")] for batch in batches]

    def _step(self, chunks: Ints) -> tuple[float, int]:
        """One step of the optimizer; the summed loss and the number of targets, of all processes together."""
        options, (rank, world) = self.options, processes()
        late = self.done >= LATE * self.expected and options.negatives_late
        wanted = len(self.negatives.pool) if options.loss == "full" else late or options.negatives
        negative, correction = (tensor.to(self.device) for tensor in self.negatives.draw(wanted, self.drawn))
        space = self._forgotten()
        parts = [self._part(part, rank, world) for part in np.array_split(chunks, -(-len(chunks) // PART))]
        for group in self.optimizer.param_groups:
            group["lr"] = options.rate * schedule(self.done, self.expected)
        self.done += 1
        count = total(float(sum(int((part.target > 0).sum()) for part in parts)), self.device)
        if not count:
            return 0.0, 0
        self.optimizer.zero_grad()
        summed = 0.0
        for part in parts:
            if not (part.target > 0).any():
                continue
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                loss = next_item_loss(
                    self.encoder,
                    self._inputs(part, space),
                    part.item,
                    part.target,
                    space,
                    negative,
                    correction,
                    temperature=options.temperature,
                    unseen=options.unseen,
                    pairs=options.loss == "bpr",
                )
            torch.autograd.backward(loss / count)
            summed += float(loss.detach())
        add_gradients(self.encoder)
        torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), CLIP)
        self.optimizer.step()
        return total(summed, self.device), int(count)

    def _part(self, chunks: Ints, rank: int, world: int) -> "Part":
        """This process's share of some windows; the random numbers are drawn for all of them, alike everywhere."""
        in_order, place = places(chunks), self.split.places(chunks, self.options.shuffle, self.random)
        chunks, in_order, place = chunks[rank::world], in_order[rank::world], place[rank::world]
        at = place[:, :-1]
        columns = self.data.inputs(at, in_order[:, :-1])
        return Part(
            inputs={name: torch.from_numpy(array).to(self.device) for name, array in columns.items()},
            item=torch.from_numpy(np.where(at >= 0, self.split.item[at], -1)).to(self.device),
            target=torch.from_numpy(self.split.targets(chunks, place)).to(self.device),
        )

    def _forgotten(self) -> Space:
        """Where items stand in this step: with codes, some as if the catalog lacked them, wherever they are."""
        if not self.options.item_dropout or not self.encoder.sizes.codes:
            return self.space
        lost = torch.rand(len(self.space.row), generator=self.drawn).to(self.device) < self.options.item_dropout
        return replace(self.space, row=torch.where(lost, self.coded(), self.space.row))

    def _inputs(self, part: "Part", space: Space) -> dict[str, Tensor]:
        """A part's inputs with some items taken for unknown, as new ones are when the model serves."""
        inputs, item = part.inputs, part.item
        if self.encoder.sizes.codes:
            return inputs | {"item_index": torch.where(item >= 0, space.row[item], 0)}
        lost = torch.rand(item.shape).to(self.device) < self.options.item_dropout
        return inputs | {"item_index": inputs["item_index"].masked_fill(lost, 0)}

    def coded(self) -> Tensor:
        """The row of each item if the catalog lacked it, int64 [items]."""
        hashes = self.split.items.hashes
        code = (hashes % np.uint64(self.encoder.sizes.codes**2)).astype(np.int64) + self.encoder.sizes.items
        return torch.from_numpy(np.where(hashes == 0, 0, code)).to(self.device)

    def _foreseen(self) -> float:
        if self.foresight is None:
            return -1.0
        hr = self.foresight.hr(self.encoder, self.data, self.space)
        if self.options.patience and hr > self.best.hr:
            weights = {name: tensor.clone() for name, tensor in self.encoder.state_dict().items()}
            self.best = Best(hr, self.epoch, weights)
        return hr

    def _patience_is_over(self) -> bool:
        return bool(self.options.patience) and self.epoch - self.best.epoch >= self.options.patience

    def save(self, path: Path) -> None:
        """Write all that is needed to go on, at once or not at all; not the random numbers of a GPU."""
        state: dict[str, Any] = {
            "options": repr(self.options),
            "encoder": self.encoder.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "done": self.done,
            "history": self.history,
            "best": vars(self.best),
            "random": self.random.bit_generator.state,
            "drawn": self.drawn.get_state(),
            "torch": torch.get_rng_state(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        torch.save(state, fresh)
        fresh.replace(path)

    def resume(self, path: Path) -> None:
        """Go on from what :meth:`save` wrote.

        Raises:
            UsageError: the file is damaged or of other options.
        """
        try:
            state = torch.load(path, weights_only=True, map_location=self.device)  # never runs code of the file
            fits = state["options"] == repr(self.options)
        except Exception as error:
            raise UsageError(
                f"{path}: expected a checkpoint, got: {str(error)[:200]}; remove it to begin anew"
            ) from error
        if not fits:
            raise UsageError(f"{path}: expected a checkpoint of the same options; remove it to begin anew")
        self.encoder.load_state_dict(state["encoder"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.done, self.history = state["epoch"], state["done"], state["history"]
        self.best = Best(**state["best"])
        self.random.bit_generator.state = state["random"]
        self.drawn.set_state(state["drawn"].cpu())
        torch.set_rng_state(state["torch"].cpu())


def schedule(step: int, steps: int) -> float:
    """Share of the learning rate: up over WARM_UP steps, then half a cosine down to RATE_END."""
    warm = min(1.0, (step + 1) / WARM_UP)
    down = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps))))
    return warm * (RATE_END + (1 - RATE_END) * down)


def _cropped(chunks: Ints, chance: float, random: np.random.Generator) -> Ints:
    """Some chunks cut in two at a random place, which each of both then has at its end or start; nothing is lost."""
    length = chunks[:, 2] - chunks[:, 0]
    cut = (random.random(len(chunks)) < chance) & (length >= 2)
    at = chunks[:, 0] + 1 + (random.random(len(chunks)) * (length - 1)).astype(np.int64)
    before, after = chunks[cut].copy(), chunks[cut].copy()
    before[:, 2] = at[cut]
    after[:, 0] = at[cut]
    after[:, 1] = np.maximum(after[:, 1], at[cut] + 1)
    both = np.concatenate([before, after])
    return np.concatenate([chunks[~cut], both[both[:, 1] <= both[:, 2]]])
