"""Vectors to update records: what a shop's consumers read."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from models.bundle import Bundle


@dataclass(frozen=True, slots=True)
class UpdateFormat:
    """How an update is written."""

    vector: Literal["json", "float32"] = "json"
    categories: int = 0  # that the vector leans to most, named with their cosine


def leaning(bundle: Bundle, vectors: NDArray[np.float32], count: int) -> list[list[tuple[str, float]]]:
    """For each vector the `count` nearest categories and their cosine, the nearest first; never the unknown one."""
    cosine = vectors @ bundle.category_vectors[1:].T
    count = min(count, cosine.shape[1])
    if not count:
        return [[] for _ in vectors]
    nearest = np.argpartition(-cosine, count - 1, axis=1)[:, :count]
    order = np.take_along_axis(nearest, np.argsort(-np.take_along_axis(cosine, nearest, 1), axis=1, kind="stable"), 1)
    names = bundle.catalog.category_ids[1:]
    return [
        [(str(names[category]), round(float(row[category]), 4)) for category in best]
        for row, best in zip(cosine, order.tolist(), strict=True)
    ]


def encode_updates(
    bundle: Bundle,
    keys: Sequence[bytes],
    version: NDArray[np.int64],
    newest_ms: NDArray[np.int64],
    events: NDArray[np.int64],
    vectors: NDArray[np.float32],
    form: UpdateFormat,
) -> list[bytes]:
    """One JSON object a user. Nothing in it depends on the clock, or on how the events were batched.

    Args:
        bundle: the model that made the vectors.
        keys: user ids, UTF-8 [users].
        version: int64 [users], accepted events.
        newest_ms: int64 [users], time of the newest event.
        events: int64 [users], events in the window.
        vectors: float32 [users, dim], finite.
        form: how to write them.
    """
    vectors = np.ascontiguousarray(vectors, dtype="<f4")
    extra: list[dict[str, Any]] = [{} for _ in keys]
    if form.categories:
        extra = [{"categories": named} for named in leaning(bundle, vectors, form.categories)]
    name = "vector"
    values: list[Any] = list(vectors)
    if form.vector == "float32":
        name, values = "vector_b64", [b64encode(row).decode() for row in vectors]
    return [
        orjson.dumps(
            {
                "user_id": k.decode(),
                "version": v,
                "timestamp": t,
                "model": bundle.version,
                "events": n,
                name: x,
                **more,
            },
            option=orjson.OPT_SERIALIZE_NUMPY,
        )
        for k, v, t, n, x, more in zip(
            keys, version.tolist(), newest_ms.tolist(), events.tolist(), values, extra, strict=True
        )
    ]
