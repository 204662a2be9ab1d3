"""Where the demo shows how it stands: a view that fills the terminal, or plain lines."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Final

import click
from rich.console import Console
from rich.live import Live

from stream.demo.report import progress
from stream.demo.state import Board, Snapshot
from stream.demo.view import View

LINE_S: Final = 2.0
LOG_LINES: Final = 4

Show = Callable[[], None]


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def snapshot(board: Board) -> Snapshot:
    """How it stands now."""
    return board.snapshot(time.monotonic(), now_ms())


@contextmanager
def shown(console: Console, board: Board, title: str, hint: str) -> Iterator[Show]:
    """Within the block, calling what is given shows how it stands; call it several times a second."""
    with _log_held_back():
        if console.is_terminal and not console.is_dumb_terminal:
            view = View(title, hint)
            # Drawn when told to, in the one loop that there is: a thread of its own would take turns with the events.
            with Live(console=console, screen=True, auto_refresh=False) as live:
                try:
                    yield lambda: live.update(view.frame(snapshot(board), *console.size), refresh=True)
                finally:
                    console.clear()  # tmux would keep the last frame if the terminal was resized meanwhile
        else:
            yield _lines(console, board)


def _lines(console: Console, board: Board) -> Show:
    """A line every LINE_S seconds, and one when the first update has come."""
    last_s, told = time.monotonic(), False

    def show() -> None:
        nonlocal last_s, told
        now = snapshot(board)
        if now.first_update_s is not None and not told:
            told = True
            console.print(f"first update after {now.first_update_s:.1f} s")
        if time.monotonic() - last_s >= LINE_S:
            last_s = time.monotonic()
            console.print(progress(now))

    return show


@contextmanager
def _log_held_back() -> Iterator[None]:
    """What libraries log comes after the view, not into it: its last lines, each once, on standard error."""
    held = StringIO()
    handler = logging.StreamHandler(held)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        for line in list(dict.fromkeys(held.getvalue().splitlines()))[-LOG_LINES:]:
            click.echo(line, err=True)
