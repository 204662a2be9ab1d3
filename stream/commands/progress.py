"""Progress of a long command: a bar on a terminal, plain lines elsewhere; both on standard error."""

import os
import stat
import time
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

PLAIN_EVERY_S = 5.0


class CountProgress:
    """Shows how much of a number of things is done, in a `with` block; None: how many there are is not known."""

    def __init__(self, total: int | None = None) -> None:
        self._total = total
        self._console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._told = time.monotonic()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            columns = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()]
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.add_task("", total=self._total)
            self._bar.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, line: str) -> None:
        """A line of its own, above the bar."""
        self._console.print(line) if self._bar else click.echo(line, err=True)

    def show(self, done: str, completed: int = 0) -> None:
        """What is done so far, in words and as part of the total."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=done, completed=completed)
        elif time.monotonic() - self._told >= PLAIN_EVERY_S:
            self._told = time.monotonic()
            click.echo(done, err=True)


class FileProgress(CountProgress):
    """Shows how much of an open file is read. A pipe has no end that could be told beforehand."""

    def __init__(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self._descriptor = descriptor
        super().__init__(status.st_size if stat.S_ISREG(status.st_mode) else None)

    def show(self, done: str, completed: int = 0) -> None:
        """What is done so far, in words; the file's position is read here."""
        position = os.lseek(self._descriptor, 0, os.SEEK_CUR) if self._bar and self._total else completed
        super().show(done, position)
