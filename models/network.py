"""The encoder in PyTorch: what an event looks like, an LSTM over them, and a vector among the items' vectors."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

TEMPERATURE: Final = 0.07
ITEM_DROPOUT: Final = 0.1  # an item taken for unknown in training, so that its category alone says something
DROPOUT: Final = 0.2
# Lower edges of the gap's rows, s: -1 (the first event) is row 0, under a second row 1, then powers of two to 48 days.
# Comparisons, not logarithms: those differ in the last bit between libraries, and gaps are often whole seconds.
GAP_EDGES: Final = (0.0, *(2.0**power for power in range(23)))
#: What is made of each scalar input: the value it has at least if there is one, and a scale that brings it near 1.
SCALARS: Final = {"price": (0.0, 0.1), "quantity": (0.0, 0.25), "rating": (1.0, 0.2)}


@dataclass(frozen=True)
class Sizes:
    """Rows and widths of the network."""

    inputs: tuple[str, ...]  # of features.INPUTS, without `length`; always with item_index, event_type and gap
    items: int  # with row 0
    categories: int  # with row 0
    types: int
    text: int
    dim: int
    hidden: int
    decays: tuple[float, ...] = ()  # one mean of the inputs each, in which every step back counts so much less

    @property
    def states(self) -> dict[str, int]:
        """What is carried from step to step, and how wide it is: the LSTM's, then sum and weight of each mean."""
        means = {
            name: width for k in range(len(self.decays)) for name, width in ((f"sum_{k}", self.dim), (f"weight_{k}", 1))
        }
        return {"hidden": self.hidden, "cell": self.hidden, **means}


class Encoder(nn.Module):
    """u = normalise(W h + R x + Σ S m): h the LSTM's output over the inputs x, x the last one, m their means.

    A mean with decay γ is s / n, s ← γ s + x, n ← γ n + 1: with γ = 1 of all events of the window, below of the latest.
    x = √dim · (E[item] + A[category] + G[gap] + T[type] + S scalars + K text), an item's vector is normalise(E + A).
    Row 0 of E and A is zero and stays so: what is unknown says nothing.
    """

    item_category: Tensor  # int64 [items]
    gap_edges: Tensor

    def __init__(self, sizes: Sizes, item_category: Tensor) -> None:
        super().__init__()
        dim = sizes.dim
        self.sizes = sizes
        self.scalars = tuple(name for name in SCALARS if name in sizes.inputs)
        self.item_rows = nn.Embedding(sizes.items, dim, padding_idx=0)
        self.category_rows = nn.Embedding(sizes.categories, dim, padding_idx=0)
        self.type_rows = nn.Embedding(sizes.types, dim)
        self.gap_rows = nn.Embedding(len(GAP_EDGES) + 1, dim)
        self.scalar = nn.Linear(2 * max(1, len(self.scalars)), dim, bias=False)
        self.text = nn.Linear(max(1, sizes.text), dim, bias=False)
        self.lstm = nn.LSTM(dim, sizes.hidden, batch_first=True)
        self.head = nn.Linear(sizes.hidden, dim)
        self.skip = nn.Linear(dim, dim, bias=False)
        mean_skips = [nn.Linear(dim, dim, bias=False) for _ in sizes.decays]
        self.mean_skips = nn.ModuleList(mean_skips)
        for table in (self.item_rows, self.category_rows):
            nn.init.normal_(table.weight, std=dim**-0.5)
        for table in (self.type_rows, self.gap_rows):
            nn.init.normal_(table.weight, std=0.1 * dim**-0.5)
        nn.init.eye_(self.skip.weight)
        for mean_skip in mean_skips:
            nn.init.eye_(mean_skip.weight)
            mean_skip.weight.data *= 0.5
        with torch.no_grad():
            self.item_rows.weight[0] = 0
            self.category_rows.weight[0] = 0
        self.register_buffer("item_category", item_category, persistent=False)
        self.register_buffer("gap_edges", torch.tensor(GAP_EDGES), persistent=False)

    def event(self, inputs: dict[str, Tensor]) -> Tensor:
        """What each event looks like, float [batch, steps, dim]."""
        item = inputs["item_index"]
        if self.training:
            item = item.masked_fill(torch.rand(item.shape) < ITEM_DROPOUT, 0)
        x: Tensor = self.item_rows(item) + self.type_rows(inputs["event_type"])
        x = x + self.gap_rows((inputs["gap"].unsqueeze(-1) >= self.gap_edges).sum(-1))
        if "category_index" in inputs:
            x = x + self.category_rows(inputs["category_index"])
        if self.scalars:
            columns = []
            for name in self.scalars:
                least, scale = SCALARS[name]
                there = (inputs[name] >= least).float()
                columns += [there, inputs[name] * there * scale]
            x = x + self.scalar(torch.stack(columns, dim=-1))
        if "text" in inputs:
            x = x + self.text(inputs["text"])
        scaled: Tensor = x * self.sizes.dim**0.5
        return scaled

    def vectors(self, inputs: dict[str, Tensor]) -> Tensor:
        """The vector after each event of a window from its start, float [batch, steps, dim]; for training."""
        x = functional.dropout(self.event(inputs), DROPOUT, self.training)
        h, _ = self.lstm(x)
        steps = torch.arange(x.shape[1])
        back = (steps[:, None] - steps).float()  # [steps, steps], how far each lies before; below 0: after
        means = []
        for decay in self.sizes.decays:
            weight = torch.where(back >= 0, decay ** back.clamp(min=0), 0.0)
            means.append(weight @ x / weight.sum(-1, keepdim=True))
        return self._vector(functional.dropout(h, DROPOUT, self.training), x, means)

    def forward(self, inputs: dict[str, Tensor], length: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """What the graph computes: `vector` [batch, dim], and the states after `length` steps, as `Sizes.states`."""
        hidden, cell, *kept = states
        x = self.event(inputs)
        packed = nn.utils.rnn.pack_padded_sequence(x, length.long(), batch_first=True, enforce_sorted=False)
        _, (hidden, cell) = self.lstm(packed, (hidden.unsqueeze(0), cell.unsqueeze(0)))
        last = x[torch.arange(len(x)), length.long() - 1]  # [batch, dim]
        back = (length.long() - 1).unsqueeze(-1) - torch.arange(x.shape[1])  # [batch, steps], below 0: padding
        means, after = [], []
        for decay, total, count in zip(self.sizes.decays, kept[::2], kept[1::2], strict=True):
            weight = torch.where(back >= 0, decay ** back.clamp(min=0).float(), 0.0)
            past = decay ** length.float().unsqueeze(-1)
            total = total * past + (weight.unsqueeze(1) @ x).squeeze(1)
            count = count * past + weight.sum(-1, keepdim=True)
            means.append(total / count)
            after += [total, count]
        return self._vector(hidden[0], last, means), hidden[0], cell[0], *after

    def item_vectors(self, rows: Tensor) -> Tensor:
        """Vectors of unit length of the items `rows`, float [..., dim]; zeros for an item without any weight."""
        return functional.normalize(self.item_rows(rows) + self.category_rows(self.item_category[rows]), dim=-1)

    def _vector(self, h: Tensor, x: Tensor, means: list[Tensor]) -> Tensor:
        u = self.head(h) + self.skip(x)
        for mean_skip, mean in zip(self.mean_skips, means, strict=True):
            u = u + mean_skip(mean)
        return functional.normalize(u, dim=-1)
