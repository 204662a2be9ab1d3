"""Windows to vectors: one step more from a state kept in memory where that is exact, else the whole window again.

A vector is the model run from zero state over the window. While a window only grows at its end, the states after its
last event are enough to go on from; they are a cache: absent or of another window, it is run again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle, verify
from models.graph import run, warm
from models.provider import rows as rows_of_a_call
from stream.contract import EVENT_DTYPE
from stream.window import Windows

if TYPE_CHECKING:
    import onnxruntime  # `models` switches its telemetry off, and must come first

# How far from 1 the length of a vector may be; the graph normalises it.
UNIT_TOLERANCE = 1e-3
# A call runs as many steps as its longest row: shorter ones join while that is at most a quarter more.
STEPS_SLACK = 1.25

UserKey = tuple[int, bytes]  # partition, user id


class StateCache:
    """States after the last event of some users' windows, at most `users`, the least recently written leave first."""

    def __init__(self, widths: dict[str, int], users: int) -> None:
        self._arrays = {name: np.zeros((users, width), np.float32) for name, width in widths.items()}
        self._mark = np.zeros((users, 0), np.int64)  # [users, marks], of the window that the states belong to
        self._used = np.zeros(users, np.int64)  # number of the write that filled the place, 0: free
        self._owner: list[UserKey | None] = [None] * users
        self._place: dict[UserKey, int] = {}
        self._free = list(range(users - 1, -1, -1))
        self._writes = 0

    def __len__(self) -> int:
        return len(self._place)

    def find(self, keys: Sequence[UserKey], marks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places of the users' states, int64 [users]; -1 where there is none of that window. Good until a write."""
        place = np.fromiter((self._place.get(key, -1) for key in keys), np.int64, len(keys))
        if self._place:
            place[(place >= 0) & (self._mark[place] != marks).any(axis=1)] = -1
        return place

    def read(self, places: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        """The states at `places`, float32 [places, width] each; zeros where a place is -1."""
        states = {name: array[places] for name, array in self._arrays.items()}
        for array in states.values():
            array[places < 0] = 0
        return states

    def write(self, keys: Sequence[UserKey], marks: NDArray[np.int64], states: dict[str, NDArray[np.float32]]) -> None:
        """Keep the users' states, in the place of what is there of them."""
        keys = keys[: len(self._owner)]
        self._writes += 1
        places = np.fromiter((self._place.get(key, -1) for key in keys), np.int64, len(keys))
        new = np.flatnonzero(places < 0)
        self._used[places[places >= 0]] = self._writes
        self._make_room(len(new))
        if len(new):
            free = self._free[-len(new) :]
            del self._free[-len(new) :]
            places[new] = free
            for index, place in zip(new.tolist(), free, strict=True):
                self._owner[place] = key = keys[index]
                self._place[key] = place
        if not self._mark.shape[1]:
            self._mark = np.zeros((len(self._owner), marks.shape[1]), np.int64)
        self._mark[places] = marks[: len(keys)]
        self._used[places] = self._writes
        for name, array in self._arrays.items():
            array[places] = states[name][: len(keys)]

    def forget(self, keys: Sequence[UserKey]) -> None:
        """Drop the states of some users, known or not."""
        for key in keys:
            place = self._place.pop(key, None)
            if place is not None:
                self._owner[place] = None
                self._used[place] = 0
                self._free.append(place)

    def clear(self) -> None:
        """Drop all states."""
        self.forget(list(self._place))

    def _make_room(self, wanted: int) -> None:
        """Let the least recently written go, but none of those that are being written."""
        missing = wanted - len(self._free)
        if missing <= 0:
            return
        others = np.flatnonzero((self._used > 0) & (self._used < self._writes))
        # A tenth at least, so that the search for the oldest is not repeated for every batch.
        count = min(len(others), max(missing, len(self._owner) // 10))
        oldest = others[np.argpartition(self._used[others], count - 1)[:count]]
        self.forget([key for place in oldest.tolist() if (key := self._owner[place]) is not None])


@dataclass(frozen=True, slots=True)
class Encoded:
    """Vectors of some users."""

    vectors: NDArray[np.float32]  # [users, dim]
    fit: NDArray[np.bool_]  # [users], finite and of unit length: others must not be published
    steps: int  # that the model ran
    advanced: int  # users who went on from a kept state
    reruns: int  # users whose window was run from its beginning
    missed: int  # of these: whose window only grew, but the state that it could go on from was not kept
    unknown: int  # new events whose item the catalog does not know; 0 where the model reads no items


class Encoder:
    """A bundle's model with the states it keeps. Not to be called from two threads at once."""

    def __init__(self, bundle: Bundle, session: "onnxruntime.InferenceSession", cache_users: int) -> None:
        self.bundle = bundle
        self._session = session
        self._signature = bundle.signature
        self._rows_max = rows_of_a_call(session)
        self._known = len(bundle.features.item_category)  # rows of items below this are the catalog's, row 0 is none
        self.cache = StateCache({state.name: state.width for state in bundle.states}, cache_users)

    def verify(self) -> None:
        """Run the bundle's golden vectors. Raises BundleError unless the model still gives them."""
        verify(self.bundle, self._session)

    def warm(self, steps: int) -> None:
        """Make the largest call that comes, of windows of so many `steps`: what a first call sets up is there then."""
        warm(self._session, self._signature, self._rows_max, steps)

    def encode(
        self,
        windows: Windows,
        users: NDArray[np.int64],
        keys: Sequence[UserKey],
        appended: NDArray[np.int64],
        mark_before: NDArray[np.int64],
        new: NDArray[np.int64] | None = None,
    ) -> Encoded:
        """Vectors of the `users`, in that order; their states are kept, but of those that are not fit.

        Who is not fit going on from a kept state is run from the beginning once more.

        Args:
            windows: after the batch.
            users: int64 [n], with at least one event each.
            keys: [n].
            appended: int64 [n], events that came at the end of an otherwise unchanged window; -1: it changed.
            mark_before: int64 [n, marks], of the window that it grew from (Windows.mark).
            new: int64 [n], events accepted; so many at the window's end are looked at for unknown items. None: none.
        """
        end = windows.start[users + 1]
        whole = end - windows.start[users]
        place = np.full(len(users), -1, np.int64)
        grows = np.flatnonzero((appended > 0) & (appended < whole)) if self.bundle.states else np.zeros(0, np.int64)
        if len(grows):
            place[grows] = self.cache.find([keys[row] for row in grows.tolist()], mark_before[grows])
        steps = np.where(place >= 0, appended, whole)
        missed = len(grows) - int((place[grows] >= 0).sum())
        new = np.zeros_like(steps) if new is None else np.minimum(new, steps)
        unknown = 0
        before = self.cache.read(place)  # all at once: what follows writes to the cache
        mark = windows.mark
        vectors = np.empty((len(users), self.bundle.dim), np.float32)
        order = np.argsort(steps, kind="stable")
        first = 0
        while first < len(order):
            shortest = steps[order[first]]
            bound = int(np.searchsorted(steps[order], shortest * STEPS_SLACK, side="right"))
            rows = order[first : min(bound, first + self._rows_max)]
            states = {name: array[rows] for name, array in before.items()}
            vectors[rows], after, found = self._call(
                windows, users[rows], place[rows] >= 0, steps[rows], new[rows], states
            )
            unknown += found
            self.cache.write([keys[row] for row in rows.tolist()], mark[users[rows]], after)
            first += len(rows)
        total = int(steps.sum())
        # Not fit is also what is not finite: any comparison with it is false.
        fit = np.abs(np.linalg.norm(vectors, axis=1) - 1) <= UNIT_TOLERANCE
        advanced = place >= 0
        if not fit.all():
            self.cache.forget([keys[row] for row in np.flatnonzero(~fit).tolist()])
            again = np.flatnonzero(~fit & advanced)
            if len(again):
                whole_keys = [keys[row] for row in again.tolist()]
                rerun = self.encode(windows, users[again], whole_keys, np.full(len(again), -1), mark_before[again])
                vectors[again], fit[again], advanced[again] = rerun.vectors, rerun.fit, False
                total += rerun.steps
        return Encoded(vectors, fit, total, int(advanced.sum()), int((~advanced).sum()), missed, unknown)

    def _call(
        self,
        windows: Windows,
        users: NDArray[np.int64],
        goes_on: NDArray[np.bool_],
        steps: NDArray[np.int64],
        new: NDArray[np.int64],
        states: dict[str, NDArray[np.float32]],
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]], int]:
        """One call of the graph: the last `steps` events of each user's window, from `states`.

        Third comes how many of the last `new` events' items the catalog does not know.
        """
        end = windows.start[users + 1]
        at = (end - steps)[:, None] + np.arange(steps.max())  # [rows, steps]
        padding = at >= end[:, None]
        at[padding] = 0
        events = windows.events[at]
        events[padding] = np.zeros((), EVENT_DTYPE)
        previous_ms = np.full(len(users), -1, np.int64)
        previous_ms[goes_on] = windows.events["timestamp"][(end - steps)[goes_on] - 1]
        inputs = self.bundle.features.inputs(
            events,
            np.where(padding, -1, windows.text_row[at]).astype(np.int32),
            windows.tokens,
            steps.astype(np.int32),
            previous_ms,
        )
        # Counted on the rows that the graph gets, 3 ns an event: to look items up once more takes 14 ns in a catalog of
        # 10,000 and 125 ns in one of a million.
        item, unknown = inputs.get("item_index"), 0
        if item is not None:
            is_new = ~padding & (np.arange(item.shape[1]) >= (steps - new)[:, None])
            unknown = int(np.count_nonzero(is_new & ((item == 0) | (item >= self._known))))
        return *run(self._session, self._signature, inputs, states), unknown
