"""A bundle: the folder that holds one model. Written whole or not at all; every file is checked before it is served."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models import arrays
from models import folder as files
from models.catalog import CATALOG_ARRAYS, Catalog
from models.features import INPUTS, OTHER, Features, TextVectors
from models.folder import ACTS
from models.golden import GOLDEN_TOLERANCE, Golden, check, whole
from models.graph import Signature, State, open_graph, run, zero_states
from models.probability import Probability
from models.windows import Windows
from stream import contract
from stream.errors import BundleError

__all__ = [
    "GOLDEN_TOLERANCE",
    "Bundle",
    "Catalog",
    "Golden",
    "Parts",
    "Probability",
    "Signature",
    "State",
    "TextVectors",
    "Windows",
    "load",
    "run",
    "session",
    "verify",
    "write",
    "zero_states",
]


@dataclass(frozen=True, eq=False)
class Parts:
    """What a vector of an item is made of that the catalog lacks: added up, and brought to unit length."""

    codes: NDArray[np.float32]  # [2 * codes, dim]; see `signs`
    categories: NDArray[np.float32]  # [categories, dim]; row 0: zeros

    def signs(self, hashes: NDArray[np.uint64]) -> NDArray[np.float32]:
        """What stands for items by contract.hash64 of their ids, float32 [n, dim]; zeros without codes.

        With K codes, of a hash modulo K² the row of its K-th part times that of the rest, of the second K rows.
        """
        count = len(self.codes) // 2
        if not count:
            return np.zeros((len(hashes), self.codes.shape[1]), np.float32)
        code = (hashes % np.uint64(count**2)).astype(np.int64)
        return self.codes[code // count] * self.codes[count + code % count]

    @classmethod
    def none(cls, dim: int, categories: int) -> "Parts":
        """Nothing: such an item stands where the mean of its category's items does."""
        return cls(np.zeros((0, dim), np.float32), np.zeros((categories, dim), np.float32))


@dataclass(frozen=True, eq=False, repr=False)
class Bundle:
    """One model, in memory. Rows of items and categories are the catalog's; row 0 is the unknown one."""

    folder: Path
    version: str  # 16 hex digits, the digest of what the bundle holds
    contract: int
    dim: int
    event_types: tuple[str, ...]  # entry 0: "other"
    states: tuple[State, ...]
    inputs: tuple[str, ...]  # of features.INPUTS, without `length`
    text_width: int  # 0 where the model reads no text
    catalog: Catalog
    items: NDArray[np.float32]  # [items, dim], of unit length; row 0 may be zeros
    category_vectors: NDArray[np.float32]  # [categories, dim], mean of the items' of unit length; zeros where none
    parts: Parts
    probability: Probability | None  # of acts; None: the model does not tell
    text: TextVectors
    metrics: Mapping[str, Any]
    command: str  # that made it
    features: Features
    golden: Golden
    encoder: bytes  # encoder.onnx as its digest was checked

    @property
    def signature(self) -> Signature:
        """Inputs and outputs of the graph."""
        return Signature(self.inputs, self.states, self.text_width, self.dim)

    def vectors(self, items: NDArray[np.uint64], categories: NDArray[np.uint32]) -> NDArray[np.float32]:
        """Vectors of items by contract.hash64 and hash32 of their ids and their categories', float32 [n, dim].

        Of unit length, for what the catalog lacks too: what its code and its category say, or else the mean of its
        category's items. Zeros where nothing is known.
        """
        row, category = self.features.items.find(items), self.features.categories.find(categories)
        vectors = self.parts.categories[category] + self.parts.signs(items)
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = np.where(length > 0, vectors / np.where(length > 0, length, 1), self.category_vectors[category])
        return np.where((row > 0)[:, None], self.items[row], vectors).astype(np.float32, copy=False)


def load(folder: Path | str) -> Bundle:
    """Read a bundle; every digest is checked. The graph is not opened yet: :func:`session`, then :func:`verify`.

    Raises:
        BundleError: a file is missing, cut, changed or another bundle's, or the contract version is not ours.
    """
    folder = Path(folder)
    described, blobs = files.read(folder)
    try:
        states = tuple(State(state["name"], state["width"]) for state in described["states"])
        event_types, inputs = tuple(described["event_types"]), tuple(described["inputs"])
        dim, text_width = int(described["dim"]), int(described["text"]["width"])
        metrics, command = described["metrics"], described["command"]
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{folder / files.DESCRIPTION}: expected dim, event_types, states, inputs, text, metrics, command: {error}"
        ) from error
    sizes: dict[str, int] = {"dim": dim, "width": text_width, "tokens_max": contract.TEXT_MAX_TOKENS}
    catalog = Catalog(**arrays.read_npz(folder / "catalog.npz", blobs["catalog.npz"], CATALOG_ARRAYS, sizes))
    items = arrays.read_npy(folder / "items.npy", blobs["items.npy"], ("float32", ("items", "dim")), sizes)
    text = TextVectors(**arrays.read_npz(folder / "text.npz", blobs["text.npz"], arrays.TEXT_ARRAYS, sizes))
    parts = Parts(**arrays.read_npz(folder / "parts.npz", blobs["parts.npz"], arrays.PARTS_ARRAYS, sizes))
    _fits(str(folder), catalog, items, event_types, inputs, text)
    golden = arrays.read_npz(folder / "golden.npz", blobs["golden.npz"], arrays.GOLDEN_ARRAYS, sizes)
    vectors = golden.pop("vectors")
    return Bundle(
        folder=folder,
        version=described["version"],
        contract=described["contract"],
        dim=dim,
        event_types=event_types,
        states=states,
        inputs=inputs,
        text_width=text_width,
        catalog=catalog,
        items=items,
        category_vectors=_category_vectors(items, catalog),
        parts=parts,
        probability=Probability.read(folder / ACTS, blobs[ACTS], catalog.items) if ACTS in blobs else None,
        text=text,
        metrics=metrics,
        command=command,
        features=_features(catalog, text, event_types, inputs, len(parts.codes) // 2),
        golden=Golden(Windows(**golden), vectors),
        encoder=blobs["encoder.onnx"],
    )


def session(bundle: Bundle, *, provider: str = "cpu", threads: int = 1) -> onnxruntime.InferenceSession:
    """The bundle's graph on `provider` ("cpu" or "cuda"), its inputs and outputs compared with bundle.json.

    Raises:
        BundleError: the graph is damaged or differs from bundle.json, or the provider is not to be had here.
    """
    return open_graph(bundle.encoder, bundle.signature, provider=provider, threads=threads)


def verify(bundle: Bundle, session: onnxruntime.InferenceSession) -> float:
    """Run the golden windows whole and one event at a time; the largest absolute deviation from their vectors.

    Raises:
        BundleError: it is above GOLDEN_TOLERANCE, or a vector is not finite or not of unit length; names the window.
    """
    return check(session, bundle.signature, bundle.features, bundle.golden, str(bundle.folder))


def write(
    folder: Path | str,
    *,
    encoder: bytes,
    catalog: Catalog,
    items: NDArray[np.float32],
    golden_windows: Windows,
    event_types: tuple[str, ...],
    states: tuple[State, ...],
    inputs: tuple[str, ...],
    text: TextVectors | None = None,
    parts: Parts | None = None,
    probability: Probability | None = None,
    metrics: Mapping[str, Any] | None = None,
    command: str = "",
) -> Bundle:
    """Make a bundle of its parts: compute the golden vectors, verify, and put it in place of an older one at once.

    Args:
        folder: new, empty, or a bundle, whose other files (a README) are kept.
        encoder: the graph, serialised, with the inputs, `length`, states and outputs that DESIGN names.
        catalog: items and categories.
        items: float32 [items, dim], row 0 unknown, the others of unit length.
        golden_windows: at least one; better some of each length.
        event_types: "other" first.
        states: what the graph carries.
        inputs: what the graph uses of features.INPUTS, without `length`.
        text: token vectors, if the graph reads text.
        parts: what items are made of that the catalog lacks; the same code rows as the graph's.
        probability: of acts, if the model tells.
        metrics: what evaluation said; JSON.
        command: the call that made the bundle; not part of its version.

    Raises:
        UsageError: `folder` holds something that is not a bundle.
        BundleError: the parts do not fit together, or the graph does not step as it runs.
    """
    folder = Path(folder)
    files.replaceable(folder)
    text = text or TextVectors.none()
    dim = _fits(str(folder), catalog, items, event_types, inputs, text)
    parts = parts or Parts.none(dim, catalog.categories)
    signature = Signature(inputs, states, text.width, dim)
    features = _features(catalog, text, event_types, inputs, len(parts.codes) // 2)
    graph = open_graph(encoder, signature)
    golden = Golden(golden_windows, whole(graph, signature, features, golden_windows))
    check(graph, signature, features, golden, str(folder))

    blobs = {
        "catalog.npz": arrays.npz(catalog.arrays()),
        "encoder.onnx": encoder,
        "golden.npz": arrays.npz({**vars(golden_windows), "vectors": golden.vectors}),
        "items.npy": arrays.npy(items),
        "parts.npz": arrays.npz(vars(parts)),
        "text.npz": arrays.npz(vars(text)),
    }
    if probability is not None:
        probability.check(str(folder))
        blobs[ACTS] = arrays.npz(probability.arrays())
    described = {
        "dim": dim,
        "event_types": list(event_types),
        "states": [{"name": state.name, "width": state.width} for state in states],
        "inputs": list(inputs),
        "text": {"width": text.width, "tokens": len(text.hashes)},
        "metrics": dict(metrics or {}),
    }
    files.put(folder, described, blobs, command=command)
    return load(folder)


def _fits(
    where: str,
    catalog: Catalog,
    items: NDArray[np.float32],
    event_types: tuple[str, ...],
    inputs: tuple[str, ...],
    text: TextVectors,
) -> int:
    """The vectors' dimension, if the parts fit together."""
    if items.dtype != np.float32 or items.ndim != 2 or len(items) != catalog.items:
        raise BundleError(
            f"{where}: items expected float32 [{catalog.items}, dim], got {items.dtype} {list(items.shape)}"
        )
    length = np.linalg.norm(items[1:], axis=1)
    bad = np.flatnonzero(~(np.abs(length - 1) < 1e-3))
    if len(bad):
        raise BundleError(
            f"{where}: item vectors expected of unit length, got length {length[bad[0]]:g} in row {bad[0] + 1}"
        )
    if not event_types or event_types[0] != OTHER or len(set(event_types)) < len(event_types):
        raise BundleError(
            f"{where}: event types expected to differ and to begin with {OTHER!r}, got {list(event_types)}"
        )
    unknown = [name for name in inputs if name not in INPUTS or name == "length"]
    if unknown:
        raise BundleError(
            f"{where}: inputs expected among {', '.join(INPUTS)} (length goes without saying), got {unknown[0]!r}"
        )
    if ("text" in inputs) != (text.width > 0):
        raise BundleError(f"{where}: text vectors expected if and only if the graph reads text, got width {text.width}")
    return int(items.shape[1])


def _features(
    catalog: Catalog, text: TextVectors, event_types: tuple[str, ...], inputs: tuple[str, ...], codes: int
) -> Features:
    return Features.build(
        inputs=inputs,
        event_types=event_types,
        item_hashes=catalog.item_hashes,
        category_hashes=catalog.category_hashes,
        item_category=catalog.item_category,
        text=text,
        codes=codes,
    )


def _category_vectors(items: NDArray[np.float32], catalog: Catalog) -> NDArray[np.float32]:
    total = np.zeros((catalog.categories, items.shape[1]), np.float32)
    np.add.at(total, catalog.item_category, items)
    total[0] = 0
    norm = np.linalg.norm(total, axis=1, keepdims=True)
    return (total / np.where(norm > 0, norm, 1)).astype(np.float32, copy=False)
