"""Items added to a bundle without training: each stands where what is known of it says, and all others stay."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from sklearn.linear_model import Ridge

from models.bundle import Bundle, Catalog, Parts, Probability
from models.features import HashTable
from models.log import Log
from stream.errors import UsageError

REACH: Final = 5  # events apart that two items of a user count as standing together
DOUBT: Final = 5.0  # neighbours' weight at which they count as much as text and attributes do
TOLD_MIN: Final = 50  # known items with text or attributes, to learn from what these say of an item
RIDGE: Final = 1.0

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Refreshed:
    """The parts of a bundle with more items; arguments of models.bundle.write."""

    encoder: bytes
    catalog: Catalog
    items: Floats
    parts: Parts
    probability: Probability | None
    added: int
    by: dict[str, int]  # how many of them have `neighbours`, `text or attributes`, a `category` alone
    left_out: int  # items of which nothing is known


def refresh(bundle: Bundle, log: Log, say: Callable[[str], None] = lambda line: None) -> Refreshed:
    """Add the items of `log` and its catalog that `bundle` lacks, in the space that it has.

    An item is put at w = (n · neighbours + DOUBT · told) / (n + DOUBT), where w = e + A[category] is the sum of which
    models.network.Encoder makes an item's vector:

    - neighbours: the mean w of known items that stood within REACH events of it, each by its cosine (pairs over the
      root of the product of the numbers of events), n the number of pairs;
    - told: what a ridge regression over the known items says of the mean text of its reviews and of its attributes;
      without these its category's A, or else nothing, and the neighbours alone count.

    An item of which nothing is known is its code if the bundle has some, and else stays unknown. Rows of items that
    were there, and weights, are not touched: vectors and scores stay.

    Raises:
        UsageError: the bundle's graph has no rows that can be added to, or there is nothing to add.
    """
    graph = onnx.load_from_string(bundle.encoder)
    tables = {tensor.name: tensor for tensor in graph.graph.initializer}
    known, dim = bundle.catalog.items, bundle.dim
    rows = numpy_helper.to_array(tables["item_rows"]) if "item_rows" in tables else np.zeros((0, 0), np.float32)
    if rows.shape != (known, dim):
        raise UsageError(
            f"{bundle.folder}: expected a graph of `interest model train`, with rows of items, got another"
        )
    catalog = _grown(bundle, log)
    if catalog.items == known:
        raise UsageError("expected items that the bundle lacks, in the log or in --catalog, got none")
    scale = np.float32(dim**0.5)
    categories = bundle.parts.categories
    grown = np.concatenate([categories, np.zeros((catalog.categories - len(categories), dim), np.float32)])
    whole: Floats = (rows / scale + grown[catalog.item_category[:known]]).astype(np.float32)
    mean, weight = _neighbours(bundle, log, catalog, whole)
    told = _told(bundle, log, catalog, whole)
    new = slice(known, catalog.items)
    of_category = grown[catalog.item_category[new]]
    prior = np.where(told[new].any(axis=1, keepdims=True), told[new], of_category)
    doubt = DOUBT * np.any(prior != 0, axis=1).astype(np.float32)
    vectors = (weight[new, None] * mean[new] + doubt[:, None] * prior) / np.maximum(weight[new] + doubt, 1e-12)[:, None]
    if len(bundle.parts.codes):
        nothing = ~(weight[new] > 0) & ~told[new].any(axis=1)
        vectors[nothing] += bundle.parts.signs(catalog.item_hashes[new][nothing])
    e = vectors - of_category
    length = np.linalg.norm(vectors, axis=1)
    usable = np.flatnonzero(length > 0)
    if not len(usable):
        raise UsageError(
            f"expected items of which something is known, got {len(e)} without category, text or neighbour"
        )
    catalog = _only(catalog, known, usable)
    by = {
        "neighbours": int((weight[new][usable] > 0).sum()),
        "text or attributes": int(told[new][usable].any(axis=1).sum()),
        "category": int((catalog.item_category[known:] > 0).sum()),
    }
    _set(tables["item_rows"], np.concatenate([rows, e[usable] * scale]))
    if "category_rows" in tables:
        theirs = numpy_helper.to_array(tables["category_rows"])
        more = np.zeros((catalog.categories - len(theirs), dim), np.float32)
        _set(tables["category_rows"], np.concatenate([theirs, more]))
    say(f"{len(usable)} items added, {len(e) - len(usable)} left out of which nothing is known")
    unit = (vectors[usable] / length[usable, None]).astype(np.float32)
    return Refreshed(
        encoder=bytes(graph.SerializeToString(deterministic=True)),
        catalog=catalog,
        items=np.concatenate([bundle.items, unit]),
        parts=Parts(bundle.parts.codes, grown),
        probability=bundle.probability and _more(bundle.probability, len(usable)),
        added=len(usable),
        by=by,
        left_out=len(e) - len(usable),
    )


def _set(tensor: onnx.TensorProto, array: Floats) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), tensor.name))


def _more(head: Probability, count: int) -> Probability:
    """With so many more items, which nobody has acted on."""
    return replace(head, popularity=np.append(head.popularity, np.zeros(count, np.float32)))


def _grown(bundle: Bundle, log: Log) -> Catalog:
    """The bundle's catalog, rows as they are, with the log's other items and categories behind them."""
    old, names = bundle.catalog, log.names
    items, categories = set(old.item_ids.tolist()), set(old.category_ids.tolist())
    new_items = sorted(set(names.items) - items)
    new_categories = sorted({names.category_of.get(item, "") for item in new_items} - categories)
    category_ids = [*old.category_ids.tolist()[1:], *new_categories]
    return Catalog.build(
        item_ids=[*old.item_ids.tolist()[1:], *new_items],
        item_names=[*old.item_names.tolist()[1:], *(names.items[item] for item in new_items)],
        item_categories=[
            *(old.category_ids.tolist()[row] for row in old.item_category.tolist()[1:]),
            *(names.category_of.get(item, "") for item in new_items),
        ],
        category_ids=category_ids,
        category_names=[*old.category_names.tolist()[1:], *(names.categories[one] for one in new_categories)],
    )


def _only(catalog: Catalog, known: int, usable: NDArray[np.int64]) -> Catalog:
    """Without those new items that are not usable."""
    rows = np.concatenate([np.arange(known), known + usable])
    arrays = catalog.arrays()
    return Catalog(**{name: array[rows] if name.startswith("item_") else array for name, array in arrays.items()})


def _rows(log: Log, catalog: Catalog) -> NDArray[np.int64]:
    """The row of each event's item, int64 [events]; 0 where the catalog lacks it."""
    return HashTable.build(catalog.item_hashes).find(log.events["item"])


def _neighbours(bundle: Bundle, log: Log, catalog: Catalog, whole: Floats) -> tuple[Floats, Floats]:
    """Mean w of the known items beside each item, float32 [items, dim], and how many pairs there were."""
    item = _rows(log, catalog)
    user = np.repeat(np.arange(log.users), np.diff(log.starts))
    counts = np.maximum(np.bincount(item, minlength=catalog.items), 1).astype(np.float32)
    total = np.zeros((catalog.items, whole.shape[1]), np.float32)
    weight, pairs = np.zeros((2, catalog.items), np.float32)
    known = bundle.catalog.items
    for apart in range(1, REACH + 1):
        for one, other in ((item[:-apart], item[apart:]), (item[apart:], item[:-apart])):
            there = (user[:-apart] == user[apart:]) & (one >= known) & (other > 0) & (other < known)
            a, b = one[there], other[there]
            cosine = 1 / np.sqrt(counts[a] * counts[b])
            np.add.at(total, a, cosine[:, None] * whole[b])
            np.add.at(weight, a, cosine)
            np.add.at(pairs, a, 1)
    mean: Floats = (total / np.maximum(weight, 1e-12)[:, None]).astype(np.float32)
    return mean, pairs


def _told(bundle: Bundle, log: Log, catalog: Catalog, whole: Floats) -> Floats:
    """What text and attributes say of each item's w, float32 [items, dim]; zeros where they say nothing."""
    about = np.concatenate([_text(bundle, log, catalog), _attributes(log, catalog)], axis=1)
    has: NDArray[np.bool_] = np.any(about != 0, axis=1)
    known = np.flatnonzero(has[: len(whole)])
    told = np.zeros((catalog.items, whole.shape[1]), np.float32)
    if len(known) >= TOLD_MIN:
        ridge = Ridge(alpha=RIDGE).fit(about[known], whole[known])
        told[has] = ridge.predict(about[has])
    return told


def _text(bundle: Bundle, log: Log, catalog: Catalog) -> Floats:
    texts = bundle.features.text(log.tokens)
    item = _rows(log, catalog)
    place = np.flatnonzero((log.text_row >= 0) & (item > 0))
    total = np.zeros((catalog.items, texts.shape[1]), np.float32)
    np.add.at(total, item[place], texts[log.text_row[place]])
    count = np.bincount(item[place], minlength=catalog.items)[:, None]
    mean: Floats = (total / np.maximum(count, 1)).astype(np.float32)
    return mean


def _attributes(log: Log, catalog: Catalog) -> Floats:
    of = log.names.attributes_of
    column = {name: number for number, name in enumerate(sorted({one for has in of.values() for one in has}))}
    found = np.zeros((catalog.items, len(column)), np.float32)
    for row, item in enumerate(catalog.item_ids.tolist()):
        for one in of.get(item, ()):
            found[row, column[one]] = 1 / len(of[item])
    return found


def metrics(bundle: Bundle, refreshed: Refreshed) -> dict[str, Any]:
    """What the new bundle says of itself: the old one's figures, and what came to it."""
    came = {"from": bundle.version, "added": refreshed.added, "left_out": refreshed.left_out, "by": refreshed.by}
    return {**bundle.metrics, "refreshed": [*bundle.metrics.get("refreshed", []), came]}
