"""The network as an ONNX graph, node by node, with the operators that honour lengths and initial states.

PyTorch's exporters write an LSTM without its lengths or none at all, and their bytes change from version to version;
here the same weights give the same bytes, and a test holds both to the same vectors.
"""

from typing import Any, cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from models.export_cores import array_of, nodes
from models.features import INPUTS
from models.graph import State
from models.network import SCALARS, Encoder

OPSET = 18
IR_VERSION = 9  # of 2023: what ONNX Runtime 1.23 and later surely read


def states(encoder: Encoder) -> tuple[State, ...]:
    """What the graph carries from step to step."""
    return tuple(State(name, width) for name, width in encoder.states.items())


def graph(encoder: Encoder) -> bytes:
    """The serialised graph: the bundle's contract, batch and steps of any size.

    What is known of an item beside its category is added up: `item_rows` holds it.
    """
    sizes, scale = encoder.sizes, np.float32(encoder.sizes.dim**0.5)
    with torch.no_grad():
        own = encoder.own(torch.arange(sizes.items, device=encoder.item_rows.weight.device))
    constants: dict[str, NDArray[Any]] = {
        "item_rows": array_of(own) * scale,
        "type_rows": array_of(encoder.type_rows.weight) * scale,
        "gap_rows": array_of(encoder.gap_rows.weight) * scale,
        "gap_edges": array_of(encoder.gap_edges),
        "head_b": array_of(encoder.head.bias),
        "skip_w": array_of(encoder.skip.weight).T,
        "least_norm": np.array(1e-12, np.float32),
        "last_axis": np.array([-1], np.int64),
        "one": np.array(1, np.int64),
        "zero": np.array(0, np.int64),
    }
    node = helper.make_node
    made = [
        *_items(encoder, constants),
        node("Gather", ["type_rows", "event_type"], ["type_x"]),
        node("Unsqueeze", ["gap", "last_axis"], ["gap_1"]),
        node("GreaterOrEqual", ["gap_1", "gap_edges"], ["gap_above"]),
        node("Cast", ["gap_above"], ["gap_above_int"], to=TensorProto.INT64),
        node("ReduceSum", ["gap_above_int", "last_axis"], ["gap_row"], keepdims=0),
        node("Gather", ["gap_rows", "gap_row"], ["gap_x"]),
    ]
    summed = ["item_x", "type_x", "gap_x"]
    if "category_index" in sizes.inputs:
        constants["category_rows"] = array_of(encoder.category_rows.weight) * scale
        made.append(node("Gather", ["category_rows", "category_index"], ["category_x"]))
        summed.append("category_x")
    if encoder.scalars:
        columns = []
        for name in encoder.scalars:
            least, factor = SCALARS[name]
            constants[f"{name}_least"] = np.array(least, np.float32)
            constants[f"{name}_scale"] = np.array(factor, np.float32)
            made += [
                node("GreaterOrEqual", [name, f"{name}_least"], [f"{name}_above"]),
                node("Cast", [f"{name}_above"], [f"{name}_there"], to=TensorProto.FLOAT),
                node("Mul", [name, f"{name}_there"], [f"{name}_told"]),
                node("Mul", [f"{name}_told", f"{name}_scale"], [f"{name}_value"]),
                node("Unsqueeze", [f"{name}_there", "last_axis"], [f"{name}_there_1"]),
                node("Unsqueeze", [f"{name}_value", "last_axis"], [f"{name}_value_1"]),
            ]
            columns += [f"{name}_there_1", f"{name}_value_1"]
        constants["scalar_w"] = array_of(encoder.scalar.weight).T * scale
        made += [
            node("Concat", columns, ["scalars"], axis=-1),
            node("MatMul", ["scalars", "scalar_w"], ["scalar_x"]),
        ]
        summed.append("scalar_x")
    if "text" in sizes.inputs:
        constants["text_w"] = array_of(encoder.text.weight).T * scale
        made.append(node("MatMul", ["text", "text_w"], ["text_x"]))
        summed.append("text_x")
    made += [
        node("Sum", summed, ["x"]),
        # Where the last event is, and how far each step lies before it: below 0 is padding.
        node("Cast", ["length"], ["length_long"], to=TensorProto.INT64),
        node("Sub", ["length_long", "one"], ["last_step"]),
        node("Unsqueeze", ["last_step", "last_axis"], ["last_step_1"]),
        node("Shape", ["x"], ["steps_1"], start=1, end=2),
        node("Squeeze", ["steps_1"], ["steps_n"]),
        node("Range", ["zero", "steps_n", "one"], ["step"]),
        node("Sub", ["last_step_1", "step"], ["back"]),  # [batch, steps]
        node("GreaterOrEqual", ["back", "zero"], ["back_inside"]),
        node("Cast", ["back_inside"], ["inside"], to=TensorProto.FLOAT),
        node("Cast", ["length"], ["length_float"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["length_float", "last_axis"], ["length_steps"]),
        *nodes(encoder.core, constants),
        node("GatherND", ["x", "last_step_1"], ["x_last"], batch_dims=1),
        node("MatMul", ["x_last", "skip_w"], ["from_last"]),
    ]
    parts = ["from_last", "head_b"]
    if encoder.core.width:
        constants["head_w"] = array_of(encoder.head.weight).T
        made.append(node("MatMul", ["h", "head_w"], ["from_core"]))
        parts.append("from_core")
    means, from_means = _means(encoder, constants)
    made += [
        *means,
        node("Sum", [*parts, *from_means], ["raw"]),
        node("ReduceL2", ["raw", "last_axis"], ["norm"], keepdims=1),
        node("Max", ["norm", "least_norm"], ["norm_safe"]),
        node("Div", ["raw", "norm_safe"], ["vector"]),
    ]
    value, types = helper.make_tensor_value_info, {"int64": TensorProto.INT64, "float": TensorProto.FLOAT}
    takes = []
    for name in sizes.inputs:
        dtype, axes = INPUTS[name]
        takes.append(value(name, types[dtype], [sizes.text if axis == "text" else axis for axis in axes]))
    takes.append(value("length", TensorProto.INT32, ["batch"]))
    takes += [value(name, TensorProto.FLOAT, ["batch", width]) for name, width in encoder.states.items()]
    gives = [value("vector", TensorProto.FLOAT, ["batch", sizes.dim])]
    gives += [value(f"next_{name}", TensorProto.FLOAT, ["batch", width]) for name, width in encoder.states.items()]
    weights = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()]
    model = helper.make_model(
        helper.make_graph(made, "encoder", takes, gives, weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="interest-stream",
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _items(encoder: Encoder, constants: dict[str, NDArray[Any]]) -> list[Any]:
    """The nodes of items' own parts, `item_x`: rows of the catalog, and behind these pairs of code rows."""
    node, sizes = helper.make_node, encoder.sizes
    if not sizes.codes:
        return [node("Gather", ["item_rows", "item_index"], ["item_x"])]
    constants |= {
        "code_rows": array_of(encoder.scaled_codes()) * np.float32(sizes.dim**0.25),  # of two together: √dim
        "items": np.array(sizes.items, np.int64),
        "codes": np.array(sizes.codes, np.int64),
    }
    return [
        node("Less", ["item_index", "items"], ["item_known"]),
        node("Where", ["item_known", "item_index", "zero"], ["item_row"]),
        node("Gather", ["item_rows", "item_row"], ["item_known_x"]),
        node("Sub", ["item_index", "items"], ["code_signed"]),
        node("Max", ["code_signed", "zero"], ["code"]),
        node("Div", ["code", "codes"], ["code_high"]),
        node("Mod", ["code", "codes"], ["code_rest"]),
        node("Add", ["code_rest", "codes"], ["code_low"]),
        node("Gather", ["code_rows", "code_high"], ["code_high_x"]),
        node("Gather", ["code_rows", "code_low"], ["code_low_x"]),
        node("Mul", ["code_high_x", "code_low_x"], ["code_x"]),
        node("Unsqueeze", ["item_known", "last_axis"], ["item_known_1"]),
        node("Where", ["item_known_1", "item_known_x", "code_x"], ["item_x"]),
    ]


def _means(encoder: Encoder, constants: dict[str, NDArray[Any]]) -> tuple[list[Any], list[str]]:
    """The nodes of the means, on `x`, `back`, `inside`, `length_steps`, and the names of their parts of the vector."""
    node, decays = helper.make_node, encoder.sizes.decays
    if not decays:
        return [], []
    carried = "weight_0" in encoder.states
    constants |= {"second_axis": np.array([1], np.int64), "zero_steps": np.array([0], np.int64)}
    made = [
        node("Max", ["back", "zero_steps"], ["back_there"]),
        node("Cast", ["back_there"], ["back_steps"], to=TensorProto.FLOAT),
    ]
    parts = []
    for k, decay in enumerate(decays):
        total, count = (f"next_sum_{k}", f"next_weight_{k}") if carried else (f"new_{k}", f"new_weight_{k}")
        constants[f"decay_{k}"] = np.array(decay, np.float32)
        constants[f"mean_{k}_w"] = array_of(cast(nn.Linear, encoder.mean_skips[k]).weight).T
        made += [
            node("Pow", [f"decay_{k}", "back_steps"], [f"share_{k}"]),
            node("Mul", [f"share_{k}", "inside"], [f"weights_{k}"]),
            node("Unsqueeze", [f"weights_{k}", "second_axis"], [f"weights_{k}_1"]),
            node("MatMul", [f"weights_{k}_1", "x"], [f"new_{k}_1"]),
            node("Squeeze", [f"new_{k}_1", "second_axis"], [f"new_{k}"]),
            node("ReduceSum", [f"weights_{k}", "last_axis"], [f"new_weight_{k}"], keepdims=1),
        ]
        if carried:
            made += [
                node("Pow", [f"decay_{k}", "length_steps"], [f"past_{k}"]),
                node("Mul", [f"sum_{k}", f"past_{k}"], [f"sum_{k}_past"]),
                node("Add", [f"sum_{k}_past", f"new_{k}"], [f"next_sum_{k}"]),
                node("Mul", [f"weight_{k}", f"past_{k}"], [f"weight_{k}_past"]),
                node("Add", [f"weight_{k}_past", f"new_weight_{k}"], [f"next_weight_{k}"]),
            ]
        made += [
            node("Div", [total, count], [f"mean_{k}"]),
            node("MatMul", [f"mean_{k}", f"mean_{k}_w"], [f"from_mean_{k}"]),
        ]
        parts.append(f"from_mean_{k}")
    return made, parts
