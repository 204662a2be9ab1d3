"""The second head: from a user's vector and an item to the probability that the user acts on it, by type of act.

A head's log-odds are a rising function of the cosine u·v, linear between edges, plus a share of the item's popularity,
log(1 + events), plus a constant: what whoever consumes updates has. `models.calibration` fits them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from models import arrays
from stream.errors import BundleError

#: Types of act that have a head each. A review has none: it is of something bought before.
HEADS: Final = ("click", "cart", "favorite", "purchase")

#: dtype and axes of each array of `probability.npz`.
PROBABILITY_ARRAYS: Final[dict[str, arrays.Shape]] = {
    "types": ("U", ("heads",)),
    "horizon_ms": ("int64", ()),
    "edges": ("float64", ("edges",)),
    "slopes": ("float64", ("heads", "segments")),
    "popular": ("float64", ("heads",)),
    "bias": ("float64", ("heads",)),
    "threshold": ("float32", ("heads",)),
    "popularity": ("float32", ("items",)),
}


@dataclass(frozen=True, eq=False)
class Probability:
    """What `probability.npz` holds: one head for each type of act that there was enough of.

    The probability is that of a user who comes now, whose vector is of the event before, to act so on the item within
    the horizon. What makes it true on average is an item picked at random from the whole catalog.
    """

    types: NDArray[np.str_]  # [heads], of HEADS
    horizon_ms: NDArray[np.int64]  # [], ms
    edges: NDArray[np.float64]  # [edges], ascending cosines
    slopes: NDArray[np.float64]  # [heads, edges + 1], log-odds by cosine, the one below the first edge first; >= 0
    popular: NDArray[np.float64]  # [heads], log-odds by popularity
    bias: NDArray[np.float64]  # [heads], log-odds at the first edge of an item without an event
    threshold: NDArray[np.float32]  # [heads], from which on to say yes: of the best F1 where the head was fitted
    popularity: NDArray[np.float32]  # [items], log(1 + events of any type before what was fitted on); row 0: 0

    @classmethod
    def read(cls, path: Path, blob: bytes, items: int) -> Self:
        """From the bytes of `probability.npz`, for a catalog of so many rows.

        Raises:
            BundleError: an array is missing, of another dtype or shape, or holds what cannot be.
        """
        head = cls(**arrays.read_npz(path, blob, PROBABILITY_ARRAYS, {"items": items}))
        head.check(str(path))
        return head

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `probability.npz` holds."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def check(self, where: str) -> None:
        """See that the numbers make sense.

        Raises:
            BundleError: they do not; names `where`.
        """
        types, edges, slopes = self.types.tolist(), self.edges, self.slopes
        rules = (
            (
                len(set(types)) == len(types) and set(types) <= set(HEADS),
                f"types expected to differ and to be among {', '.join(HEADS)}, got {types}",
            ),
            (bool(self.horizon_ms > 0), f"horizon_ms expected above 0, got {self.horizon_ms}"),
            (
                len(edges) > 0 and np.isfinite(edges).all() and (np.diff(edges) > 0).all(),
                f"edges expected to ascend, got {edges.tolist()}",
            ),
            (
                slopes.shape[1] == len(edges) + 1 and np.isfinite(slopes).all() and (slopes >= 0).all(),
                f"slopes expected not below 0, {len(edges) + 1} a head, got {slopes.tolist()}",
            ),
            (np.isfinite(self.popular).all(), f"popular expected finite, got {self.popular.tolist()}"),
            (np.isfinite(self.bias).all(), f"bias expected finite, got {self.bias.tolist()}"),
            (
                ((self.threshold >= 0) & (self.threshold <= 1)).all(),
                f"threshold expected from 0 to 1, got {self.threshold.tolist()}",
            ),
            (
                np.isfinite(self.popularity).all() and (self.popularity >= 0).all(),
                "popularity expected finite and not below 0",
            ),
        )
        wrong = next((said for right, said in rules if not right), "")
        if wrong:
            raise BundleError(f"{where}: {wrong}; make it again")

    def of(
        self, vectors: NDArray[np.float32], items: NDArray[np.float32], rows: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Probabilities of users and items, float32 [users, rows, heads]; 0 for row 0, which is no item.

        Args:
            vectors: of users, float32 [users, dim], of unit length.
            items: the bundle's item vectors, float32 [items, dim].
            rows: of the items asked for, int64 [rows]; all if not given.
        """
        rows = np.arange(len(items)) if rows is None else rows
        return self.of_cosine(vectors @ items[rows].T, rows)

    def of_cosine(self, cosine: NDArray[np.floating], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Probabilities float32 [..., heads] for cosines [...] and the rows of their items, of the last axes' shape."""
        common = self.popularity[rows][..., np.newaxis] * self.popular + self.bias
        odds = np.zeros((*cosine.shape, len(self.types))) + common
        for reach, slopes in zip(segments(cosine, self.edges), self.slopes.T, strict=True):
            odds += reach[..., np.newaxis] * slopes
        found = 1 / (1 + np.exp(-np.clip(odds, -700, 700)))
        return np.where(rows[..., np.newaxis] == 0, 0, found).astype(np.float32)


def segments(cosine: NDArray[np.floating], edges: NDArray[np.float64]) -> Iterator[NDArray[np.floating]]:
    """How far each cosine reaches into each segment, [...] each; in the first, below all edges, not above 0.

    So each segment has a slope of its own, and what is linear in them all is continuous in the cosine.
    """
    bounds = [-np.inf, *edges.tolist(), np.inf]
    for low, high, base in zip(bounds, bounds[1:], [bounds[1], *bounds[1:]], strict=False):
        yield np.clip(cosine, low, high) - base
