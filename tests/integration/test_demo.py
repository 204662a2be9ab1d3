"""The demo as a person runs it: it ends as asked for, says how it went, and leaves nothing behind however it ends."""

import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path

import pytest

from stream.connect import admin
from stream.security import Cluster

INTEREST = [sys.executable, "-c", "from stream.commands import main; main()", "demo"]
END_S = 60
Left = Callable[[], list[str]]


@contextmanager
def demo(temporary: Path, *arguments: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """A running `interest demo` on a pipe, whose temporary folders are made under `temporary`."""
    environment = {**os.environ, "TMPDIR": str(temporary), **settings}
    with subprocess.Popen(
        [*INTEREST, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[str], start: str) -> list[str]:
    """Lines up to the first that starts so."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith(start):
            return seen
    raise AssertionError(seen)


def working_in(folder: Path) -> list[int]:
    """Processes whose working folder lies in `folder`: broker, worker and their guards."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cwd").readlink().is_relative_to(folder):
                    found.append(int(entry.name))
            except OSError:
                continue  # it ended while we looked, or is another's
    return found


@pytest.fixture
def left(tmp_path: Path, request: pytest.FixtureRequest) -> Left:
    """Tells what a demo left: processes, files, and on the broker of the test, if it has one, topics and groups."""
    told = "broker" in request.fixturenames
    before = names_on(request.getfixturevalue("broker")) if told else set()

    def look() -> list[str]:
        more = names_on(request.getfixturevalue("broker")) - before if told else set()
        return [*map(str, working_in(tmp_path)), *map(str, tmp_path.iterdir()), *more]

    return look


def names_on(broker: str) -> set[str]:
    """Topics and groups that are a demo's."""
    with admin(Cluster(broker)) as client:
        names = [*client.list_topics(), *(group["group_id"] for group in client.list_groups())]
    return {name for name in names if name.startswith("interest-demo-")}


def wait_until_gone(left: Left, patience_s: float) -> None:
    """Until nothing is left."""
    deadline = time.monotonic() + patience_s
    while found := left():
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def test_ends_by_itself(broker: str, tmp_path: Path, left: Left) -> None:
    """After so many events all are answered, the summary says so, and the exit code is 0; topics and group are gone."""
    with demo(tmp_path, "--broker", broker, "--events", "300", "--rate", "300", "--partitions", "2") as process:
        shown, told = process.communicate(timeout=END_S)
    assert (process.returncode, told) == (0, "")
    lines = shown.splitlines()
    assert [line.split()[0] for line in lines if not line[0].isdigit()] == [
        *("model", "topics", "worker", "first"),
        *("events", "of", "windows", "updates", "refused", "latency", "start", "user-0"),
    ]
    assert "windows  295 events counted once, 3 known already, 0 too late" in lines
    assert "refused  2 (not_json 1, missing_field 1)" in lines
    assert re.search(r"^events   300 in [\d.]+ s, \d+/s$", shown, re.MULTILINE)
    assert re.search(r"^latency  p50 \d+ ms, p99 \d+ ms from event to update$", shown, re.MULTILINE)
    assert re.search(r"^start    worker [\d.]+ s, first update after [\d.]+ s$", shown, re.MULTILINE)
    assert re.search(r"^user-0   leans to [A-Z][a-z ]+ 0\.\d\d, ", shown, re.MULTILINE)
    assert left() == []


def test_own_broker(tmp_path: Path, left: Left) -> None:
    """Without --broker it brings its own, and takes it along."""
    with demo(tmp_path, "--events", "200") as process:
        shown, told = process.communicate(timeout=END_S)
    assert (process.returncode, told) == (0, "")
    assert re.search(r"^broker   127\.0\.0\.1:\d+, started in [\d.]+ s$", shown, re.MULTILINE)
    assert "windows  197 events counted once, 2 known already, 0 too late" in shown
    assert left() == []


@pytest.mark.parametrize(
    ("number", "wanted", "code"),
    [(signal.SIGINT, [], 0), (signal.SIGTERM, [], 0), (signal.SIGTERM, ["--events", "100000"], 143)],
)
def test_signal(broker: str, tmp_path: Path, left: Left, number: signal.Signals, wanted: list[str], code: int) -> None:
    """Ctrl-C is how it ends, with a summary; only if it was to end by itself, the exit code tells of it."""
    with demo(tmp_path, "--broker", broker, *wanted) as process:
        wait_for(process, "first update after ")
        process.send_signal(number)
        shown, told = process.communicate(timeout=END_S)
    assert (process.returncode, told) == (code, "")
    assert "\nlatency  p50 " in "\n" + shown
    assert left() == []


def test_signal_at_the_start(broker: str, tmp_path: Path, left: Left) -> None:
    """Ctrl-C before there is anything to see ends with 130, quietly; a second signal does not hurt."""
    with demo(tmp_path, "--broker", broker) as process:
        wait_for(process, "topics ")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        shown, told = process.communicate(timeout=END_S)
    assert (process.returncode, told) == (130, "")
    assert "worker" not in shown
    wait_until_gone(left, 5)  # in the middle of starting a process, that one notices by itself


def test_killed(tmp_path: Path, left: Left) -> None:
    """After kill -9 broker, worker and folders go by themselves."""
    with demo(tmp_path) as process:
        wait_for(process, "first update after ")
        assert len(working_in(tmp_path)) == 4
        process.kill()
        process.wait(5)
    wait_until_gone(left, 40)  # a worker without its broker has 15 s to stop


def test_worker_dies(broker: str, tmp_path: Path, left: Left) -> None:
    """A worker that ends is told with the end of its log, and exit code 1. Its group goes when its session is over."""
    short = {"INTEREST_SESSION_TIMEOUT_S": "2", "INTEREST_HEARTBEAT_S": "0.5"}
    with demo(tmp_path, "--broker", broker, "--events", "100000", **short) as process:
        wait_for(process, "first update after ")
        worker = next(
            pid for pid in working_in(tmp_path) if b"guard.py" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(worker, signal.SIGKILL)
        _, told = process.communicate(timeout=END_S)
    assert process.returncode == 1
    assert told.startswith("error: the worker ended with signal 9; the end of its log:\n")
    assert "ready: partitions [0, 1, 2, 3]" in told
    assert left() == []


def test_terminal(broker: str, tmp_path: Path, left: Left) -> None:
    """On a terminal the view has a screen of its own, and gives it back before the summary."""
    controller, terminal = pty.openpty()
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "TMPDIR": str(tmp_path), "TERM": "xterm-256color"}
    command = [*INTEREST, "--broker", broker, "--events", "400"]
    with subprocess.Popen(command, env=environment, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        while True:
            try:
                shown += os.read(controller, 65536)
            except OSError:
                break  # how Linux says that nobody holds the other side
    os.close(controller)
    assert process.returncode == 0
    view, summary = shown.partition(b"\x1b[?1049h")[2].split(b"\x1b[?1049l")
    for part in ("interest demo", "event → update p50", "the vector leans to", "Garden tools", "█"):
        assert part.encode() in view
    assert b"counted once" in summary
    assert left() == []
