"""Runs one command for as long as the process that started it lives. A script of its own: standard library only.

Its parent may be killed with no chance to clean up; what it started must not live on, nor its temporary folder.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time

POLL_S = 0.2
GRACE_S = 15.0
PR_SET_PDEATHSIG = 1


def main(parent: int, folder: str, command: list[str]) -> int:
    """Run `command` until it ends, a signal asks for the end, or process `parent` is our parent no longer.

    `folder`, unless empty, is removed only if the parent has gone: as long as it lives it may want to read there.
    Returns the command's exit code, or 128 and the number of the signal that ended it.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _leave)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_end_with_guard)
    try:
        while child.poll() is None and os.getppid() == parent:
            time.sleep(POLL_S)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        code = _stop(child)
        if folder and os.getppid() != parent:
            shutil.rmtree(folder, ignore_errors=True)
    return code if code >= 0 else 128 - code


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(0)


def _end_with_guard() -> None:
    """In the child: should the guard itself be killed, the kernel (of Linux) ends the command too."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _stop(child: "subprocess.Popen[bytes]") -> int:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
