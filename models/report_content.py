"""What an evaluation report is made of: plain sentences, tables and figures, before any markup."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from math import isfinite
from typing import Any, Final

from models.verdict import MODEL
from stream.contract import EVENT_TYPES
from stream.errors import UsageError

#: Kinds of groups: how their names begin, key, title, head of the column, what parts the events.
KINDS: Final = (
    ("after ", "length", "By length of the user's window", "window", "Events in the window before the one asked for."),
    ("item seen ", "popularity", "By popularity of the item", "seen", "The item's events that are not asked for."),
    ("item of days ", "age", "By age of the item", "days", "Days since the item first came."),
)
NEEDED: Final = ("after_ms", "asked", "known", "without_history", "coverage")


@dataclass(frozen=True)
class About:
    """What a report is of, as its caller knows it; nothing is read from a clock."""

    bundle: str  # version
    log: str  # which log, in words of a person: file, format, what was left out
    command: str  # that measured it
    made_on: date
    events: int = 0  # of the log; 0: not told
    users: int = 0  # of the log; 0: not told
    first_ms: int = 0  # the log's oldest event; 0: not told
    last_ms: int = 0  # its newest; 0: not told


class Strong(str):
    """Text of a cell that stands out."""

    __slots__ = ()


@dataclass(frozen=True)
class Table:
    """Rows of text; the first `left` columns are words, the others figures."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it, in the order of the fields."""

    title: str
    lead: str = ""  # one sentence that stands out
    says: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()  # a word or two, and what there is to say of it
    plot: str = ""  # key of models.report_plots.draw
    caption: str = ""  # of the plot
    table: Table | None = None
    code: str = ""


def checked(found: dict[str, Any]) -> dict[str, Any]:
    """The same, if it is an answer of models.measure.

    Raises:
        UsageError: it lacks a figure that every report tells.
    """
    try:
        model = found["systems"][MODEL]["item"]
        figures = [model["asked"], *model["hr"].values(), *(found[name] for name in NEEDED)]
        if not model["hr"] or not all(isinstance(one, int | float) for one in figures):
            raise ValueError(f"no number among {figures}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"expected figures as `interest model evaluate` writes them, with {', '.join(NEEDED)} and "
            f"systems.model.item, got others: {type(error).__name__} {error}"
        ) from error
    return found


def groups_of(found: dict[str, Any]) -> dict[str, tuple[str, str, str, dict[str, str]]]:
    """Kinds of groups that were measured, by key: title, head of the column, what parts them, and short names."""
    names = [name for name in found["systems"][MODEL] if name not in ("item", "category")]
    kinds: dict[str, tuple[str, str, str, dict[str, str]]] = {}
    types = {name: name for name in names if name in EVENT_TYPES}
    if types:
        kinds["type"] = "By type of event", "event", "What the user did with the item that was asked for.", types
    left = [name for name in names if name not in types]
    for begins, key, title, head, parts in KINDS:
        mine = {name: name.removeprefix(begins) for name in left if name.startswith(begins)}
        left = [name for name in left if name not in mine]
        if mine:
            kinds[key] = title, head, parts, mine
    if left:
        kinds["other"] = "By other groups", "group", "As the evaluation names them.", {name: name for name in left}
    return kinds


def probabilities_of(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What is told of each type's probabilities; what stands beside (a horizon) is none."""
    told = found.get("probability") or {}
    return {name: one for name, one in told.items() if isinstance(one, dict)}


def bins_of(one: dict[str, Any]) -> list[tuple[float, float, float]]:
    """Bins of a calibration, as objects or in threes: mean predicted, share observed, weight; none without weight."""
    names = ("predicted", "observed", "weight")
    told = [[each[name] for name in names] if isinstance(each, dict) else each for each in one.get("bins") or []]
    return [(float(x), float(y), float(weight)) for x, y, weight in told if weight]


def clock(time_ms: int) -> str:
    """Minutes, UTC."""
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def percent(share: float) -> str:
    """A share with two places: 2.87 %."""
    return f"{100 * share:.2f} %"


def points(difference: float) -> str:
    """A difference of two shares in points of a percent, with its sign; never -0.00."""
    return f"{round(100 * difference, 2) + 0.0:+.2f}".replace("-", "−")


def figure(value: object) -> str:
    """Four places, or a dash for what is none."""
    return f"{value:.4f}" if isinstance(value, int | float) and isfinite(value) else "–"


def best(text: str, is_best: bool) -> str:
    """The text, to stand out if it is the best of its kind."""
    return Strong(text) if is_best else text
