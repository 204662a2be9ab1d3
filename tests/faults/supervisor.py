"""Runs workers as pods are run: one that ends is started again, on the same data and with the same settings."""

import contextlib
import re
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.integration.conftest import Names
from tests.integration.workers import Worker

POLL_S = 0.1
BACKOFF_S = 0.5
BACKOFF_MAX_S = 8.0
STEADY_S = 20.0  # what lived so long is started again after the shortest backoff
END_S = 60.0
PEAK = re.compile(r"VmHWM:\s*(\d+) kB")


class Pod:
    """One worker after the other on one data folder."""

    def __init__(self, name: str, data_dir: Path, make: Callable[[], Worker], *, proxied: bool) -> None:
        self.name = name
        self.proxied = proxied
        self.data_dir = data_dir
        self._make = make
        self.exits: list[int] = []
        self.peak_bytes = 0
        self.wanted = True
        self.workers = [make()]
        self._started = time.monotonic()
        self._backoff_s = BACKOFF_S
        self._again_at = 0.0

    @property
    def worker(self) -> Worker:
        """The last that was started."""
        return self.workers[-1]

    @property
    def runs(self) -> bool:
        """Whether a worker runs now."""
        return self.worker.process.poll() is None

    @property
    def said(self) -> str:
        """All that its workers said, one after the other."""
        return "".join(worker.said for worker in self.workers)

    @property
    def ready(self) -> bool:
        """Whether the worker that runs has said so."""
        return self.runs and "ready: partitions" in self.worker.said

    def partitions(self) -> list[int]:
        """The partitions that it works on now, as it says."""
        return self.worker.partitions() if self.runs else []

    def look(self) -> None:
        """Note memory and the end of a worker, and start the next when it is time."""
        if self.runs:
            with contextlib.suppress(OSError):  # it ended while we looked
                status = Path(f"/proc/{self.worker.process.pid}/status").read_text()
                if found := PEAK.search(status):
                    self.peak_bytes = max(self.peak_bytes, int(found[1]) * 1024)
            return
        now = time.monotonic()
        if len(self.exits) < len(self.workers):
            self.exits.append(self.worker.process.returncode)
            if now - self._started > STEADY_S:
                self._backoff_s = BACKOFF_S
            self._again_at = now + self._backoff_s
            self._backoff_s = min(BACKOFF_MAX_S, 2 * self._backoff_s)
        if self.wanted and now >= self._again_at:
            self._started = now
            self.workers.append(self._make())


class Supervisor:
    """A fleet of workers; a context, which ends them all. Its settings are those of every worker."""

    def __init__(self, names: Names, model: Path, folder: Path, **settings: object) -> None:
        self._names = names
        self._model = model
        self._folder = folder
        self._settings = settings
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor")
        self.pods: list[Pod] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        for pod in self.pods:
            if pod.runs:
                pod.worker.process.send_signal(signal.SIGKILL)
                pod.worker.process.wait(END_S)
            if error is not None:
                error.add_note(f"pod {pod.name} ended with {pod.exits}; it said last:\n{pod.said[-4000:]}")

    def add(self, *, proxied: bool, **settings: object) -> Pod:
        """One pod more, with settings of its own."""
        name = f"pod{len(self.pods)}"
        data_dir, settings = self._folder / name, {**self._settings, **settings}
        pod = Pod(name, data_dir, partial(Worker, self._names, self._model, data_dir, **settings), proxied=proxied)
        with self._lock:
            self.pods.append(pod)
        return pod

    def remove(self, pod: Pod) -> int:
        """SIGTERM for good; the exit code."""
        self.keep_down(pod)
        return self.terminate(pod)

    def terminate(self, pod: Pod) -> int:
        """SIGTERM; the exit code. The next worker starts by itself, unless the pod is kept down."""
        process = pod.worker.process
        process.send_signal(signal.SIGTERM)
        code = process.wait(END_S)
        with self._lock:
            pod.look()
        return code

    def keep_down(self, pod: Pod) -> None:
        """Start it no more once it has ended, until `bring_back`."""
        with self._lock:
            pod.wanted = False

    def bring_back(self, pod: Pod) -> None:
        """Start it again."""
        with self._lock:
            pod.wanted = True

    def kill(self, pod: Pod, *, lose_state: bool = False) -> float:
        """kill -9, and the data folder away before the next worker starts; when it was, by time.monotonic."""
        with self._lock:  # so that no worker is started meanwhile
            at = time.monotonic()
            pod.worker.process.send_signal(signal.SIGKILL)
            pod.worker.process.wait(END_S)
            if lose_state:
                shutil.rmtree(pod.data_dir)
        return at

    def pause(self, pod: Pod) -> float:
        """SIGSTOP; when it was, by time.monotonic."""
        pod.worker.process.send_signal(signal.SIGSTOP)
        return time.monotonic()

    def resume(self, pod: Pod) -> None:
        """SIGCONT."""
        pod.worker.process.send_signal(signal.SIGCONT)

    @property
    def exits(self) -> Counter[int]:
        """Exit codes so far; below 0: the signal that ended it."""
        return Counter(code for pod in self.pods for code in pod.exits)

    def _run(self) -> None:
        while not self._ended.wait(POLL_S):
            with self._lock:
                for pod in self.pods:
                    pod.look()
