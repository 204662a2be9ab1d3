"""The network in PyTorch: what an event looks like, an encoder over them, and a vector among the items' vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.cores import make

# Lower edges of the gap's rows, s: -1 (the first event) is row 0, under a second row 1, then powers of two to 4 years.
# Comparisons, not logarithms: those differ in the last bit between libraries, and gaps are often whole seconds.
GAP_EDGES: Final = (0.0, *(2.0**power for power in range(28)))
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
    encoder: str = "lstm"
    codes: int = 0  # rows of signs; their square is how many items that the catalog lacks are told apart


@dataclass(frozen=True, eq=False)
class About:
    """What is known of items beside their rows; the last entry of `attributes` ends with that item's."""

    category: Tensor  # int64 [items]
    attributes: Tensor  # int64 [links], rows of attributes, those of an item together, in the order of items
    attribute_starts: Tensor  # int64 [items], where each item's begin
    attribute_count: int
    text: Tensor  # float [items, text], mean of an item's reviews; zeros for none

    @classmethod
    def make(cls, category: Tensor, attributes: Sequence[Sequence[int]] = (), text: Tensor | None = None) -> "About":
        """Of each item's category, rows of attributes, and mean text."""
        counts = torch.tensor([len(one) for one in attributes] or [0] * len(category))
        links = torch.tensor([row for one in attributes for row in one], dtype=torch.int64)
        return cls(
            category=category,
            attributes=links,
            attribute_starts=counts.cumsum(0) - counts,
            attribute_count=int(links.max()) + 1 if len(links) else 0,
            text=torch.zeros(len(category), 0) if text is None else text,
        )


class Encoder(nn.Module):
    """u = normalise(W h + b + R x + Σ S m): h the core's output over the inputs x, x the last one, m their means.

    A mean with decay γ is s / n, s ← γ s + x, n ← γ n + 1: with γ = 1 of all events of the window, below of the latest.
    x = √dim · (e + A[category] + G[gap] + T[type] + S scalars + K text), where e is the item's own part: E[item], plus
    the mean of its attributes, plus L · the mean text of its reviews; an item's vector is normalise(e + A[category]).
    Row 0 of E and A is zero and stays so: what is unknown says nothing. With K codes, an unknown item of code c has
    e = S[c div K] ∘ S[K + c mod K], random signs that stay, all of one learnt length, nearly at right angles to all
    others: nothing is known of it but that it is the same again.
    """

    code_rows: Tensor  # float [2 * codes, dim]
    gap_edges: Tensor

    def __init__(self, sizes: Sizes, about: About, dropout: tuple[float, float] = (0.0, 0.0)) -> None:
        super().__init__()
        dim = sizes.dim
        self.sizes = sizes
        self.dropout_in, self.dropout_out = dropout
        self.scalars = tuple(name for name in SCALARS if name in sizes.inputs)
        self.item_rows = nn.Embedding(sizes.items, dim, padding_idx=0)
        self.category_rows = nn.Embedding(sizes.categories, dim, padding_idx=0)
        self.attribute_rows = nn.EmbeddingBag(max(1, about.attribute_count), dim, mode="mean")
        self.type_rows = nn.Embedding(sizes.types, dim)
        self.gap_rows = nn.Embedding(len(GAP_EDGES) + 1, dim)
        self.scalar = nn.Linear(2 * max(1, len(self.scalars)), dim, bias=False)
        self.text = nn.Linear(max(1, sizes.text), dim, bias=False)
        self.item_text = nn.Linear(max(1, about.text.shape[1]), dim, bias=False)
        self.core = make(sizes.encoder, dim, sizes.hidden)
        self.head = nn.Linear(max(1, self.core.width), dim)
        self.skip = nn.Linear(dim, dim, bias=False)
        self.mean_skips = nn.ModuleList([nn.Linear(dim, dim, bias=False) for _ in sizes.decays])
        for table in (self.item_rows, self.category_rows, self.attribute_rows):
            nn.init.normal_(table.weight, std=dim**-0.5)
        for rows in (self.type_rows, self.gap_rows):
            nn.init.normal_(rows.weight, std=0.1 * dim**-0.5)
        nn.init.eye_(self.skip.weight)
        for mean_skip in self.mean_skips:
            nn.init.eye_(cast(nn.Linear, mean_skip).weight)
            cast(nn.Linear, mean_skip).weight.data *= 0.5
        with torch.no_grad():
            self.item_rows.weight[0] = 0
            self.category_rows.weight[0] = 0
        self.code_scale = nn.Parameter(torch.ones(()))  # how much it says that an unknown item is the same, beside A
        self.register_buffer("code_rows", torch.randn(2 * sizes.codes, dim).sign() * dim**-0.25)
        self.register_buffer("gap_edges", torch.tensor(GAP_EDGES), persistent=False)
        for name in ("category", "attributes", "attribute_starts", "text"):
            self.register_buffer(f"about_{name}", getattr(about, name), persistent=False)

    @property
    def states(self) -> dict[str, int]:
        """What is carried from step to step, and how wide it is: the core's, then sum and weight of each mean.

        Empty if the core can carry nothing: then the means come of the whole window, too.
        """
        if not self.core.states and self.core.width:
            return {}
        means = {
            name: width
            for k in range(len(self.sizes.decays))
            for name, width in ((f"sum_{k}", self.sizes.dim), (f"weight_{k}", 1))
        }
        return self.core.states | means

    def own(self, rows: Tensor) -> Tensor:
        """The own part e of items, float [..., dim]; rows from `sizes.items` on are codes."""
        known = torch.where(rows < self.sizes.items, rows, 0)
        e: Tensor = self.item_rows(known)
        if len(cast(Tensor, self.about_attributes)):
            e = e + self._attributes(known.reshape(-1)).reshape(e.shape)
        if cast(Tensor, self.about_text).shape[1]:
            e = e + self.item_text(cast(Tensor, self.about_text)[known])
        if self.sizes.codes:
            code = (rows - self.sizes.items).clamp(min=0)
            e = torch.where((rows >= self.sizes.items).unsqueeze(-1), self.signs(code), e)
        return e

    def signs(self, code: Tensor) -> Tensor:
        """What stands for an item that the catalog lacks, by its code; float [..., dim]."""
        count = self.sizes.codes
        first, second = self.code_rows[code.div(count, rounding_mode="floor")], self.code_rows[count + code % count]
        return self.code_scale * first * second

    def scaled_codes(self) -> Tensor:
        """The code rows with the scale in the first half, so that products of pairs are what :meth:`signs` gives."""
        count = self.sizes.codes
        return torch.cat([self.code_scale * self.code_rows[:count], self.code_rows[count:]])

    def _attributes(self, rows: Tensor) -> Tensor:
        """Mean row of the attributes of `rows` int64 [n], float [n, dim]; zeros where there is none."""
        links, starts = cast(Tensor, self.about_attributes), cast(Tensor, self.about_attribute_starts)
        distinct, place = torch.unique(rows, return_inverse=True)
        ends = torch.cat([starts[1:], starts.new_tensor([len(links)])])
        counts = (ends - starts)[distinct]
        offsets = counts.cumsum(0) - counts
        inside = torch.arange(int(counts.sum()), device=rows.device) - offsets.repeat_interleave(counts)
        bag: Tensor = self.attribute_rows(links[starts[distinct].repeat_interleave(counts) + inside], offsets)
        return bag[place]

    def event(self, inputs: dict[str, Tensor]) -> Tensor:
        """What each event looks like, float [batch, steps, dim]."""
        x = self.own(inputs["item_index"]) + self.type_rows(inputs["event_type"])
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
        x = functional.dropout(self.event(inputs), self.dropout_in, self.training)
        h = self.core.sequence(x)
        steps = torch.arange(x.shape[1], device=x.device)
        back = (steps[:, None] - steps).float()  # [steps, steps], how far each lies before; below 0: after
        means = []
        for decay in self.sizes.decays:
            weight = torch.where(back >= 0, decay ** back.clamp(min=0), 0.0)
            means.append(weight @ x / weight.sum(-1, keepdim=True))
        return self._vector(functional.dropout(h, self.dropout_out, self.training), x, means)

    def forward(self, inputs: dict[str, Tensor], length: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """What the graph computes: `vector` [batch, dim], and the states after `length` steps, as :attr:`states`."""
        length = length.long()
        carried = len(self.core.states)
        x = self.event(inputs)
        h, after = self.core.run(x, length, states[:carried])
        last = x[torch.arange(len(x)), length - 1]  # [batch, dim]
        back = (length - 1).unsqueeze(-1) - torch.arange(x.shape[1])  # [batch, steps], below 0: padding
        kept = list(states[carried:]) or [torch.zeros(1)] * (2 * len(self.sizes.decays))
        means, new = [], []
        for decay, total, count in zip(self.sizes.decays, kept[::2], kept[1::2], strict=True):
            weight = torch.where(back >= 0, decay ** back.clamp(min=0).float(), 0.0)
            past = decay ** length.float().unsqueeze(-1)
            total = total * past + (weight.unsqueeze(1) @ x).squeeze(1)
            count = count * past + weight.sum(-1, keepdim=True)
            means.append(total / count)
            new += [total, count]
        return self._vector(h, last, means), *after, *(new if len(self.states) > carried else ())

    def item_vectors(self, rows: Tensor, category: Tensor | None = None) -> Tensor:
        """Vectors of unit length of items, float [..., dim]; zeros for one of which nothing is known.

        `rows` as of :meth:`own`; `category` their categories' rows, the catalog's own by default.
        """
        if category is None:
            category = cast(Tensor, self.about_category)[rows]
        return functional.normalize(self.own(rows) + self.category_rows(category), dim=-1)

    def _vector(self, h: Tensor, x: Tensor, means: list[Tensor]) -> Tensor:
        u = self.skip(x) + (self.head(h) if self.core.width else self.head.bias)
        for mean_skip, mean in zip(self.mean_skips, means, strict=True):
            u = u + mean_skip(mean)
        return functional.normalize(u, dim=-1)
