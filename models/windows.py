"""Windows as arrays: the form in which golden windows are stored and training reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.features import Features
from stream import contract
from stream.decode import token_rows


@dataclass(frozen=True, eq=False)
class Windows:
    """Some users' windows, padded to the longest; arguments of :meth:`models.features.Features.inputs`."""

    events: NDArray[np.void]  # EVENT_DTYPE [windows, steps], zeros from `length` on
    text_row: NDArray[np.int32]  # [windows, steps], row of `tokens`; -1: no text
    tokens: NDArray[np.uint32]  # [texts, 64], padded with 0
    length: NDArray[np.int32]  # [windows], at least 1

    @classmethod
    def pack(cls, windows: Sequence[tuple[NDArray[np.void], Sequence[Sequence[int] | None]]]) -> Self:
        """From each window's events EVENT_DTYPE [n] and, for each event, its text's tokens or None."""
        length = np.array([len(events) for events, _ in windows], np.int32)
        steps = int(length.max(initial=1))
        packed = np.zeros((len(windows), steps), contract.EVENT_DTYPE)
        text_row = np.full((len(windows), steps), -1, np.int32)
        texts: list[Sequence[int]] = []
        for row, (events, event_tokens) in enumerate(windows):
            packed[row, : len(events)] = events
            for step, found in enumerate(event_tokens):
                if found is not None:
                    text_row[row, step] = len(texts)
                    texts.append(found)
        return cls(packed, text_row, token_rows(texts), length)

    def __len__(self) -> int:
        return len(self.length)

    def inputs(self, features: Features) -> dict[str, NDArray[Any]]:
        """The graph's inputs for all windows, whole."""
        return features.inputs(self.events, self.text_row, self.tokens, self.length, np.full(len(self), -1, np.int64))

    def step_inputs(self, features: Features, step: int, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The graph's inputs for event `step` alone of the windows `rows`, as a worker that advances gives them."""
        previous_ms = self.events["timestamp"][rows, step - 1] if step else np.full(len(rows), -1, np.int64)
        one = slice(step, step + 1)
        return features.inputs(
            self.events[rows, one], self.text_row[rows, one], self.tokens, np.ones(len(rows), np.int32), previous_ms
        )
