"""A network that begins where another model ended: a former one of this shop, or a foreign one."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from models.bundle import Bundle
from models.catalog import Catalog
from models.cores import Recurrent
from models.export_cores import ungated
from models.features import HashTable
from models.network import Encoder


def begin(encoder: Encoder, former: Bundle, catalog: Catalog) -> int:
    """Take over what `former` knows: items and categories by id, and every weight of the same name and shape.

    What is known of an item in all becomes its own row, less what its attributes and its reviews say at the start, so
    that the item stands where it stood. Of a model with another graph only the item vectors are taken.

    Returns:
        How many items were found. None is, where the vectors have another number of dimensions.
    """
    if former.dim != encoder.sizes.dim:
        return 0
    scale = former.dim**0.5
    graph = onnx.load_from_string(former.encoder).graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    if isinstance(encoder.core, Recurrent) and encoder.core.kind.upper() not in {node.op_type for node in graph.node}:
        weights = {name: array for name, array in weights.items() if not name.startswith("core_")}
    ours = HashTable.build(former.catalog.item_hashes).find(catalog.item_hashes)
    found = torch.from_numpy(ours > 0)
    rows = weights.get("item_rows")
    if rows is None or rows.shape[0] != former.catalog.items or rows.shape[1] != former.dim:
        rows, scale = former.items, 1.0
    with torch.no_grad():
        whole = torch.from_numpy(rows[ours] / np.float32(scale))
        rest = encoder.own(torch.arange(catalog.items)) - encoder.item_rows.weight
        encoder.item_rows.weight[found] = (whole - rest)[found]
        if scale != 1.0:
            _rest(encoder, former, catalog, weights, np.float32(scale))
    return int(found.sum())


def _rest(
    encoder: Encoder, former: Bundle, catalog: Catalog, weights: dict[str, NDArray[Any]], scale: np.float32
) -> None:
    theirs = HashTable.build(former.catalog.category_hashes).find(catalog.category_hashes)
    categories = weights.get("category_rows")
    if categories is not None and categories.shape == (former.catalog.categories, former.dim):
        known = torch.from_numpy(theirs > 0)
        encoder.category_rows.weight[known] = torch.from_numpy(categories[theirs] / scale)[known]
    _take(encoder.code_rows, former.parts.codes)  # the scale is in them, and begins as 1
    by_scale: dict[str, Tensor] = {
        "type_rows": encoder.type_rows.weight,
        "gap_rows": encoder.gap_rows.weight,
        "scalar_w": encoder.scalar.weight,
        "text_w": encoder.text.weight,
    }
    plain: dict[str, Tensor] = {
        "head_w": encoder.head.weight,
        "head_b": encoder.head.bias,
        "skip_w": encoder.skip.weight,
        **{f"mean_{k}_w": cast(nn.Linear, skip).weight for k, skip in enumerate(encoder.mean_skips)},
    }
    for name, array in weights.items():
        turned: Callable[[NDArray[Any]], NDArray[Any]] = np.transpose if name.endswith("_w") else np.asarray
        if name in by_scale:
            _take(by_scale[name], turned(array / scale))
        elif name in plain:
            _take(plain[name], turned(array))
    for parameter, array in ungated(encoder.core, weights):
        _take(parameter, array)


def _take(parameter: Tensor, array: NDArray[Any]) -> None:
    if parameter.shape == array.shape:
        parameter.copy_(torch.from_numpy(np.array(array, np.float32)))
