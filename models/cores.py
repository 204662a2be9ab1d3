"""What an encoder makes of a window's events in their order: one interface, several ways.

`sequence` gives what stands after each event of windows that begin at their first, for training; `run` what stands
after `length` steps from the states given, as the exported graph does. Both agree, which a test holds.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

WIDTHS = (2, 3, 4)  # steps that a filter of the CNN sees (Kim 2014, section 3.1 has 3, 4, 5 for words)


class Core(Protocol):
    """An encoder's middle; x float [batch, steps, dim], h float [batch, steps or none, width]."""

    width: int  # of h; 0: there is no h
    states: dict[str, int]  # carried from step to step, by width; empty: the window is run whole

    def sequence(self, x: Tensor) -> Tensor:
        """h after each step."""
        ...

    def run(self, x: Tensor, length: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """h after `length` int64 [batch] steps, and the states then."""
        ...


class Recurrent(nn.Module):
    """One layer of an LSTM (Hochreiter 1997, with forget gates), a GRU (Cho 2014) or an Elman RNN."""

    def __init__(self, kind: str, dim: int, hidden: int) -> None:
        super().__init__()
        self.kind = kind
        self.width = hidden
        self.states = {"hidden": hidden, "cell": hidden} if kind == "lstm" else {"hidden": hidden}
        make = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[kind]
        self.layer: nn.RNNBase = make(dim, hidden, batch_first=True)

    def sequence(self, x: Tensor) -> Tensor:
        h: Tensor = self.layer(x)[0]
        return h

    def run(self, x: Tensor, length: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        packed = nn.utils.rnn.pack_padded_sequence(x, length, batch_first=True, enforce_sorted=False)
        before = tuple(state.unsqueeze(0) for state in states)
        _, after = self.layer(packed, before if self.kind == "lstm" else before[0])
        after = after if self.kind == "lstm" else (after,)
        return after[0][0], tuple(state[0] for state in after)


class Convolution(nn.Module):
    """The strongest answer of each filter to any few events in a row, as Caser's horizontal filters (Tang 2018)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.states: dict[str, int] = {}
        each = -(-hidden // len(WIDTHS))
        self.width = each * len(WIDTHS)
        self.filters = nn.ModuleList(nn.Conv1d(dim, each, width) for width in WIDTHS)

    def sequence(self, x: Tensor) -> Tensor:
        return self._answers(x).cummax(dim=-1).values.transpose(1, 2)

    def run(self, x: Tensor, length: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        inside = torch.arange(x.shape[1], device=x.device) < length[:, None]  # [batch, steps]
        return self._answers(x).masked_fill(~inside[:, None], 0.0).amax(dim=-1), ()

    def _answers(self, x: Tensor) -> Tensor:
        """Never below 0, float [batch, width, steps]; before the first event all is 0."""
        turned = x.transpose(1, 2)
        answers = [
            conv(nn.functional.pad(turned, (width - 1, 0))) for width, conv in zip(WIDTHS, self.filters, strict=True)
        ]
        return torch.relu(torch.cat(answers, dim=1))


class Mean(nn.Module):
    """A hidden layer over the mean of the events: what order adds shows beside it."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.states: dict[str, int] = {}
        self.width = hidden
        self.layer = nn.Linear(dim, hidden)

    def sequence(self, x: Tensor) -> Tensor:
        count = torch.arange(1, x.shape[1] + 1, device=x.device).unsqueeze(-1)
        return torch.relu(self.layer(x.cumsum(dim=1) / count))

    def run(self, x: Tensor, length: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        inside = (torch.arange(x.shape[1], device=x.device) < length[:, None]).float()
        mean = (inside.unsqueeze(1) @ x).squeeze(1) / length.unsqueeze(-1)
        return torch.relu(self.layer(mean)), ()


class Nothing(nn.Module):
    """No h at all: the last event and the means alone, to see what the others add."""

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[str, int] = {}
        self.width = 0

    def sequence(self, x: Tensor) -> Tensor:
        return x[..., :0]

    def run(self, x: Tensor, length: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        return x[:, 0, :0], ()


AnyCore = Recurrent | Convolution | Mean | Nothing


def make(kind: str, dim: int, hidden: int) -> AnyCore:
    """The core of a name among options.ENCODERS."""
    if kind in ("lstm", "gru", "rnn"):
        return Recurrent(kind, dim, hidden)
    if kind == "cnn":
        return Convolution(dim, hidden)
    return Mean(dim, hidden) if kind == "dnn" else Nothing()
