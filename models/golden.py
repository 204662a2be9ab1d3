"""Golden windows and the vectors they must give: the proof that a bundle does here what it did where it was made."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.features import Features
from models.graph import Signature, run, zero_states
from models.windows import Windows
from stream.errors import BundleError

# Absolute, each number of a vector, on every provider: other processors and a GPU add up in another order. TF32 is off.
GOLDEN_TOLERANCE: Final = 1e-4
UNIT_TOLERANCE: Final = 1e-3


@dataclass(frozen=True, eq=False)
class Golden:
    """Windows as the table stores them, and each one's vector float32 [windows, dim]."""

    windows: Windows
    vectors: NDArray[np.float32]


def whole(
    session: onnxruntime.InferenceSession, signature: Signature, features: Features, windows: Windows
) -> NDArray[np.float32]:
    """Vectors float32 [windows, dim], each window run whole from zero state."""
    return run(session, signature, windows.inputs(features), zero_states(signature, len(windows)))[0]


def stepped(
    session: onnxruntime.InferenceSession, signature: Signature, features: Features, windows: Windows
) -> NDArray[np.float32]:
    """Vectors float32 [windows, dim], one event at a time from zero state, states carried."""
    states = zero_states(signature, len(windows))
    vectors = np.zeros((len(windows), signature.dim), np.float32)
    for step in range(windows.events.shape[1]):
        rows = np.flatnonzero(windows.length > step)
        if not len(rows):
            break
        before = {name: array[rows] for name, array in states.items()}
        vectors[rows], after = run(session, signature, windows.step_inputs(features, step, rows), before)
        for name, array in after.items():
            states[name][rows] = array
    return vectors


def check(
    session: onnxruntime.InferenceSession, signature: Signature, features: Features, golden: Golden, where: str
) -> float:
    """Run every golden window whole and, if the model carries states, stepped; the largest absolute deviation.

    Raises:
        BundleError: a number is off by more than GOLDEN_TOLERANCE or not finite, or a vector is not of unit length;
            names `where` and the window.
    """
    largest = 0.0
    ways = {"run whole": whole, "stepped": stepped} if signature.states else {"run whole": whole}
    for way, compute in ways.items():
        try:
            vectors = compute(session, signature, features, golden.windows)
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise BundleError(f"{where}: golden windows, {way}, cannot be computed: {reason}") from error
        if vectors.shape != golden.vectors.shape:
            raise BundleError(
                f"{where}: golden windows, {way}: vectors expected "
                f"{list(golden.vectors.shape)}, got {list(vectors.shape)}"
            )
        deviation = np.abs(vectors - golden.vectors).max(axis=1)
        bad = np.flatnonzero(~(deviation <= GOLDEN_TOLERANCE))
        if len(bad):
            raise BundleError(
                f"{where}: golden window {bad[0]} ({golden.windows.length[bad[0]]} events, {way}) expected its stored "
                f"vector within {GOLDEN_TOLERANCE:g}, got a deviation of {deviation[bad[0]]:g}; "
                f"the model does not do here what it did where it was made: train or export it again"
            )
        length = np.linalg.norm(vectors, axis=1)
        bad = np.flatnonzero(np.abs(length - 1) > UNIT_TOLERANCE)
        if len(bad):
            raise BundleError(
                f"{where}: golden window {bad[0]} expected a vector of unit length, got length {length[bad[0]]:g}"
            )
        largest = max(largest, float(deviation.max()))
    return largest
