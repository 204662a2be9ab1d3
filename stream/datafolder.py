"""The folder of a worker's local state: made when it is missing, and one worker's only."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stream.errors import InterestError

LOCK = "worker.lock"


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Hold the folder; the lock goes with the process, however it ends.

    Raises:
        InterestError: it cannot be made or written, or another worker holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise InterestError(
            f"data folder {folder}: expected one that can be written, got: {error.strerror}; name another by --data-dir"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InterestError(
                f"data folder {folder}: another worker holds it; give each its own by --data-dir"
            ) from error
        yield
