"""Ctrl-C, SIGTERM and SIGHUP while several things run that must be taken down in order."""

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Self

NUMBERS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Within a `with` block, each signal raises KeyboardInterrupt; or is told to `listener`, or ignored, once so said.

    Attributes:
        number: the last signal that came, 0 if none did.
        listener: called instead of raising, in the main thread.
    """

    def __init__(self) -> None:
        self.number = 0
        self.listener: Callable[[], object] | None = None
        self._ignored = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._arrive) for number in NUMBERS}
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ignore(self) -> None:
        """From now on: what is being taken down must not be left halfway. All of it has time limits."""
        self._ignored = True

    def _arrive(self, number: int, _frame: FrameType | None) -> None:
        if self._ignored:
            return
        self.number = number
        if self.listener is None:
            raise KeyboardInterrupt
        self.listener()
