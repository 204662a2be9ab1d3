"""How well a bundle foresees a log's events, as a stream sees them, beside what needs no model; all ties against us."""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.evaluation import rank
from models.log import Log
from models.prequential import go_through
from stream.contract import EVENT_TYPES
from stream.errors import UsageError
from stream.rules import Rules

TOPS: Final = (5, 10, 20)
LATEST: Final = 20
REACH: Final = 5
HELD_OUT: Final = 0.05  # share of the log's events asked for, the latest, where no time is given
BLOCK: Final = 512
#: Groups of the events asked for: by events in the window before, and by how often the item came before the cut.
LENGTHS: Final = ((1, 4), (5, 19), (20, None))
COUNTS: Final = ((0, 0), (1, 9), (10, None))

Ints = NDArray[np.int64]


def measure(
    log: Log,
    bundle: Bundle,
    rules: Rules,
    *,
    after_ms: int = 0,
    threads: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Rank, for each event from `after_ms` on, all items by the vector that stood before it; what else would have.

    An event of an item that the bundle does not know is a miss, for all but `latest`; so is one of a user without an
    event before. Nothing is masked: users come back to what they have seen.

    - `model`: the vector after the user's last event; `daily`: as it was when the day began, UTC;
    - `popularity`: items by events before `after_ms`; `markov`: by how often they followed the user's last item then;
    - `neighbours`: by cosine of how often they stood within REACH events of the user's REACH last items then;
    - `latest`: the user's own LATEST distinct items, newest first.

    Returns:
        `asked`, `known` (share of events with a known item), `without_history`, `coverage` (share of the catalog among
        anybody's first 10 by the model), and by system, then by what is asked (`item`, each type of event, `category`,
        lengths and counts as in LENGTHS and COUNTS): `asked`, and `hr`, `ndcg`, `mrr` at each of TOPS.

    Raises:
        UsageError: no event is asked for.
    """
    times = log.events["timestamp"]
    after_ms = after_ms or int(np.quantile(times, 1 - HELD_OUT, method="higher"))
    asked = times >= after_ms
    if not asked.any():
        raise UsageError(f"expected events from {after_ms} ms on, to be asked for, got none of {len(times)}")
    before = go_through(log, bundle, rules, asked, threads)
    say(f"{len(before.place)} events gone through")
    item = bundle.features.items.find(log.events["item"])
    category = _categories(log, bundle, item)
    target = item[before.place]
    history = np.bincount(item[~asked], minlength=bundle.catalog.items).astype(np.float64)
    history[0] = 0

    ranks, by_category, shown = _of_vectors(bundle, before.vectors, before.daily, target, category[before.place])
    missing = len(bundle.items)
    ranks["popularity"] = _of_scores(history, target, missing)
    ranks["markov"] = _markov(log, item, asked, before.place, missing)
    ranks["neighbours"] = _neighbours(log, item, asked, before.place, missing)
    ranks["latest"] = _latest(log, before.place, log.events["item"].tolist(), missing)
    by_category["latest"] = _latest(log, before.place, category.tolist(), missing)
    has = before.held > 0
    groups: dict[str, NDArray[np.bool_]] = {"item": np.ones(len(target), bool)}
    for name, code in EVENT_TYPES.items():
        groups[name] = log.events["type"][before.place] == code
    for low, high in LENGTHS:
        groups[_named("after", low, high)] = (before.held >= low) & (before.held <= (high or before.held))
    for low, high in COUNTS:
        seen = history[target]
        groups[_named("item seen", low, high)] = (seen >= low) & (seen <= (seen if high is None else high))
    systems = {
        name: {group: _figures(places[rows]) for group, rows in groups.items() if rows.any()}
        for name, places in ranks.items()
    }
    for name, places in by_category.items():
        systems[name]["category"] = _figures(places[category[before.place] > 0])
    return {
        "after_ms": after_ms,
        "asked": len(target),
        "known": round(float((target > 0).mean()), 4),
        "without_history": int((~has).sum()),
        "coverage": round(len(shown) / max(1, bundle.catalog.items - 1), 4),
        "systems": systems,
    }


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
    for group in dict.fromkeys(group for figures in found["systems"].values() for group in figures):
        for system, figures in found["systems"].items():
            if group in figures and (" " not in group or system == "model"):
                one = figures[group]
                cells = [f"{one[name][str(top)]:.4f}" for name in ("hr", "ndcg", "mrr") for top in TOPS]
                lines.append(f"| {group} ({one['asked']:,}) | {system} | {' | '.join(cells)} |")
    return lines


def _categories(log: Log, bundle: Bundle, item: Ints) -> Ints:
    """The row of each event's category: its own, else its item's."""
    told = bundle.features.categories.find(log.events["category"])
    found: Ints = np.where(told > 0, told, bundle.features.item_category[item])
    return found


def _of_vectors(
    bundle: Bundle, vectors: NDArray[np.float32], daily: NDArray[np.float32], target: Ints, category: Ints
) -> tuple[dict[str, Ints], dict[str, Ints], set[int]]:
    """Places of the target and of its category by model and daily vector; rows among the model's first 10s."""
    order = np.argsort(bundle.features.item_category, kind="stable")
    column = np.empty_like(order)
    column[order] = np.arange(len(order))
    items, of = bundle.items[order], bundle.features.item_category[order]
    edges = np.flatnonzero(np.diff(of, prepend=-1))  # where each category that has items begins
    slot = np.full(bundle.catalog.categories, -1)
    slot[of[edges]] = np.arange(len(edges))
    shown: set[int] = set()
    places: dict[str, list[Ints]] = {"model": [], "daily": []}
    by_category: dict[str, list[Ints]] = {"model": [], "daily": []}
    left_out = np.zeros((1, len(items)), bool)
    left_out[0, column[0]] = True
    none = np.zeros((1, len(edges)), bool)
    none[0, slot[0]] = slot[0] >= 0
    for start in range(0, len(target), BLOCK):
        rows = slice(start, start + BLOCK)
        for name, wanted in (("model", vectors[rows]), ("daily", daily[rows])):
            score = wanted @ items.T
            found = rank(score, column[target[rows]], left_out)
            found[target[rows] == 0] = len(items)
            places[name].append(found)
            best = np.maximum.reduceat(score, edges, axis=1)
            at = slot[category[rows]]
            found = rank(best, np.maximum(at, 0), none)
            found[(at < 0) | (category[rows] == 0)] = len(items)
            by_category[name].append(found)
            if name == "model":
                score = score[np.isfinite(score).all(axis=1) & wanted.any(axis=1)]
                score[:, column[0]] = -np.inf
                count = min(10, score.shape[1] - 1)
                shown.update(np.unique(order[np.argpartition(-score, count, axis=1)[:, :count]]).tolist())
    return _joined(places), _joined(by_category), shown


def _joined(parts: dict[str, list[Ints]]) -> dict[str, Ints]:
    return {name: np.concatenate(found) for name, found in parts.items()}


def _of_scores(score: NDArray[np.float64], target: Ints, missing: int) -> Ints:
    """Places by one score for all; items without one are a miss."""
    ordered = np.sort(score)
    found = len(score) - np.searchsorted(ordered, score[target], side="left") - 1
    return np.where((target > 0) & (score[target] > 0), found, missing)


def _markov(log: Log, item: Ints, asked: NDArray[np.bool_], places: Ints, missing: int) -> Ints:
    """Places by how often an item followed the user's last one, among events that are not asked for."""
    user = np.repeat(np.arange(log.users), np.diff(log.starts))
    follows = np.flatnonzero((user[1:] == user[:-1]) & ~asked[1:] & (item[1:] > 0) & (item[:-1] > 0))
    after: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for last, following in zip(item[follows].tolist(), item[follows + 1].tolist(), strict=True):
        after[last][following] += 1
    found = np.full(len(places), missing, np.int64)
    for row, place in enumerate(places.tolist()):
        if place == log.starts[user[place]]:
            continue
        counts = after.get(int(item[place - 1]), Counter())
        mine = counts.get(int(item[place]), 0)
        if mine:
            found[row] = sum(count >= mine for count in counts.values()) - 1
    return found


def _neighbours(log: Log, item: Ints, asked: NDArray[np.bool_], places: Ints, missing: int) -> Ints:
    """Places by the sum of cosines between items, by events that are not asked for; an item is not its own neighbour.

    The cosine of two items: pairs of their events of one user, at most REACH apart, over the root of the product of
    their numbers of events.
    """
    user = np.repeat(np.arange(log.users), np.diff(log.starts))
    learnt = np.where(asked, 0, item)
    counts = np.bincount(learnt, minlength=int(item.max(initial=0)) + 1)
    beside: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for apart in range(1, REACH + 1):
        one, other = learnt[:-apart], learnt[apart:]
        pairs = np.flatnonzero((user[:-apart] == user[apart:]) & (one > 0) & (other > 0) & (one != other))
        for a, b in zip(one[pairs].tolist(), other[pairs].tolist(), strict=True):
            beside[a][b] += 1
            beside[b][a] += 1
    found = np.full(len(places), missing, np.int64)
    for row, place in enumerate(places.tolist()):
        scores: defaultdict[int, float] = defaultdict(float)
        for last in {*item[max(int(log.starts[user[place]]), place - REACH) : place].tolist()}:
            for near, count in beside.get(last, {}).items():
                scores[near] += count / float(counts[last] * counts[near]) ** 0.5
        mine = scores.get(int(item[place]), 0.0)
        if mine:
            found[row] = sum(score >= mine for score in scores.values()) - 1
    return found


def _latest(log: Log, places: Ints, names: list[int], missing: int) -> Ints:
    """Places among the user's LATEST distinct names before the event, newest first; 0 is no name."""
    begins = np.repeat(log.starts[:-1], np.diff(log.starts))[places].tolist()
    found = np.full(len(places), missing, np.int64)
    for row, (place, begin) in enumerate(zip(places.tolist(), begins, strict=True)):
        distinct: dict[int, int] = {}
        for back in range(place - 1, begin - 1, -1):
            if names[back] and names[back] not in distinct:
                distinct[names[back]] = len(distinct)
                if len(distinct) == LATEST:
                    break
        found[row] = distinct.get(names[place], missing)
    return found


def _figures(places: Ints) -> dict[str, Any]:
    found: dict[str, Any] = {"asked": len(places), "hr": {}, "ndcg": {}, "mrr": {}}
    for top in TOPS:
        hit = places < top
        found["hr"][str(top)] = _mean(hit)
        found["ndcg"][str(top)] = _mean(np.where(hit, 1 / np.log2(places + 2), 0))
        found["mrr"][str(top)] = _mean(np.where(hit, 1 / (places + 1), 0))
    return found


def _mean(values: NDArray[Any]) -> float:
    return round(float(values.sum()) / max(1, len(values)), 4)


def _named(what: str, low: int, high: int | None) -> str:
    return f"{what} {low}+" if high is None else f"{what} {low}" + (f" to {high}" if high != low else "")
