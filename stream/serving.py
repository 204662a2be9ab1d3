"""The models of a worker: the one that updates are made with, and a second one that runs in its shadow."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from stream import batch
from stream.batch import Counts, PartitionResult, Plan
from stream.encode import Encoder, UserKey
from stream.metrics import Totals
from stream.update import UpdateFormat

log = logging.getLogger("interest")

Role = Literal["serving", "shadow"]
#: Updates, or tombstones, by partition.
Updates = dict[int, list[tuple[bytes, bytes | None]]]


class Shadow:
    """A second model over a share of the users, whose updates go to a topic of their own. It never stops the first one.

    Args:
        encoder: the model, with its own states; None: there is none that is fit to be tried, until one takes over.
        share: of the users, above 0 and at most 1; the hash of an id decides, on every worker alike.
        form: of the updates.
        totals: counts its updates and failures.
    """

    def __init__(self, encoder: Encoder | None, share: float, form: UpdateFormat, totals: Totals) -> None:
        self.encoder = encoder
        self._below = share * 2.0**64
        self._form = form
        self._totals = totals
        self._failing = False

    def updates(self, plan: Plan) -> Updates:
        """Its updates for a part of a batch, tombstones too; nothing where it fails, which is told and counted."""
        if self.encoder is None:
            return {}
        results = {partition: PartitionResult(result.partition_time) for partition, result in plan.results.items()}
        own = replace(
            plan,
            encode=self._among(plan, plan.encode),
            changed=plan.changed[:0],
            gone=self._among(plan, plan.gone),
            results=results,
            counts=Counts(),
        )
        try:
            encoded = batch.encode(own, self.encoder)
            batch.finish(own, encoded, self.encoder, self._form)
        except Exception as error:  # noqa: BLE001  # whatever a model on trial does, the one that serves goes on
            self.encoder.cache.clear()
            self._totals.shadow_failures += 1
            if not self._failing:
                log.error("the shadow model fails, its updates are left out: %s: %s", type(error).__name__, error)
            self._failing = True
            return {}
        self._failing = False
        self._totals.shadow_failures += len(own.counts.not_finite)
        found = {partition: result.updates for partition, result in results.items() if result.updates}
        self._totals.shadow_updates += sum(map(len, found.values()))
        return found

    def has(self, key: bytes) -> bool:
        """Whether a user is among its share."""
        return xxhash.xxh3_64_intdigest(key) < self._below

    def _among(self, plan: Plan, users: NDArray[np.int64]) -> NDArray[np.int64]:
        keys = plan.keys
        return users[np.fromiter((self.has(keys[user][1]) for user in users.tolist()), np.bool_, len(users))]


class Serving:
    """Swapped while no batch is in hand, so each batch has one model from beginning to end.

    Args:
        encoder: the first model.
        totals: of the worker, told which models it has.
        shadow: with a second model, if there is one.
    """

    def __init__(self, encoder: Encoder, totals: Totals, shadow: Shadow | None = None) -> None:
        self.encoder = encoder
        self.shadow = shadow
        self.totals = totals
        totals.models["serving"] = encoder.bundle.version
        if shadow is not None and shadow.encoder is not None:
            totals.models["shadow"] = shadow.encoder.bundle.version

    def take(self, encoder: Encoder, role: Role) -> None:
        """A model takes over, without any states."""
        if role == "serving":
            self.encoder = encoder
        else:
            assert self.shadow is not None
            self.shadow.encoder = encoder
        before = self.totals.models.get(role, "none")
        self.totals.models[role] = encoder.bundle.version
        self.totals.model_swaps += 1
        log.info("%s model %s takes over from %s", role, encoder.bundle.version, before)

    def forget(self, keys: Sequence[UserKey]) -> None:
        """Drop the states of some users."""
        self.encoder.cache.forget(keys)
        if self.shadow is not None and self.shadow.encoder is not None:
            self.shadow.encoder.cache.forget(keys)

    def beside(self, keys: Sequence[bytes]) -> list[tuple[bytes, bytes | None]]:
        """Tombstones for those of some users, who are to be forgotten, that the second model has."""
        return [] if self.shadow is None else [(key, None) for key in keys if self.shadow.has(key)]
