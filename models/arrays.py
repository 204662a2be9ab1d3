"""numpy files without pickle, checked for dtype and axes as they are read."""

import io
import math
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from stream import contract
from stream.errors import BundleError

#: dtype ("U": text of any width) and named axes of an array.
Shape = tuple[Any, tuple[str, ...]]

#: What the arrays of one .npz file may take in memory, together.
UNPACKED_MAX_BYTES: Final = 4 << 30
#: Deflate makes at most so many bytes of one: a member that says more is not what it says.
DEFLATE_MAX: Final = 1032

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
        _check_header(io.BytesIO(blob), len(blob))
        array = np.load(io.BytesIO(blob), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise BundleError(f"{path}: expected an array without pickle: {error}; make the bundle again") from error
    return _checked(str(path), array, shape, sizes)


def read_npz(path: Path, blob: bytes, shapes: Mapping[str, Shape], sizes: dict[str, int]) -> dict[str, NDArray[Any]]:
    """The arrays of `blob` that `shapes` names, as :func:`read_npy` reads one."""
    try:
        _check_members(blob, shapes)
        with np.load(io.BytesIO(blob), allow_pickle=False) as file:
            found = {name: file[name] for name in shapes}
    except (ValueError, OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise BundleError(f"{path}: expected the arrays {', '.join(shapes)} without pickle: {error}") from error
    return {name: _checked(f"{path}: {name}", array, shapes[name], sizes) for name, array in found.items()}


def _check_members(blob: bytes, names: Iterable[str]) -> None:
    """Raise ValueError if the arrays named, of an .npz file, are larger than they may be, or than they say."""
    with zipfile.ZipFile(io.BytesIO(blob)) as file:
        members = [file.getinfo(f"{name}.npy") for name in names]
        total = sum(member.file_size for member in members)
        if total > UNPACKED_MAX_BYTES:
            raise ValueError(f"{total:,} bytes unpacked, expected {UNPACKED_MAX_BYTES:,} at most")
        for member in members:
            if member.file_size > member.compress_size * DEFLATE_MAX + DEFLATE_MAX:
                raise ValueError(f"{member.filename} says {member.file_size:,} bytes, more than it can hold")
            with file.open(member) as stream:
                _check_header(stream, member.file_size)


def _check_header(stream: IO[bytes], size: int) -> None:
    """Raise ValueError unless an .npy file of `size` bytes holds the array that it begins with; numpy takes the memory
    that is promised there before it reads on."""
    version = npy_format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = npy_format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, _, dtype = npy_format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"format version {version}, expected 1.0 or 2.0")
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    promised, there = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if promised != there:
        raise ValueError(f"an array of {promised:,} bytes is promised, {there:,} follow")


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
