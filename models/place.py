"""Where a fleet takes its model from: a bundle, or a place that holds several and names the one to be served.

Both are a folder or, by URL, what fsspec reaches (`s3://…`). A place holds a folder for each version, and

==================  =================================================================
``current.json``    ``{"version": …, "before": […]}``: to be served now, and was, newest first
``<version>/``      a bundle
==================  =================================================================
"""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import fsspec
from fsspec.implementations.local import LocalFileSystem

from models import bundle as bundles
from models import folder as files
from models.bundle import Bundle
from stream.errors import BundleError, InterestError, UsageError

CURRENT: Final = "current.json"
#: So many former versions are remembered.
BEFORE: Final = 20
_VERSION = re.compile(r"[0-9a-f]{16}")
#: What stores tell of a file beside its size when it changes.
_CHANGES = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified", "updated", "ino")

#: Differs when a place may hold something else than before.
Mark = tuple[object, ...]


class PlaceError(InterestError):
    """A place cannot be reached, or holds nothing to be served."""


class Place:
    """A bundle, or a place, by path or URL.

    Raises:
        UsageError: no such kind of URL, or the library for it is not installed.
    """

    def __init__(self, where: str) -> None:
        self.shown = re.sub(r"//[^/@]*@", "//", where)  # without a password
        try:
            self._fs, root = fsspec.core.url_to_fs(where)
        except ImportError as error:
            raise UsageError(f"{self.shown}: {error}; `pip install` it beside this project") from error
        except ValueError as error:
            raise UsageError(f"{self.shown}: expected a folder or a URL that fsspec knows: {error}") from error
        self._root = str(root).rstrip("/")

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return isinstance(self._fs, LocalFileSystem)

    def mark(self) -> Mark:
        """Looks cheaply; another mark than before: something may be new.

        Raises:
            PlaceError: it cannot be reached, or there is nothing.
        """
        with self._reaching():
            self._fs.invalidate_cache()
            current = self._read(CURRENT)
            folder = self._bundle(self._parse(current)[0] if current else None)
            try:
                listed = self._fs.ls(folder, detail=True)
            except FileNotFoundError:
                raise PlaceError(
                    f"{self.shown}: expected a model bundle or a place with some, got none; `interest model train` "
                    "makes one"
                ) from None
        return current, *sorted((one["name"], one["size"], *(str(one.get(key)) for key in _CHANGES)) for one in listed)

    def current(self) -> str | None:
        """The version to be served; None: this is a bundle itself.

        Raises:
            PlaceError: it cannot be reached, or says no version.
        """
        with self._reaching():
            current = self._read(CURRENT)
            return self._parse(current)[0] if current else None

    def version(self) -> str:
        """The version to be served, of a place or of the bundle that this is; nothing but its description is read.

        Raises:
            PlaceError: it cannot be reached, or says no version.
        """
        current = self.current()
        if current is not None:
            return current
        with self._reaching():
            described = self._read(files.DESCRIPTION)
        try:
            version = json.loads(described or b"")["version"]
        except (ValueError, KeyError, TypeError) as error:
            raise PlaceError(f"{self.shown}: expected a model bundle or a place with some, got none") from error
        return self._checked(version, files.DESCRIPTION)

    def obtain(self, cache: Path) -> Path:
        """The folder of the bundle to be served; what is not on this machine is fetched into a folder of `cache`.

        Raises:
            PlaceError: it cannot be reached, or says no version.
            BundleError: what was fetched is not whole.
        """
        version = self.current()
        if self.is_local:
            return Path(self._bundle(version))
        target = cache / (version or "bundle")
        if version is None or not _is_whole(target):
            self._fetch(version, target)
        return target

    def fetch(self, target: Path, version: str | None = None) -> str:
        """Copy a bundle, by default the one to be served, into the folder `target`, whole or not at all.

        Returns:
            its version.

        Raises:
            UsageError: `target` holds something that is not a bundle.
            PlaceError: it cannot be reached, or says no version.
            BundleError: it is damaged, or another version than asked for.
        """
        files.replaceable(target)
        current = self.current()
        return self._fetch(current and (version or current), target, version)

    def deploy(self, bundle: Path) -> tuple[str, str | None]:
        """Copy a bundle there, and say then that it is to be served.

        Returns:
            its version, and the one that was to be served before.

        Raises:
            BundleError: it is not whole.
            PlaceError: the place cannot be reached, or is a bundle itself.
        """
        described, blobs = files.read(bundle)
        version = described["version"]
        with self._reaching():
            if self._fs.exists(self._join(files.DESCRIPTION)):
                raise PlaceError(f"{self.shown}: expected a place for bundles, got a bundle; name the folder above it")
            current = self._read(CURRENT)
            former, before = self._parse(current) if current else (None, [])
            self._fs.makedirs(self._bundle(version), exist_ok=True)
            for name, blob in blobs.items():
                self._fs.pipe_file(self._join(version, name), blob)
            # The description last: what is cut short has none.
            self._fs.pipe_file(self._join(version, files.DESCRIPTION), (bundle / files.DESCRIPTION).read_bytes())
            if former not in (None, version):
                before = [former, *before]
            self._say(version, [one for one in before if one != version])
        return version, former

    def roll_back(self) -> tuple[str, str]:
        """Say that what was to be served before is to be served again.

        Returns:
            the version that is no longer, and the one that is again.

        Raises:
            PlaceError: the place cannot be reached, or there was nothing before.
        """
        with self._reaching():
            current = self._read(CURRENT)
            if not current:
                raise PlaceError(f"{self.shown}: expected a place of `interest model deploy`, got no {CURRENT}")
            version, before = self._parse(current)
            if not before:
                raise PlaceError(f"{self.shown}: nothing was served before {version}; deploy the bundle that should be")
            if not self._fs.exists(self._join(before[0], files.DESCRIPTION)):
                raise PlaceError(f"{self.shown}: {before[0]}, served before, is no longer there; deploy it again")
            self._say(before[0], before[1:])
        return version, before[0]

    def _fetch(self, version: str | None, target: Path, expected: str | None = None) -> str:
        """Copy a version's files, or those of the bundle that this is; the version that they are."""
        source = self._bundle(version)
        wanted = expected or version

        def fill(fresh: Path) -> None:
            left = files.TOTAL_MAX_BYTES
            with self._reaching():
                for name in (files.DESCRIPTION, *files.FILES, files.ACTS):
                    if name == files.ACTS and not self._fs.exists(f"{source}/{name}"):
                        continue
                    left -= self._fs.info(f"{source}/{name}")["size"]
                    if left < 0:
                        raise BundleError(f"{self.shown}: expected {files.TOTAL_MAX_BYTES:,} bytes at most, got more")
                    self._fs.get_file(f"{source}/{name}", str(fresh / name))
            found = files.read(fresh)[0]["version"]
            if wanted not in (None, found):
                raise BundleError(f"{self.shown}: expected bundle {wanted}, got {found}")

        files.replace(target, fill)
        return str(files.describe(target)["version"])

    def _say(self, version: str, before: list[str]) -> None:
        text = json.dumps({"version": version, "before": before[:BEFORE]}) + "\n"
        if not self.is_local:
            self._fs.pipe_file(self._join(CURRENT), text.encode())  # a store puts an object at once
            return
        fresh = Path(self._join(f".{CURRENT}.new-{os.getpid()}"))
        fresh.write_text(text)
        fresh.replace(self._join(CURRENT))

    def _parse(self, current: bytes) -> tuple[str, list[str]]:
        try:
            said = json.loads(current)
            versions = [said["version"], *said["before"]]
        except (ValueError, KeyError, TypeError) as error:
            raise PlaceError(f"{self._join(CURRENT)}: expected version and before, got {current[:80]!r}") from error
        first, *before = (self._checked(version, CURRENT) for version in versions)
        return first, before

    def _checked(self, version: object, said_by: str) -> str:
        """A version as it may be: no path leads anywhere by it."""
        if not isinstance(version, str) or not _VERSION.fullmatch(version):
            raise PlaceError(f"{self._join(said_by)}: expected a bundle version, 16 hex digits, got {version!r}")
        return version

    def _read(self, name: str) -> bytes | None:
        try:
            return bytes(self._fs.cat_file(self._join(name)))
        except FileNotFoundError:
            return None

    def _bundle(self, version: str | None) -> str:
        return self._join(version) if version else self._root

    def _join(self, *names: str) -> str:
        return "/".join((self._root, *names))

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except InterestError:
            raise
        except Exception as error:  # each store has errors of its own
            reason = " ".join(str(error).split())[:200] or "no reason given"
            raise PlaceError(f"{self.shown}: cannot be reached: {type(error).__name__}: {reason}") from error


def load(where: str) -> Bundle:
    """Read the bundle to be served at a path or URL; nothing stays of what is fetched.

    Raises:
        UsageError, PlaceError, BundleError: as `Place` and `models.bundle.load` say.
    """
    place = Place(where)
    place.mark()
    if place.is_local:
        return bundles.load(place.obtain(Path()))  # nothing is fetched: nothing needs to be writable
    try:
        cache = tempfile.TemporaryDirectory()
    except OSError as error:
        raise PlaceError(f"{place.shown}: expected a temporary folder to fetch into (TMPDIR): {error}") from error
    with cache as folder:
        return bundles.load(place.obtain(Path(folder)))


def _is_whole(folder: Path) -> bool:
    try:
        files.read(folder)
    except BundleError:
        return False
    return True
