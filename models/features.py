"""What a window's events look like to the graph. Training and the worker both come here, so they cannot differ."""

import re
import unicodedata
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from stream import contract

#: Every input a graph may have besides its states: dtype and axes. A model names those it uses in its bundle.
INPUTS: Final = {
    "item_index": ("int64", ("batch", "steps")),
    "category_index": ("int64", ("batch", "steps")),
    "event_type": ("int64", ("batch", "steps")),
    "gap": ("float", ("batch", "steps")),
    "price": ("float", ("batch", "steps")),
    "quantity": ("float", ("batch", "steps")),
    "rating": ("float", ("batch", "steps")),
    "text": ("float", ("batch", "steps", "text")),
    "length": ("int32", ("batch",)),
}

OTHER: Final = "other"  # entry 0 of a bundle's event types: a type that the bundle lacks

# Written without spaces: Han with its extensions and compatibility forms, and kana.
_UNSPACED = (
    "\u3005\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_RUNS = re.compile(f"([{_UNSPACED}]+)|[^\\W_{_UNSPACED}]+(?:'[^\\W_{_UNSPACED}]+)*")


def text_tokens(text: str) -> list[int]:
    """Hashed tokens of a review: distinct, in order of appearance, at most `TEXT_MAX_TOKENS`.

    Case and width are folded (NFKC, casefold). A run of letters and digits is one token ("don't" too); Chinese and
    kana give pairs of neighbouring characters, a single character itself. The table stores these: never change them.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("’", "'")
    tokens: dict[str, None] = {}
    for run in _RUNS.finditer(text.casefold()):
        word = run.group()
        if run.lastindex is None or len(word) == 1:
            tokens[word] = None
        else:
            for start in range(len(word) - 1):
                tokens[word[start : start + 2]] = None
        if len(tokens) >= contract.TEXT_MAX_TOKENS:
            break
    return list(dict.fromkeys(map(contract.hash32, islice(tokens, contract.TEXT_MAX_TOKENS))))


@dataclass(frozen=True, eq=False)
class HashTable:
    """From hash to row, vectorised; what is not in it, and hash 0 ("none"), is row 0."""

    keys: NDArray[Any]  # uint32 or uint64 [entries], ascending, keys[0] == 0
    rows: NDArray[np.int64]  # [entries], rows[0] == 0

    @classmethod
    def build(cls, hashes: NDArray[Any]) -> Self:
        """Of `hashes` [rows] by row, where entry 0 is 0. Where two rows share a hash, the first is found."""
        rows = np.argsort(hashes, kind="stable").astype(np.int64)
        return cls(keys=hashes[rows], rows=rows)

    def find(self, hashes: NDArray[Any]) -> NDArray[np.int64]:
        """Rows, int64 of the shape of `hashes`, whose dtype must be that of the keys."""
        place = np.searchsorted(self.keys, hashes)
        place[place == len(self.keys)] = 0
        found: NDArray[np.int64] = np.where(self.keys[place] == hashes, self.rows[place], 0)
        return found


@dataclass(frozen=True, eq=False)
class TextVectors:
    """Vectors and weights of known tokens; empty for a model that does not read text."""

    hashes: NDArray[np.uint32]  # [tokens]
    vectors: NDArray[np.float32]  # [tokens, width]
    weights: NDArray[np.float32]  # [tokens], how much a token says (inverse document frequency)

    @classmethod
    def none(cls, width: int = 0) -> Self:
        """No token at all."""
        return cls(np.zeros(0, np.uint32), np.zeros((0, width), np.float32), np.zeros(0, np.float32))

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return int(self.vectors.shape[1])


@dataclass(frozen=True, eq=False)
class Features:
    """Turns stored events into the graph's inputs, as one bundle's catalog, types and text vectors say."""

    used: tuple[str, ...]  # of INPUTS, without `length`
    items: HashTable  # uint64
    categories: HashTable  # uint32
    item_category: NDArray[np.int64]  # [items], row of the category; 0: none
    type_index: NDArray[np.int64]  # [256], from the stored code to the position among the bundle's types
    tokens: HashTable  # uint32, to rows of token_vectors
    token_vectors: NDArray[np.float32]  # [1 + tokens, width], weight times vector; row 0: zeros
    codes: int = 0  # its square is how many items that the catalog lacks are told apart; 0: these are row 0

    @classmethod
    def build(
        cls,
        *,
        inputs: tuple[str, ...],
        event_types: tuple[str, ...],
        item_hashes: NDArray[np.uint64],
        category_hashes: NDArray[np.uint32],
        item_category: NDArray[np.int64],
        text: TextVectors,
        codes: int = 0,
    ) -> Self:
        """Hash arrays are by row with 0 in row 0; `event_types` starts with "other"."""
        type_index = np.zeros(256, np.int64)
        for name, code in contract.EVENT_TYPES.items():
            type_index[code] = event_types.index(name) if name in event_types else 0
        weighted = text.vectors * text.weights[:, None]
        return cls(
            used=tuple(name for name in inputs if name != "length"),
            items=HashTable.build(item_hashes),
            categories=HashTable.build(category_hashes),
            item_category=item_category,
            type_index=type_index,
            tokens=HashTable.build(np.concatenate([np.zeros(1, np.uint32), text.hashes])),
            token_vectors=np.concatenate([np.zeros((1, text.width), np.float32), weighted]),
            codes=codes,
        )

    def item_rows(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The graph's rows of items by hash: the catalog's; of an item that it lacks one behind these, or 0."""
        rows = self.items.find(hashes)
        if self.codes:
            code = (hashes % np.uint64(self.codes**2)).astype(np.int64) + len(self.item_category)
            rows = np.where((rows == 0) & (hashes != 0), code, rows)
        return rows

    def inputs(
        self,
        events: NDArray[np.void],
        text_row: NDArray[np.int32],
        tokens: NDArray[np.uint32],
        length: NDArray[np.int32],
        previous_ms: NDArray[np.int64],
    ) -> dict[str, NDArray[Any]]:
        """The graph's inputs for a batch of steps: those the bundle uses, and `length`.

        Args:
            events: EVENT_DTYPE [batch, steps]; steps from `length` on are padding.
            text_row: int32 [batch, steps], row of `tokens`; -1: no text.
            tokens: uint32 [rows, up to 64], hashed tokens of each text, padded with 0.
            length: int32 [batch], real steps, from 1 to `steps`.
            previous_ms: int64 [batch], time of the event before the first step; -1: the first step is the first of
                its window.

        Returns:
            `item_index`, `category_index`, `event_type` int64 [batch, steps], 0 for what is unknown (a known item
            brings its catalog category where the event has none that is known; an unknown item is behind the
            catalog's rows, where the bundle has codes); float32 [batch, steps]: `gap`, seconds
            since the window's previous event, -1 for its first; `price`, `quantity`, log2(1 + amount), -1 for none;
            `rating`, 1 to 5, 0 for none; `text` float32 [batch, steps, width], weighted mean of the known tokens'
            vectors, of unit length, zeros for none; `length` int32 [batch]. Padded steps are as an empty event's, and
            their gap is 0.

        Raises:
            ValueError: a length is below 1 or above `steps`: the graph would give a zero vector, or fail the batch.
        """
        steps = events.shape[1]
        if length.size and not (length.min() >= 1 and length.max() <= steps):
            bad = int(np.flatnonzero((length < 1) | (length > steps))[0])
            raise ValueError(f"length of row {bad} expected between 1 and {steps} steps, got {int(length[bad])}")
        padding = np.arange(steps) >= length[:, None]
        answer: dict[str, NDArray[Any]] = {}
        if "item_index" in self.used or "category_index" in self.used:
            item = np.where(padding, 0, self.item_rows(events["item"]))
            answer["item_index"] = item
            if "category_index" in self.used:
                category = np.where(padding, 0, self.categories.find(events["category"]))
                known = np.where(item < len(self.item_category), item, 0)
                answer["category_index"] = np.where(category > 0, category, self.item_category[known])
        if "event_type" in self.used:
            answer["event_type"] = self.type_index[np.where(padding, 0, events["type"])]
        if "gap" in self.used:
            answer["gap"] = _gap(events["timestamp"], previous_ms, padding)
        for name in ("price", "quantity"):
            if name in self.used:
                answer[name] = contract.AMOUNT_LOG2[np.where(padding, 0, events[name])]
        if "rating" in self.used:
            answer["rating"] = np.where(padding, 0, events["rating"]).astype(np.float32) / np.float32(10)
        if "text" in self.used:
            answer["text"] = self.text(tokens)[np.where(padding, -1, text_row)]
        inputs = {name: answer[name] for name in self.used}
        inputs["length"] = length.astype(np.int32, copy=False)
        return inputs

    def text(self, tokens: NDArray[np.uint32]) -> NDArray[np.float32]:
        """Text vectors float32 [rows + 1, width] of `tokens` uint32 [rows, up to 64]; the last row is zeros."""
        total = np.zeros((len(tokens) + 1, self.token_vectors.shape[1]), np.float32)
        if tokens.size:
            total[:-1] = self.token_vectors[self.tokens.find(tokens)].sum(axis=1)
        norm = np.linalg.norm(total, axis=1, keepdims=True)
        return (total / np.where(norm > 0, norm, 1)).astype(np.float32, copy=False)


def _gap(
    timestamp: NDArray[np.int64], previous_ms: NDArray[np.int64], padding: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Seconds since the previous event; the difference is taken in whole ms, since float32 merges near times."""
    before = np.concatenate([previous_ms[:, None], timestamp[:, :-1]], axis=1)
    gap: NDArray[np.float32] = ((timestamp - before) / 1000).astype(np.float32)
    gap[previous_ms < 0, 0] = -1
    gap[padding] = 0
    return gap
