"""A command as a child that never outlives this process, even if that is killed (stream/guard.py sees to it)."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

STOP_S = 20.0  # above the guard's own grace
SIGNALLED = 128  # the guard ends with this and the signal's number where the command was ended by one


def start(
    command: Sequence[str], folder: Path, log: Path, *, temporary: bool, env: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Run a command in `folder`, which the guard removes if it is `temporary` and this process has gone.

    Everything the command says goes to `log`. It has a session of its own: Ctrl-C in a terminal reaches this process
    only, which ends its children in the right order.
    """
    guard = [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py")), str(os.getpid())]
    guard.append(str(folder) if temporary else "")
    with log.open("wb") as output:
        return subprocess.Popen(
            [*guard, *command],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End it, by force where it takes too long; nothing happens if it has ended."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def how_ended(code: int) -> str:
    """An exit code of the guard in words."""
    return f"signal {code - SIGNALLED}" if code > SIGNALLED else f"code {code}"
