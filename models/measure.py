"""How well a bundle foresees a log's events, as a stream sees them, beside what needs no model; all ties against us."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models import baselines
from models.baselines import Asked
from models.bundle import Bundle
from models.calibration import measure as probabilities
from models.calibration import table as probability_table
from models.evaluation import MISSING, TOPS, figures, rank
from models.labels import sample
from models.log import Log
from models.prequential import DAY_MS, Before, go_through
from models.sequences import Items
from models.tables import TABLES, as_stored
from stream.contract import EVENT_TYPES
from stream.errors import UsageError
from stream.rules import Rules

HELD_OUT: Final = 0.05  # share of the log's events asked for, the latest, where nothing else is said
BLOCK: Final = 256
#: Groups of the events asked for: by events in the window before, by how often the item came among what is counted
#: (see models.baselines), and by days since it first came at all; upper ends of the days are exclusive.
LENGTHS: Final = ((1, 4), (5, 19), (20, None))
COUNTS: Final = ((0, 0), (1, 9), (10, None))
AGES: Final = ((0, 1), (1, 7), (7, None))

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Question:
    """Which events are asked for, and among what."""

    after_ms: int = 0  # those from it on; 0: the latest HELD_OUT
    last: bool = False  # the last event of each user instead
    unseen: bool = False  # what a user has had is left out of every ranking, and not asked for

    def asked(self, log: Log) -> tuple[NDArray[np.bool_], int]:
        """Which events, bool [events], and from when on.

        Raises:
            UsageError: none.
        """
        times = log.events["timestamp"]
        if self.last:
            asked = np.zeros(len(times), bool)
            asked[log.starts[1:] - 1] = True
            after_ms = int(times[asked].min(initial=times.max(initial=0)))
        else:
            after_ms = self.after_ms or int(np.quantile(times, 1 - HELD_OUT, method="higher"))
            asked = times >= after_ms
        if self.unseen:
            user = np.repeat(np.arange(log.users), np.diff(log.starts))
            order = np.lexsort((np.arange(len(user)), log.events["item"], user))
            again = (np.diff(user[order]) == 0) & (np.diff(log.events["item"][order]) == 0)
            asked[order[1:][again]] = False
        if not asked.any():
            raise UsageError(f"expected events from {after_ms} ms on, to be asked for, got none of {len(times)}")
        return asked, after_ms


def measure(
    log: Log,
    bundle: Bundle,
    rules: Rules,
    question: Question | None = None,
    *,
    beside: Mapping[str, Bundle] | None = None,
    tables: bool = False,
    history: Log | None = None,
    threads: int = 1,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Rank, for each event asked for, all items by the vector that stood before it; what else would have.

    Ranked are the catalog's items and those that it lacks but that came in the log, of anybody, at an earlier time:
    they stand where Bundle.vectors has them. An event of any other item is a miss, and so is one of a user without an
    event before.

    - `model`: the vector after the user's last event; `daily`: as it was when the day began, UTC; and each of `beside`;
      with `tables` the model against item vectors in fewer bytes, see models.tables;
    - `popularity`: items by events in `history`, or else by those that are not asked for; `markov`: by how often they
      followed the user's last item there;
    - `neighbours`: by cosine of how often they stood within REACH events of the user's REACH last items;
    - `latest`: the user's own LATEST distinct items, newest first (see models.baselines).

    Returns:
        `asked`, `known` (share of events of items in the catalog), `without_history`, `coverage` (share of the catalog
        among anybody's first 10 by the model), `after_ms`, and by system, then by what is asked (`item`, each type of
        event, `category`, groups as in LENGTHS, COUNTS and AGES): `asked`, and `hr`, `ndcg`, `mrr` at each of TOPS.
        `probability`, if the bundle has heads, as of models.calibration.measure, on examples drawn by `seed`.

    Raises:
        UsageError: no event is asked for.
    """
    question = question or Question()
    asked, after_ms = question.asked(log)
    about = Asked.make(log, asked, question.unseen, history)
    ranks: dict[str, Ints] = {}
    by_category: dict[str, Ints] = {}
    shown: set[int] = set()
    for name, one in {"model": bundle, **(beside or {})}.items():
        before = go_through(log, one, rules, asked, threads)
        say(f"{name}: {len(before.place)} events gone through")
        scene = Scene.make(log, one, about)
        vectors = {name: before.vectors} | ({"daily": before.daily} if name == "model" else {})
        for system, array in vectors.items():
            ranks[system], by_category[system], named = scene.places(array)
            shown |= named if system == "model" else set()
        for table_name in TABLES if tables and name == "model" else ():
            rough = replace(scene, vectors=as_stored(scene.vectors, table_name))
            system = f"model, {table_name} items"
            ranks[system], by_category[system], _ = rough.places(before.vectors)
        if name == "model":
            main, held = scene, before
    ranks |= {
        "popularity": baselines.popularity(about),
        "markov": baselines.markov(about),
        "neighbours": baselines.neighbours(about),
    }
    if not question.unseen:
        ranks["latest"] = baselines.latest(about, about.item)
        by_category["latest"] = baselines.latest(about, main.category)
    groups = _groups(log, about, held)
    systems = {
        name: {group: _figures(places[rows]) for group, rows in groups.items() if rows.any()}
        for name, places in ranks.items()
    }
    with_category = main.category[about.place] > 0
    if with_category.any():
        for name, places in by_category.items():
            systems[name]["category"] = _figures(places[with_category])
    return {
        "after_ms": after_ms,
        "asked": len(about.place),
        "known": round(float((bundle.features.items.find(log.events["item"][about.place]) > 0).mean()), 4),
        "without_history": int((held.held == 0).sum()),
        "coverage": round(len(shown) / max(1, bundle.catalog.items - 1), 4),
        "systems": systems,
        **_acts(log, bundle, held, seed),
    }


def _acts(log: Log, bundle: Bundle, before: Before, seed: int) -> dict[str, Any]:
    """How good the probabilities of acts are from the moments asked for, as far as the log shows what came."""
    head = bundle.probability
    if head is None:
        return {}
    times, horizon_ms = log.events["timestamp"], int(head.horizon_ms)
    chosen = (times[before.place] + horizon_ms <= times.max() + 1) & (before.held > 0)
    if not chosen.any():
        return {}
    item = bundle.features.items.find(log.events["item"])
    came = sample(log, item, bundle.items, before, chosen, np.expm1(head.popularity), horizon_ms=horizon_ms, seed=seed)
    return {"probability": probabilities(head, bundle.items, came)}


def table(found: dict[str, Any]) -> list[str]:
    """The figures as lines of Markdown."""
    lines = [
        f"{found['asked']:,} events asked for; {found['known']:.1%} of them of items that the bundle knows, "
        f"{found['without_history']:,} of users without an event before; the first 10 by the model name "
        f"{found['coverage']:.1%} of the catalog.",
        "",
        "| asked for | | " + " | ".join(f"{name}@{top}" for name in ("HR", "NDCG", "MRR") for top in TOPS) + " |",
        "| --- | --- |" + " --: |" * (3 * len(TOPS)),
    ]
    for group in dict.fromkeys(group for told in found["systems"].values() for group in told):
        for system, told in found["systems"].items():
            if group in told and (" " not in group or system == "model"):
                one = told[group]
                cells = [f"{one[name][str(top)]:.4f}" for name in ("hr", "ndcg", "mrr") for top in TOPS]
                lines.append(f"| {group} ({one['asked']:,}) | {system} | {' | '.join(cells)} |")
    if "probability" in found:
        lines += ["", *probability_table(found["probability"])]
    return lines


@dataclass(frozen=True, eq=False)
class Scene:
    """All that a bundle can name in a log, in the order of categories."""

    about: Asked
    vectors: NDArray[np.float32]  # [items, dim]; row 0 of `row` and what it lacks a vector for: zeros
    row: Ints  # [items], the catalog's, or behind it
    known: int  # rows of the catalog
    came_ms: Ints  # [items], when first in the log; of the catalog's: the least number
    column: Ints  # [events], where each event's item stands
    edges: Ints  # where each category begins
    slot: Ints  # [categories], which edge; -1: it has no items
    category: Ints  # [events], the row of each event's category: its own, else its item's

    @classmethod
    def make(cls, log: Log, bundle: Bundle, about: Asked) -> "Scene":
        """Of a log's items and a bundle's."""
        items = Items.make(log, bundle.features)
        told = bundle.catalog.category_hashes[items.category]
        vectors = np.concatenate([bundle.items, bundle.vectors(items.hashes[items.known :], told[items.known :])])
        order = np.argsort(items.category, kind="stable")
        column = np.empty_like(order)
        column[order] = np.arange(len(order))
        of = items.category[order]
        edges = np.flatnonzero(np.diff(of, prepend=-1))
        slot = np.full(bundle.catalog.categories, -1)
        slot[of[edges]] = np.arange(len(edges))
        came = np.full(len(order), np.iinfo(np.int64).min)
        item = items.find(log.events["item"])
        late = np.full(len(order), np.iinfo(np.int64).max)
        np.minimum.at(late, item, log.events["timestamp"])
        came[items.known :] = late[items.known :]
        own = bundle.features.categories.find(log.events["category"])
        category = np.where(own > 0, own, items.category[item])
        return cls(about, vectors[order], order, items.known, came[order], column[item], edges, slot, category)

    def places(self, wanted: NDArray[np.float32]) -> tuple[Ints, Ints, set[int]]:
        """Places of what is asked for and of its category by `wanted` float32 [asked, dim]; rows among first 10s."""
        about = self.about
        found, by_category, shown = [], [], set()
        new = np.flatnonzero(self.row >= self.known)
        none = self.row == 0
        for start in range(0, len(about.place), BLOCK):
            place = about.place[start : start + BLOCK]
            vectors = wanted[start : start + BLOCK]
            score = vectors @ self.vectors.T
            left_out = np.repeat(none[None], len(place), axis=0)
            left_out[:, new] = self.came_ms[new] >= about.log.events["timestamp"][place][:, None]
            target = self.column[place]
            cannot = left_out[np.arange(len(place)), target]
            if about.unseen:
                for row, end in enumerate(place.tolist()):
                    left_out[row, self.column[about.log.starts[about.user[end]] : end]] = True
            at = rank(score, target, left_out)
            at[cannot] = MISSING
            found.append(at)
            score[left_out] = -np.inf
            usable = vectors.any(axis=1)
            best = np.maximum.reduceat(score, self.edges, axis=1)
            slot = self.slot[self.category[place]]
            empty = ~(best > -np.inf) & ~np.isnan(best)
            empty |= np.arange(len(self.edges)) == self.slot[0]
            at = rank(best, np.maximum(slot, 0), empty)
            at[(slot < 0) | (self.category[place] == 0) | empty[np.arange(len(place)), np.maximum(slot, 0)]] = MISSING
            by_category.append(at)
            named = score[usable & ~np.isnan(score).any(axis=1)]
            count = min(10, named.shape[1] - 1)
            top = self.row[np.argpartition(-named, count, axis=1)[:, :count]]
            shown.update(np.unique(top[(top > 0) & (top < self.known)]).tolist())
        return np.concatenate(found), np.concatenate(by_category), shown


def _groups(log: Log, about: Asked, before: Before) -> dict[str, NDArray[np.bool_]]:
    place = about.place
    groups: dict[str, NDArray[np.bool_]] = {"item": np.ones(len(place), bool)}
    for name, code in EVENT_TYPES.items():
        groups[name] = log.events["type"][place] == code
    for low, high in LENGTHS:
        groups[_named("after", low, high)] = (before.held >= low) & (before.held <= (high or before.held))
    seen = about.counts()[about.item[place]]
    for low, high in COUNTS:
        groups[_named("item seen", low, high)] = (seen >= low) & (seen <= (seen if high is None else high))
    came = np.full(int(about.item.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(came, about.item, log.events["timestamp"])
    days = (log.events["timestamp"][place] - came[about.item[place]]) / DAY_MS
    for low, high in AGES:
        groups[_named("item of days", low, high)] = (days >= low) & (days < (np.inf if high is None else high))
    return groups


def _figures(places: Ints) -> dict[str, Any]:
    flat = figures(places)
    by_name = {name: {str(top): flat[f"{name}@{top}"] for top in TOPS} for name in ("hr", "ndcg", "mrr")}
    return {"asked": len(places), **by_name}


def _named(what: str, low: int, high: int | None) -> str:
    return f"{what} {low}+" if high is None else f"{what} {low}" + (f" to {high}" if high != low else "")
