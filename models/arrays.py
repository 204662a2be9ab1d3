"""numpy files without pickle, checked for dtype and axes as they are read."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream import contract
from stream.errors import BundleError

#: dtype ("U": text of any width) and named axes of an array.
Shape = tuple[Any, tuple[str, ...]]

TEXT_ARRAYS: Final[Mapping[str, Shape]] = {
    "hashes": ("uint32", ("tokens",)),
    "vectors": ("float32", ("tokens", "width")),
    "weights": ("float32", ("tokens",)),
}
PARTS_ARRAYS: Final[Mapping[str, Shape]] = {
    "codes": ("float32", ("code_rows", "dim")),
    "categories": ("float32", ("categories", "dim")),
}
GOLDEN_ARRAYS: Final[Mapping[str, Shape]] = {
    "events": (contract.EVENT_DTYPE, ("windows", "steps")),
    "text_row": ("int32", ("windows", "steps")),
    "tokens": ("uint32", ("texts", "tokens_max")),
    "length": ("int32", ("windows",)),
    "vectors": ("float32", ("windows", "dim")),
}


def npy(array: NDArray[Any]) -> bytes:
    """An array as the bytes of an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays as the bytes of a compressed .npz file; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **dict(arrays))
    return buffer.getvalue()


def read_npy(path: Path, blob: bytes, shape: Shape, sizes: dict[str, int]) -> NDArray[Any]:
    """The array of `blob`. `sizes` holds the axes known so far and learns new ones.

    Raises:
        BundleError: it is no such file, or dtype or axes differ.
    """
    try:
        array = np.load(io.BytesIO(blob), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise BundleError(f"{path}: expected an array without pickle: {error}; make the bundle again") from error
    return _checked(str(path), array, shape, sizes)


def read_npz(path: Path, blob: bytes, shapes: Mapping[str, Shape], sizes: dict[str, int]) -> dict[str, NDArray[Any]]:
    """The arrays of `blob` that `shapes` names, as :func:`read_npy` reads one."""
    try:
        with np.load(io.BytesIO(blob), allow_pickle=False) as file:
            found = {name: file[name] for name in shapes}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path}: expected the arrays {', '.join(shapes)} without pickle: {error}") from error
    return {name: _checked(f"{path}: {name}", array, shapes[name], sizes) for name, array in found.items()}


def _checked(where: str, array: NDArray[Any], shape: Shape, sizes: dict[str, int]) -> NDArray[Any]:
    dtype, axes = shape
    right = array.dtype.kind == "U" if dtype == "U" else array.dtype == np.dtype(dtype)
    if right and array.ndim == len(axes):
        for axis, size in zip(axes, array.shape, strict=True):
            right = right and sizes.setdefault(axis, size) == size
    else:
        right = False
    if not right:
        wanted = ", ".join(f"{axis} = {sizes[axis]}" if axis in sizes else axis for axis in axes)
        raise BundleError(f"{where} expected {dtype} [{wanted}], got {array.dtype} {list(array.shape)}; make it again")
    return array
