"""The bundle's folder: files with their digests, put in place at once, and read only if every digest is right."""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from stream.errors import BundleError, UsageError

CONTRACT: Final = 1
DESCRIPTION: Final = "bundle.json"
FILES: Final = ("catalog.npz", "encoder.onnx", "golden.npz", "items.npy", "parts.npz", "text.npz")
ACTS: Final = "probability.npz"  # only of a model that tells how probable acts are
#: Before anything is read: of bundle.json, and of all files together.
DESCRIPTION_MAX_BYTES: Final = 16 << 20
TOTAL_MAX_BYTES: Final = 8 << 30


def read(folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """bundle.json and the other files' bytes, each compared with its digest.

    Raises:
        BundleError: a file is missing, cut, changed, another bundle's, outside of the folder, too large or a Git LFS
            pointer, or the contract version is not ours.
    """
    if not folder.is_dir():
        raise BundleError(
            f"{folder}: expected the folder of a model bundle, got none; `interest model train` makes one"
        )
    described = describe(folder)
    names = (*FILES, ACTS) if ACTS in described["files"] else FILES
    total = sum(_size(folder, name) for name in names)
    if total > TOTAL_MAX_BYTES:
        raise BundleError(f"{folder}: expected {TOTAL_MAX_BYTES:,} bytes at most, got {total:,}")
    return described, {name: _checked(folder, name, described["files"].get(name)) for name in names}


def replaceable(folder: Path) -> None:
    """Raise UsageError unless `folder` is new, empty, or a bundle."""
    if folder.exists() and not (folder.is_dir() and ((folder / DESCRIPTION).exists() or not any(folder.iterdir()))):
        raise UsageError(
            f"{folder}: expected a new or empty folder, or a bundle to replace, got something else; name another folder"
        )


def put(folder: Path, described: Mapping[str, Any], files: Mapping[str, bytes], *, command: str) -> None:
    """Add contract, digests, version and command to `described`, write all into a sibling, and rename.

    The folder is the old bundle or the new one, never a mixture. Other files in it, such as a README, are kept.

    Raises:
        BundleError: it cannot be written.
    """
    digests = {name: hashlib.sha256(blob).hexdigest() for name, blob in files.items()}
    content = {"contract": CONTRACT, **described, "files": digests}
    whole = {"version": _version(content), "command": command, **content}
    text = json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    replace(folder, lambda fresh: _write(fresh, {**files, DESCRIPTION: text.encode()}))


def _write(folder: Path, blobs: Mapping[str, bytes]) -> None:
    for name, blob in blobs.items():
        (folder / name).write_bytes(blob)


def replace(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` put a bundle's files into a new folder, and put that in place of an older one, at once.

    Other files of the old folder are kept. Whatever `fill` raises leaves that as it was.

    Raises:
        BundleError: it cannot be written.
    """
    folder = folder.absolute()
    fresh, old = (folder.with_name(f".{folder.name}.{kind}-{os.getpid()}") for kind in ("new", "old"))
    # What one that was killed has left: in a container every process has the same number.
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        fill(fresh)
        if folder.exists():
            for other in folder.iterdir():
                if other.name not in (*FILES, ACTS, DESCRIPTION):  # the old one's heads are not the new one's
                    (shutil.copytree if other.is_dir() else shutil.copy2)(other, fresh / other.name)
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        try:
            fresh.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    except OSError as error:
        raise BundleError(f"{folder}: the bundle cannot be written: {error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _version(described: Mapping[str, Any]) -> str:
    """Digest of everything but the version itself and the command: how a model was called for says nothing of it."""
    content = {name: value for name, value in described.items() if name not in ("version", "command")}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def describe(folder: Path) -> dict[str, Any]:
    """bundle.json, checked as far as its own digest goes. Raises BundleError."""
    size = _size(folder, DESCRIPTION)
    if size > DESCRIPTION_MAX_BYTES:
        raise BundleError(f"{folder / DESCRIPTION}: expected {DESCRIPTION_MAX_BYTES:,} bytes at most, got {size:,}")
    blob = _checked(folder, DESCRIPTION, None)
    try:
        described = json.loads(blob)
        if not isinstance(described, dict):
            raise ValueError(f"got {type(described).__name__}")
        version, number = described["version"], described["contract"]
        if not isinstance(described["files"], dict):
            raise ValueError("files is not an object")
        foreign = [name for name in described["files"] if name not in (*FILES, ACTS)]
        if foreign:
            raise ValueError(f"a bundle has no file {foreign[0]!r}")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise BundleError(
            f"{folder / DESCRIPTION}: expected a JSON object with version, contract and files, got {len(blob)} bytes "
            f"that are not ({error}); copy the bundle again"
        ) from error
    if number != CONTRACT:
        raise BundleError(
            f"{folder / DESCRIPTION}: contract version expected {CONTRACT}, got {number!r}; "
            f"take a bundle made for this release, or another release"
        )
    if version != _version(described):
        raise BundleError(
            f"{folder / DESCRIPTION}: bundle version expected {_version(described)} by its content, got {version!r}; "
            f"it was changed by hand or cut: copy the bundle again"
        )
    return described


def _size(folder: Path, name: str) -> int:
    """A file's size; it must be one, in the folder itself, whatever links lead there."""
    path = folder / name
    try:
        found = path.resolve(strict=True)
        status = found.stat()
    except OSError as error:
        raise _missing(path, error) from error
    if not found.is_relative_to(folder.resolve()) or not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{path}: expected a file in the bundle's folder, got {found}; copy the file itself there")
    return status.st_size


def _missing(path: Path, error: OSError) -> BundleError:
    return BundleError(
        f"{path}: expected a file of the bundle, got none ({error.strerror}); copy the whole bundle again"
    )


def _checked(folder: Path, name: str, digest: str | None) -> bytes:
    """A file's bytes, compared with `digest` unless that is bundle.json's."""
    path = folder / name
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise _missing(path, error) from error
    if blob.startswith(b"version https://git-lfs"):
        raise BundleError(f"{path}: expected the file, got a Git LFS pointer to it; run `git lfs pull`")
    if name == DESCRIPTION:
        return blob
    got = hashlib.sha256(blob).hexdigest()
    if got != digest:
        raise BundleError(
            f"{path}: expected sha256 {str(digest)[:16]}… as bundle.json says, got {got[:16]}… ({len(blob)} bytes): "
            f"cut, changed or another bundle's; copy the whole bundle again"
        )
    return blob
