"""Makes a worker ill: Python imports this by itself when the folder is on PYTHONPATH. FAULT names what, by commas.

========================  ==================================================================================
clock                     the wall clock is right, an hour ahead and an hour behind in turn; monotonic ones go on
encoder_raises            every call of the model raises
encoder_raises_once       the first does
encoder_slow=SECONDS      the first takes so long
encoder_nan=ROW           windows with the item of this row of the catalog get a vector, and states, that are NaN
encoder_all_nan           all do once the worker has started, golden windows too
end_offsets               nobody knows where a partition ends
========================  ==================================================================================
"""

import os
import time
from collections.abc import Callable, Mapping
from itertools import cycle
from typing import Any

import aiokafka
import numpy as np
from aiokafka.errors import KafkaTimeoutError

import models.golden as _golden
import stream.encode as _encode

#: What is put in their place has no types.
golden: Any = _golden
model: Any = _encode

HOUR_S = 3600.0
#: How many calls in a row see the same wall clock.
STEADY = 5


def clock(_value: str) -> None:
    """Let time.time jump by an hour every few calls."""
    now = time.time
    jumps = cycle([0.0] * STEADY + [HOUR_S] * STEADY + [-HOUR_S] * STEADY)

    def jumping() -> float:
        return now() + next(jumps)

    time.time = jumping


def encoder_raises(_value: str) -> None:
    """Let every call raise."""
    before_encode(lambda _call: fail())


def encoder_raises_once(_value: str) -> None:
    """Let the first call raise."""
    before_encode(lambda call: fail() if call == 0 else None)


def encoder_slow(seconds: str) -> None:
    """Let the first call take long."""
    before_encode(lambda call: time.sleep(float(seconds)) if call == 0 else None)


def fail() -> None:
    """Raise as a model does."""
    raise RuntimeError("the model is ill")


def before_encode(first: Callable[[int], None]) -> None:
    """Do something before each call, by its number."""
    encode, calls = model.Encoder.encode, iter(range(10**9))

    def ill(*arguments: Any) -> Any:
        first(next(calls))
        return encode(*arguments)

    model.Encoder.encode = ill


def encoder_nan(row: str) -> None:
    """Let the graph answer NaN where the item has a part."""
    graph = model.run

    def ill(session: Any, signature: Any, inputs: Mapping[str, Any], states: Mapping[str, Any]) -> Any:
        vectors, after = graph(session, signature, inputs, states)
        struck = (inputs["item_index"] == int(row)).any(axis=1)
        for array in (vectors, *after.values()):
            array[struck] = np.nan
        return vectors, after

    model.run = ill


def encoder_all_nan(_value: str) -> None:
    """Let the graph answer NaN from the first batch on."""
    graph = model.run
    started = False

    def start(_call: int) -> None:
        nonlocal started
        started = True

    def ill(*arguments: Any) -> Any:
        vectors, after = graph(*arguments)
        return (np.full_like(vectors, np.nan) if started else vectors), after

    model.run = golden.run = ill
    before_encode(start)


def end_offsets(_value: str) -> None:
    """Let the question fail."""

    async def nobody_knows(*_arguments: Any) -> None:
        raise KafkaTimeoutError("end offsets: no answer")

    aiokafka.AIOKafkaConsumer.end_offsets = nobody_knows


for fault in filter(None, os.environ.get("FAULT", "").split(",")):
    name, _, value = fault.partition("=")
    globals()[name](value)
