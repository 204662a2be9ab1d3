"""Item vectors in fewer bytes, for whoever ranks many; `interest model evaluate --tables` says what that costs."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

INT8_MAX: Final = 127


def int8(items: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A quarter of the bytes: int8 [items, dim] and a scale float32 [items]; a vector is about scale · row.

    The scale of each item is the largest of its numbers, over INT8_MAX; that of an item of zeros is 0.
    """
    scale = np.abs(items).max(axis=1) / np.float32(INT8_MAX)
    rows = np.rint(items / np.where(scale > 0, scale, 1)[:, None]).astype(np.int8)
    return rows, scale.astype(np.float32)


def as_stored(items: NDArray[np.float32], table: str) -> NDArray[np.float32]:
    """What comes back from a table of `float16` or `int8`, float32 [items, dim]."""
    if table == "float16":
        return items.astype(np.float16).astype(np.float32)
    rows, scale = int8(items)
    return rows.astype(np.float32) * scale[:, None]


TABLES: Final = ("float16", "int8")
