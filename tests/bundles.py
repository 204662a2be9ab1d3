"""Bundles with random weights, made without PyTorch, for any catalog: every input of the contract moves the vector."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.bundle import Bundle, Catalog, State, TextVectors, Windows, write
from models.features import text_tokens
from stream import contract

EVENT_TYPES = ("other", *contract.EVENT_TYPES)
INPUTS = ("item_index", "category_index", "event_type", "gap", "price", "quantity", "rating", "text")
WORDS = (
    "good",
    "bad",
    "fast",
    "slow",
    "light",
    "heavy",
    "warm",
    "cold",
    "cheap",
    "fine",
    "很好",
    "不错",
    "便宜",
    "质量",
    "太差",
)


def random_bundle(
    folder: Path | str,
    *,
    item_ids: Sequence[str],
    item_categories: Sequence[str],
    category_ids: Sequence[str] | None = None,
    item_names: Sequence[str] | None = None,
    category_names: Sequence[str] | None = None,
    event_types: tuple[str, ...] = EVENT_TYPES,
    hidden: int = 32,
    dim: int = 16,
    seed: int = 0,
    text_width: int = 8,
    words: Sequence[str] = WORDS,
) -> Bundle:
    """A bundle of one LSTM with random weights, states `hidden` and `cell`, and every input of the contract.

    Weights are large enough that order, gaps and each feature visibly move the vector. Reviews speak through the tokens
    of `words`. `item_categories` are category ids of the items, "" for none; `category_ids` defaults to those.
    """
    random = np.random.default_rng(seed)
    if category_ids is None:
        category_ids = [name for name in dict.fromkeys(item_categories) if name]
    catalog = Catalog.build(
        item_ids=item_ids,
        item_categories=item_categories,
        category_ids=category_ids,
        item_names=item_names,
        category_names=category_names,
    )
    items = random.standard_normal((catalog.items, dim), dtype=np.float32)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    items[0] = 0
    hashes = np.unique(np.array([token for word in words for token in text_tokens(word)], np.uint32))
    text = TextVectors(
        hashes=hashes,
        vectors=random.standard_normal((len(hashes), text_width), dtype=np.float32),
        weights=random.uniform(0.5, 2, len(hashes)).astype(np.float32),
    )
    graph = lstm_graph(
        items=catalog.items,
        categories=catalog.categories,
        types=len(event_types),
        hidden=hidden,
        dim=dim,
        text_width=text_width,
        random=random,
    )
    return write(
        folder,
        encoder=graph,
        catalog=catalog,
        items=items,
        text=text,
        event_types=event_types,
        states=(State("hidden", hidden), State("cell", hidden)),
        inputs=INPUTS,
        golden_windows=random_windows(item_ids, item_categories, lengths=(1, 2, 3, 50), random=random, words=words),
        command="tests.bundles.random_bundle",
    )


def small_bundles(folder: Path, count: int) -> list[Bundle]:
    """Some of the smallest that differ, each in its own folder: two items of one category, two numbers a vector."""
    return [
        random_bundle(folder / str(seed), item_ids=["x", "y"], item_categories=["k", "k"], hidden=2, dim=2, seed=seed)
        for seed in range(count)
    ]


def random_windows(
    item_ids: Sequence[str],
    item_categories: Sequence[str],
    *,
    lengths: Sequence[int],
    random: np.random.Generator,
    words: Sequence[str] = WORDS,
) -> Windows:
    """Windows of the given lengths with every kind of event: known and unknown items, reviews with and without text."""
    windows = []
    for length in lengths:
        events = np.zeros(length, contract.EVENT_DTYPE)
        tokens: list[list[int] | None] = []
        time = 1_511_658_000_000 + int(random.integers(0, 10**9))
        for event in events:
            time += int(random.exponential(10.0 ** random.integers(1, 8)))
            item = int(random.integers(0, len(item_ids) + 1))
            event["timestamp"] = time
            event["item"] = contract.hash64(item_ids[item] if item < len(item_ids) else "an item nobody knows")
            if item < len(item_ids) and item_categories[item] and random.random() < 0.7:
                event["category"] = contract.hash32(item_categories[item])
            event["type"] = random.integers(1, 6)
            if random.random() < 0.5:
                event["price"] = contract.amount_code(float(random.gamma(2, 50)))
                event["quantity"] = contract.amount_code(int(random.integers(1, 5)))
            review = event["type"] == contract.EVENT_TYPES["review"]
            if review:
                event["rating"] = 10 * random.integers(1, 6)
            tokens.append(text_tokens(" ".join(random.choice(words, 4))) if review else None)
        windows.append((events, tokens))
    return Windows.pack(windows)


def lstm_graph(
    *, items: int, categories: int, types: int, hidden: int, dim: int, text_width: int, random: np.random.Generator
) -> bytes:
    """Sum of embeddings, scalars and text → ONNX LSTM with lengths and initial states → linear → unit length."""

    def weights(*shape: int, scale: float = 1.0) -> NDArray[np.float32]:
        return random.standard_normal(shape, dtype=np.float32) * np.float32(scale)

    constants: dict[str, NDArray[Any]] = {
        "item_rows": weights(items, hidden),
        "category_rows": weights(categories, hidden),
        "type_rows": weights(types, hidden),
        "scalar_rows": weights(4, hidden, scale=0.5),
        "text_rows": weights(text_width, hidden),
        "lstm_w": weights(1, 4 * hidden, hidden, scale=0.8 / hidden**0.5),
        "lstm_r": weights(1, 4 * hidden, hidden, scale=1 / hidden**0.5),
        "lstm_b": weights(1, 8 * hidden, scale=0.1),
        "head": weights(hidden, dim, scale=hidden**-0.5),
        "first": np.array([0], np.int64),
        "last": np.array([-1], np.int64),
        "two": np.array(2, np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Gather", ["item_rows", "item_index"], ["item_x"]),
        node("Gather", ["category_rows", "category_index"], ["category_x"]),
        node("Gather", ["type_rows", "event_type"], ["type_x"]),
        node("Add", ["gap", "two"], ["gap_two"]),  # -1 (first) and 0 (at once) stay apart under the logarithm
        node("Log", ["gap_two"], ["gap_log"]),
        *[node("Unsqueeze", [name, "last"], [f"{name}_1"]) for name in ("gap_log", "price", "quantity", "rating")],
        node("Concat", ["gap_log_1", "price_1", "quantity_1", "rating_1"], ["scalars"], axis=-1),
        node("MatMul", ["scalars", "scalar_rows"], ["scalar_x"]),
        node("MatMul", ["text", "text_rows"], ["text_x"]),
        node("Sum", ["item_x", "category_x", "type_x", "scalar_x", "text_x"], ["x"]),
        node("Transpose", ["x"], ["x_steps"], perm=[1, 0, 2]),
        node("Unsqueeze", ["hidden", "first"], ["hidden_1"]),
        node("Unsqueeze", ["cell", "first"], ["cell_1"]),
        node(
            "LSTM",
            ["x_steps", "lstm_w", "lstm_r", "lstm_b", "length", "hidden_1", "cell_1"],
            ["", "hidden_n", "cell_n"],
            hidden_size=hidden,
        ),
        node("Squeeze", ["hidden_n", "first"], ["next_hidden"]),
        node("Squeeze", ["cell_n", "first"], ["next_cell"]),
        node("MatMul", ["next_hidden", "head"], ["raw"]),
        node("ReduceL2", ["raw", "last"], ["norm"], keepdims=1),
        node("Div", ["raw", "norm"], ["vector"]),
    ]
    steps = ["batch", "steps"]
    value, real, whole = helper.make_tensor_value_info, TensorProto.FLOAT, TensorProto.INT64
    graph = helper.make_graph(
        nodes,
        "encoder",
        [
            *[value(name, whole, steps) for name in ("item_index", "category_index", "event_type")],
            *[value(name, real, steps) for name in ("gap", "price", "quantity", "rating")],
            value("text", real, [*steps, text_width]),
            value("length", TensorProto.INT32, ["batch"]),
            value("hidden", real, ["batch", hidden]),
            value("cell", real, ["batch", hidden]),
        ],
        [
            value("vector", real, ["batch", dim]),
            value("next_hidden", real, ["batch", hidden]),
            value("next_cell", real, ["batch", hidden]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
