"""The encoder's graph in ONNX Runtime: opened, compared with what its bundle says, run."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.external import has_external_data
from models.features import INPUTS
from models.provider import open_session
from stream.errors import BundleError

_TYPES = {"tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(float)": "float"}
_AGAIN = "export the model again with `interest model train`"


@dataclass(frozen=True)
class State:
    """An array that the model carries from step to step: graph input NAME, output next_NAME, float32 [batch, width]."""

    name: str
    width: int


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs that a graph must have."""

    inputs: tuple[str, ...]  # of INPUTS, without `length`, which every graph has
    states: tuple[State, ...]
    text_width: int
    dim: int

    def tensors(self) -> tuple[dict[str, tuple[str, tuple[object, ...]]], dict[str, tuple[str, tuple[object, ...]]]]:
        """Dtype and axes by name, of the inputs and of the outputs; an axis is a size, or a name where it is free."""
        inputs: dict[str, tuple[str, tuple[object, ...]]] = {}
        for name in (*self.inputs, "length"):
            dtype, axes = INPUTS[name]
            inputs[name] = dtype, tuple(self.text_width if axis == "text" else axis for axis in axes)
        outputs: dict[str, tuple[str, tuple[object, ...]]] = {"vector": ("float", ("batch", self.dim))}
        for state in self.states:
            inputs[state.name] = outputs[f"next_{state.name}"] = "float", ("batch", state.width)
        return inputs, outputs


def open_graph(
    graph: bytes, signature: Signature, *, provider: str = "cpu", threads: int = 1
) -> onnxruntime.InferenceSession:
    """A session on `provider` ("cpu" or "cuda", float32 without TF32) with inputs and outputs checked.

    Raises:
        BundleError: the graph cannot be read, keeps data in other files, or has other inputs or outputs, or the
            provider is not to be had here.
    """
    try:
        is_external = has_external_data(graph)
    except ValueError as error:
        said = f"expected a graph that ONNX Runtime can open, got: {error}"
        raise BundleError(f"encoder.onnx: {said}; {_AGAIN}") from error
    if is_external:
        raise BundleError(f"encoder.onnx: expected a graph with all its data in it, got one that names files; {_AGAIN}")
    session = open_session(graph, provider, threads)
    inputs, outputs = signature.tensors()
    _compare("input", session.get_inputs(), inputs)
    _compare("output", session.get_outputs(), outputs)
    return session


def _compare(kind: str, got: list[Any], expected: dict[str, tuple[str, tuple[object, ...]]]) -> None:
    by_name = {tensor.name: tensor for tensor in got}
    for name, (dtype, axes) in expected.items():
        said = f"encoder.onnx: {kind} {name!r} expected {_show(dtype, axes)}"
        if name not in by_name:
            raise BundleError(f"{said}, got none of that name but {', '.join(sorted(by_name)) or 'nothing'}; {_AGAIN}")
        tensor = by_name[name]
        shape = tuple(tensor.shape or ())
        # Only an output may leave its shape open: what comes out is seen when golden vectors are compared.
        fits = (kind == "output" and not shape) or (
            len(shape) == len(axes)
            and all(
                size == axis or not isinstance(size, int) if isinstance(axis, int) else not isinstance(size, int)
                for size, axis in zip(shape, axes, strict=True)
            )
        )
        got_dtype = _TYPES.get(tensor.type, tensor.type)
        if got_dtype != dtype or not fits:
            raise BundleError(f"{said}, got {_show(got_dtype, shape)}; {_AGAIN}")
    unknown = sorted(set(by_name) - set(expected))
    if unknown:
        raise BundleError(f"encoder.onnx: {kind} {unknown[0]!r} is not in bundle.json; {_AGAIN}")


def _show(dtype: str, axes: tuple[object, ...]) -> str:
    return f"{dtype} [{', '.join('?' if axis is None else str(axis) for axis in axes)}]"


def zero_states(signature: Signature, batch: int) -> dict[str, NDArray[np.float32]]:
    """The states before the first event of a window, float32 [batch, width] each."""
    return {state.name: np.zeros((batch, state.width), np.float32) for state in signature.states}


def warm(session: onnxruntime.InferenceSession, signature: Signature, rows: int, steps: int) -> None:
    """One call of so many rows and steps, of zeros."""
    sizes = {"batch": rows, "steps": steps}
    inputs: dict[str, NDArray[Any]] = {}
    for name, (dtype, axes) in signature.tensors()[0].items():
        shape = [sizes[axis] if isinstance(axis, str) else int(str(axis)) for axis in axes]
        inputs[name] = np.zeros(shape, "float32" if dtype == "float" else dtype)
    inputs["length"] += steps
    session.run(None, inputs)


def run(
    session: onnxruntime.InferenceSession,
    signature: Signature,
    inputs: dict[str, NDArray[Any]],
    states: dict[str, NDArray[np.float32]],
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """One call: vectors float32 [batch, dim] and the new states. Without any row: no call."""
    if not len(inputs["length"]):
        return np.zeros((0, signature.dim), np.float32), states
    names = ["vector", *(f"next_{state.name}" for state in signature.states)]
    vector, *after = session.run(names, {**inputs, **states})
    return vector, {state.name: array for state, array in zip(signature.states, after, strict=True)}
