"""Signals during the demo: raised, told, or ignored; and as before behind it."""

import os
import signal

import pytest

from stream.demo.signals import NUMBERS, Signals


def test_raises() -> None:
    """Each signal raises KeyboardInterrupt and is noted; afterwards the handlers are those from before."""
    before = [signal.getsignal(number) for number in NUMBERS]
    for number in NUMBERS:
        with Signals() as signals:
            assert signals.number == 0
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
            assert signals.number == number
    assert before == [signal.getsignal(number) for number in NUMBERS]


def test_impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one does not disturb what the first began; a later one gets through, should the first be lost."""
    with Signals():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        monkeypatch.setattr("stream.demo.signals.AGAIN_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_listener() -> None:
    """A listener is told instead."""
    told = []
    with Signals() as signals:
        signals.listener = lambda: told.append(signals.number)
        os.kill(os.getpid(), signal.SIGTERM)
    assert told == [signal.SIGTERM]


def test_ignored() -> None:
    """Once so said, a signal changes nothing."""
    with Signals() as signals:
        signals.ignore()
        signal.raise_signal(signal.SIGINT)
        assert signals.number == 0
