"""The demo's worker: `interest worker` as a child that never outlives the demo."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Self

from pydantic import SecretStr

from stream import guarded
from stream.errors import InterestError
from stream.settings import PREFIX, Settings

READY = "ready: partitions ["
START_S = 60.0
POLL_S = 0.05
TAIL_LINES = 12


class Worker:
    """One worker process for as long as a `with` block; its data and log lie in a temporary folder that goes with it.

    Of `settings`, data folder, log level and instance id are the demo's own. The worker ends with this process, even
    if that is killed.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder: Path | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._folder = folder = Path(mkdtemp(prefix="interest-demo-"))
        worker = [sys.executable, "-P", "-c", "from stream.commands import main; main()", "worker"]
        try:
            env = environment(self._settings, folder / "data")
            self._guard = guarded.start(worker, folder, self.log, temporary=True, env=env)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        """Everything the worker says."""
        assert self._folder is not None
        return self._folder / "worker.log"

    def wait_ready(self) -> None:
        """Return once the worker has its partitions.

        Raises:
            InterestError: it ends before, or takes longer than 60 s; with the end of its log.
        """
        deadline = time.monotonic() + START_S
        while READY not in self.log.read_text(errors="replace"):
            self.check()
            if time.monotonic() > deadline:
                raise InterestError(f"the worker was not ready in {START_S:.0f} s; the end of its log:\n{self.tail()}")
            time.sleep(POLL_S)

    def check(self) -> None:
        """Raises InterestError, with the end of its log, if the worker has ended by itself."""
        code = None if self._guard is None else self._guard.poll()
        if code is not None:
            raise InterestError(f"the worker ended with {guarded.how_ended(code)}; the end of its log:\n{self.tail()}")

    def tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:])

    def stop(self) -> None:
        """End the worker and remove its folder."""
        if self._guard is not None:
            guarded.stop(self._guard)
        self._guard = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def environment(settings: Settings, data_dir: Path) -> dict[str, str]:
    """This process's environment with the settings as INTEREST_ variables in place of those that are there."""
    told = settings.model_dump(exclude_none=True, exclude={"instance_id"})
    told |= {"data_dir": data_dir, "log_level": "info"}
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    return kept | {
        PREFIX + name.upper(): ",".join(value) if isinstance(value, tuple) else _shown(value)
        for name, value in told.items()
    }


def _shown(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
