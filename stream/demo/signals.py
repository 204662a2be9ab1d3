"""Ctrl-C, SIGTERM and SIGHUP while several things run that must be taken down in order."""

import math
import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Self

NUMBERS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_S: Final = 5.0


class Signals:
    """Within a `with` block, a signal raises KeyboardInterrupt; or is told to `listener`, or ignored, once so said.

    Another that follows within AGAIN_S does not raise: what was just starting is being taken down.

    Attributes:
        number: the first signal that came, 0 if none did.
        listener: called instead of raising, in the main thread.
    """

    def __init__(self) -> None:
        self.number = 0
        self.listener: Callable[[], object] | None = None
        self._ignored = False
        self._raised_s = -math.inf
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
        self.number = self.number or number
        if self.listener is not None:
            self.listener()
        elif time.monotonic() - self._raised_s > AGAIN_S:
            self._raised_s = time.monotonic()
            raise KeyboardInterrupt
