"""What the demo knows at one moment: the numbers, and the shopper who is followed. Views only read it."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.products import Shop
from stream.demo.measure import Measure, Rate, percentile
from stream.demo.shop import FOLLOWED
from stream.errors import UsageError

KEPT_EVENTS: Final = 40


@dataclass(frozen=True, slots=True)
class Shown:
    """One event of the followed shopper, in words."""

    time_ms: int
    type: str
    product: str
    category: str
    rating: int | None = None
    text: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """Everything a view shows, at one moment."""

    now_ms: int
    elapsed_s: float
    first_update_s: float | None  # after the command began
    published: int
    wanted: int | None  # how many events there will be, if that was told
    events_s: float
    updates: int
    updates_s: float
    p50_ms: int | None  # of the last seconds
    p99_ms: int | None
    lag: int
    refused: Mapping[str, int]
    user: str
    version: int  # 0: no update yet
    window: int  # events
    events: Sequence[Shown]  # the newest first
    leaning: Sequence[tuple[str, float]]  # categories in the shop's order, with their cosine; empty before an update


@dataclass
class Followed:
    """The followed shopper's latest events and vector."""

    shop: Shop
    bundle: Bundle
    version: int = 0
    window: int = 0
    events: deque[Shown] = field(default_factory=lambda: deque(maxlen=KEPT_EVENTS))
    leaning: list[tuple[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        known = {str(name): row for row, name in enumerate(self.bundle.catalog.category_ids) if row}
        self._rows = [known[name] for name in self.shop.category_ids if name in known]
        if not self._rows:
            raise UsageError(
                f"{self.bundle.folder}: the model knows none of the simulated shop's categories "
                f"({', '.join(self.shop.category_ids[:3])}, …); name one that was trained on `interest model simulate`"
            )
        self._names = [str(self.bundle.catalog.category_names[row]) for row in self._rows]
        self._item = {name: index for index, name in enumerate(self.shop.item_ids)}

    def did(self, event: Mapping[str, Any]) -> None:
        """An event of theirs is published."""
        item = self._item[event["item_id"]]
        category = self.shop.category_names[int(self.shop.item_category[item])]
        product = self.shop.item_names[item]
        self.events.appendleft(
            Shown(event["timestamp"], event["type"], product, category, event.get("rating"), event.get("text"))
        )

    def moved(self, version: int, window: int, vector: NDArray[np.float32]) -> None:
        """An update of theirs has come: version, events in the window, float32 [dim]."""
        self.version, self.window = version, window
        cosine = self.bundle.category_vectors[self._rows] @ vector
        self.leaning = list(zip(self._names, cosine.tolist(), strict=True))


class Board:
    """Measures and the followed shopper, and snapshots of both."""

    def __init__(
        self, measure: Measure, followed: Followed, wanted: int | None, command_began_s: float, now_s: float
    ) -> None:
        self.measure = measure
        self.followed = followed
        self.first_update_s: float | None = None  # on the clock of `now_s`
        self._wanted = wanted
        self._command_began_s = command_began_s
        self._began_s = now_s
        self._events_s = Rate(now_s)
        self._updates_s = Rate(now_s)

    def snapshot(self, now_s: float, now_ms: int) -> Snapshot:
        """How it stands at `now_s` (a clock that never goes back) and `now_ms` (since the epoch)."""
        measure, followed = self.measure, self.followed
        recent = measure.latencies.recent(now_s)
        return Snapshot(
            now_ms=now_ms,
            elapsed_s=now_s - self._began_s,
            first_update_s=None if self.first_update_s is None else self.first_update_s - self._command_began_s,
            published=measure.published,
            wanted=self._wanted,
            events_s=self._events_s(now_s, measure.published),
            updates=measure.updates,
            updates_s=self._updates_s(now_s, measure.updates),
            p50_ms=percentile(recent, 0.5),
            p99_ms=percentile(recent, 0.99),
            lag=measure.lag,
            refused=dict(measure.refused),  # in the order first seen, so that they keep their places
            user=FOLLOWED,
            version=followed.version,
            window=followed.window,
            events=tuple(followed.events),
            leaning=tuple(followed.leaning),
        )
