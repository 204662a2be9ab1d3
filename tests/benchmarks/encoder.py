"""The model alone: calls of its graph on a provider, nothing around them."""

import time
from typing import Any

import numpy as np
import onnxruntime

from models.bundle import Bundle, run
from models.features import INPUTS

SECONDS = 0.4  # a figure is the mean of calls that take at least so long, and of three at least


def users_a_second(bundle: Bundle, session: onnxruntime.InferenceSession, users: int, steps: int) -> float:
    """How many users a second get their vector when a call takes `users` and each of them `steps` events."""
    inputs = _inputs(bundle, users, steps)
    random = np.random.default_rng(0)
    states = {state.name: random.uniform(-0.5, 0.5, (users, state.width)).astype(np.float32) for state in bundle.states}
    run(session, bundle.signature, inputs, states)  # the first call of a shape takes memory
    calls, began = 0, time.perf_counter()
    while calls < 3 or time.perf_counter() - began < SECONDS:
        run(session, bundle.signature, inputs, states)
        calls += 1
    return users * calls / (time.perf_counter() - began)


def _inputs(bundle: Bundle, users: int, steps: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    bounds = {
        "item_index": bundle.catalog.items,
        "category_index": bundle.catalog.categories,
        "event_type": len(bundle.event_types),
    }
    inputs: dict[str, Any] = {"length": np.full(users, steps, np.int32)}
    for name in bundle.inputs:
        if name in bounds:
            inputs[name] = random.integers(0, bounds[name], (users, steps))
        else:
            _, axes = INPUTS[name]
            shape = (users, steps, bundle.text_width) if "text" in axes else (users, steps)
            inputs[name] = random.uniform(0, 1, shape).astype(np.float32)
    return inputs
