"""The ONNX nodes of each core of models.cores: from `x` [batch, steps, dim] to `h` [batch, width] and new states."""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor, nn

from models.cores import WIDTHS, AnyCore, Convolution, Mean, Nothing, Recurrent

Constants = dict[str, NDArray[Any]]


def nodes(core: AnyCore, constants: Constants) -> list[Any]:
    """Nodes on `x`, `length` (int32), `length_steps` (float [batch, 1]), `inside` (float [batch, steps]) and states.

    Adds what they need to `constants`. They give `h`, if the core has any, and `next_NAME` of each of its states.
    """
    if isinstance(core, Recurrent):
        return _recurrent(core, constants)
    if isinstance(core, Convolution):
        return _convolution(core, constants)
    return _mean(core, constants) if isinstance(core, Mean) else []


def array_of(tensor: Tensor) -> NDArray[np.float32]:
    """A copy of a weight."""
    array: NDArray[np.float32] = tensor.detach().cpu().numpy().copy()
    return array


def _recurrent(core: Recurrent, constants: Constants) -> list[Any]:
    """One operator that honours lengths and initial states."""
    node = helper.make_node
    weights = {name: _gates(core.kind, weight) for name, weight in core.layer.named_parameters()}
    constants |= {
        "core_w": weights["weight_ih_l0"][None],
        "core_r": weights["weight_hh_l0"][None],
        "core_b": np.concatenate([weights["bias_ih_l0"], weights["bias_hh_l0"]])[None],
        "first_axis": np.array([0], np.int64),
    }
    before = [f"{name}_1" for name in core.states]
    after = ["hidden_n", "cell_n"][: len(before)]
    options: dict[str, Any] = {"hidden_size": core.width} | ({"linear_before_reset": 1} if core.kind == "gru" else {})
    return [
        node("Transpose", ["x"], ["x_steps"], perm=[1, 0, 2]),
        *(node("Unsqueeze", [name, "first_axis"], [f"{name}_1"]) for name in core.states),
        node(core.kind.upper(), ["x_steps", "core_w", "core_r", "core_b", "length", *before], ["", *after], **options),
        *(node("Squeeze", [new, "first_axis"], [f"next_{name}"]) for name, new in zip(core.states, after, strict=True)),
        node("Identity", ["next_hidden"], ["h"]),
    ]


#: ONNX's gates by their places among PyTorch's: input, forget, cell, output; or reset, update, new.
_ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}


def _gates(kind: str, tensor: Tensor) -> NDArray[np.float32]:
    """From PyTorch's order of gates to ONNX's."""
    parts = np.split(array_of(tensor), len(_ORDER[kind]))
    return np.concatenate([parts[k] for k in _ORDER[kind]])


def ungated(core: AnyCore, constants: Constants) -> list[tuple[Tensor, NDArray[Any]]]:
    """The core's weights, each with the array of a graph of the same kind of core; what it lacks is left out."""
    if isinstance(core, Convolution):
        return [
            (tensor, constants[name])
            for width, conv in zip(WIDTHS, cast(list[nn.Conv1d], list(core.filters)), strict=True)
            for name, tensor in ((f"filter_{width}_w", conv.weight), (f"filter_{width}_b", cast(Tensor, conv.bias)))
            if name in constants
        ]
    if not {"core_w", "core_b"} <= set(constants) or isinstance(core, Nothing):
        return []
    if isinstance(core, Mean):
        return [(core.layer.weight, constants["core_w"].T), (core.layer.bias, constants["core_b"])]
    if "core_r" not in constants:
        return []
    order = np.argsort(_ORDER[core.kind])
    biases = np.split(constants["core_b"][0], 2)
    arrays = (constants["core_w"][0], constants["core_r"][0], *biases)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    weights = dict(core.layer.named_parameters())
    return [
        (weights[name], np.concatenate([np.split(array, len(order))[k] for k in order]))
        for name, array in zip(names, arrays, strict=True)
        if len(array) % len(order) == 0
    ]


def _convolution(core: Convolution, constants: Constants) -> list[Any]:
    node = helper.make_node
    constants["middle_axis"] = np.array([1], np.int64)
    constants["steps_axis"] = np.array([2], np.int64)
    made, answers = [node("Transpose", ["x"], ["x_turned"], perm=[0, 2, 1])], []
    for width, conv in zip(WIDTHS, cast(list[nn.Conv1d], list(core.filters)), strict=True):
        constants[f"filter_{width}_w"] = array_of(conv.weight)
        constants[f"filter_{width}_b"] = array_of(cast(Tensor, conv.bias))
        made.append(
            node(
                "Conv",
                ["x_turned", f"filter_{width}_w", f"filter_{width}_b"],
                [f"filter_{width}"],
                kernel_shape=[width],
                pads=[width - 1, 0],
            )
        )
        answers.append(f"filter_{width}")
    return [
        *made,
        node("Concat", answers, ["answers"], axis=1),
        node("Relu", ["answers"], ["answers_positive"]),
        node("Unsqueeze", ["inside", "middle_axis"], ["inside_middle"]),
        node("Mul", ["answers_positive", "inside_middle"], ["answers_inside"]),
        node("ReduceMax", ["answers_inside", "steps_axis"], ["h"], keepdims=0),
    ]


def _mean(core: Mean, constants: Constants) -> list[Any]:
    node = helper.make_node
    constants |= {
        "middle_axis": np.array([1], np.int64),
        "core_w": array_of(core.layer.weight).T,
        "core_b": array_of(core.layer.bias),
    }
    return [
        node("Unsqueeze", ["inside", "middle_axis"], ["inside_middle"]),
        node("MatMul", ["inside_middle", "x"], ["x_sum_1"]),
        node("Squeeze", ["x_sum_1", "middle_axis"], ["x_sum"]),
        node("Div", ["x_sum", "length_steps"], ["x_mean"]),
        node("MatMul", ["x_mean", "core_w"], ["core_raw"]),
        node("Add", ["core_raw", "core_b"], ["core_biased"]),
        node("Relu", ["core_biased"], ["h"]),
    ]
