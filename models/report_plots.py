"""The plots of an evaluation report as SVG that takes its colours from the page around it; no file, no window.

The same figures give the same bytes: no date, ids from a fixed salt, and nothing of the user's own matplotlib settings.
"""

import io
import re
import warnings
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final
from unicodedata import east_asian_width

from models.report_content import bins_of, figure, groups_of, percent, points, probabilities_of
from models.verdict import BETTER, DAILY, MODEL, OWN, PLAIN, WORSE, differences, systems_of, top_of, wilson
from stream.errors import InterestError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN: Final = 4.6  # narrow, so that a phone shows letters of nearly their full size
ROW_IN: Final = 0.25
LABEL_CHARS: Final = 22  # wide ones, Chinese for one, count double
#: Stand-ins for the page's colours: matplotlib knows no variables.
COLORS: Final = {
    name: f"#01010{digit}"
    for digit, name in enumerate(("ink", "muted", "line", "ours", "plain", "daily", "other", "good", "bad"))
}
OF_SYSTEM: Final = {MODEL: "ours", PLAIN: "plain", DAILY: "daily"}
SETTINGS: Final[dict[Any, Any]] = {
    "svg.hashsalt": "interest-stream",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may hold a dollar sign
    "font.size": 10,
    "axes.edgecolor": COLORS["line"],
    "axes.labelcolor": COLORS["muted"],
    "axes.titlecolor": COLORS["ink"],
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "text.color": COLORS["ink"],
    "xtick.color": COLORS["line"],
    "ytick.color": COLORS["line"],
    "xtick.labelcolor": COLORS["muted"],
    "ytick.labelcolor": COLORS["ink"],
    "legend.frameon": False,
    "legend.labelcolor": COLORS["ink"],
}


def draw(found: dict[str, Any], keys: Sequence[str]) -> dict[str, str]:
    """An SVG for each key: `differences`, `systems`, `group-KIND`, `calibration`, `training`; figures must be there.

    Raises:
        InterestError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context, style
    except ImportError as error:
        raise InterestError("plots need matplotlib: pip install 'interest-stream[train]'") from error

    plots: dict[str, Callable[[dict[str, Any]], Figure]] = {
        "differences": _differences,
        "systems": _systems,
        "calibration": _calibration,
        "training": _training,
    }
    drawn = {}
    with style.context("default"), rc_context(SETTINGS), warnings.catch_warnings():
        # Letters that matplotlib's font lacks are measured as a box, and drawn by the reader's own font.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        for key in keys:
            made = _group(found, key.removeprefix("group-")) if key.startswith("group-") else plots[key](found)
            drawn[key] = _svg(made, key)
    return drawn


def _svg(made: "Figure", key: str) -> str:
    text = io.StringIO()
    made.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg class="plot" viewBox="\1" role="img">', svg, count=1)
    return re.sub(r"<[^>]+>", lambda tag: _tag(tag[0], key), svg).strip()


def _tag(tag: str, key: str) -> str:
    """A tag with the colours and the font of the page, and ids that no other plot of the page has."""
    for name, color in COLORS.items():
        tag = tag.replace(color, f"var(--{name})")
    tag = re.sub(r"font-family: [^;\"]*;? ?", "", tag)
    tag = re.sub(r"font: ([^;\"]*?px) [^;\"]*", r"font: \1 var(--font)", tag)  # as matplotlib up to 3.10 has it
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{key}-", tag.replace("xlink:href", "href"))


def _panels(heights: Sequence[float], around: float) -> tuple["Figure", list["Axes"]]:
    """Axes of these heights below each other, inches, each with `around` for its title and what stands below it."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(WIDTH_IN, sum(heights) + around * len(heights)), layout="constrained")
    axes = made.subplots(len(heights), squeeze=False, gridspec_kw={"height_ratios": list(heights)})
    return made, list(axes[:, 0])


def _rows(axes: "Axes", names: Sequence[str]) -> None:
    """Names down the left side, the first on top."""
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _beside(axes: "Axes", x: float, y: float, text: str, color: str = "ink") -> None:
    axes.annotate(text, (x, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9, color=COLORS[color])


def _differences(found: dict[str, Any]) -> "Figure":
    told = {group: one for group in ("item", "category") if (one := differences(found, group))}
    made, panels = _panels([ROW_IN * len(one) for one in told.values()], 0.75)
    for axes, (group, rows) in zip(panels, told.items(), strict=True):
        axes.set_title({"item": "Items", "category": "Categories"}[group])
        axes.axvline(0, color=COLORS["muted"], linewidth=1)
        for y, each in enumerate(rows):
            color = {BETTER: "good", WORSE: "bad"}.get(each.word, "muted")
            axes.plot(
                [100 * each.low, 100 * each.high], [y, y], color=COLORS[color], linewidth=2, solid_capstyle="butt"
            )
            axes.plot(100 * (each.ours - each.theirs), y, "o", color=COLORS[color], markersize=6)
            _beside(axes, max(0, 100 * each.high), y, points(each.ours - each.theirs), color)
        _rows(axes, [one.against for one in rows])
        low, high = min(0, *(100 * one.low for one in rows)), max(0, *(100 * one.high for one in rows))
        span = (high - low) or 1
        axes.set_xlim(low - 0.06 * span, high + 0.24 * span)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("← worse\u2003\u2003points\u2003\u2003better →", fontsize=9)
    return made


def _systems(found: dict[str, Any]) -> "Figure":
    top, systems = top_of(found), found["systems"]
    told = {
        group: has
        for group in ("item", "category")
        if (has := [one for one in systems_of(found) if group in systems[one]])
    }
    made, panels = _panels([ROW_IN * len(has) for has in told.values()], 0.4)
    for axes, (group, has) in zip(panels, told.items(), strict=True):
        axes.set_title({"item": "Items", "category": "Categories"}[group])
        furthest = 0.0
        for y, name in enumerate(has):
            share, asked = systems[name][group]["hr"][top], systems[name][group]["asked"]
            low, high = wilson(share, asked)
            axes.barh(y, share, height=0.66, color=COLORS[OF_SYSTEM.get(name, "other")])
            axes.plot([low, high], [y, y], color=COLORS["ink"], linewidth=1)
            _beside(axes, high, y, percent(share))
            furthest = max(furthest, high)
        _rows(axes, has)
        axes.set_xlim(0, (furthest or 1) * 1.25)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
    return made


def _group(found: dict[str, Any], kind: str) -> "Figure":
    top, systems = top_of(found), found["systems"]
    _, _, _, groups = groups_of(found)[kind]
    names = [name for name in systems_of(found) if name in OWN]
    others = [name for name in systems_of(found) if name not in OWN and any(one in systems[name] for one in groups)]
    names += sorted(others, key=lambda name: -systems[name].get("item", {"hr": {top: 0}})["hr"][top])[:1]
    bar = 0.84 / len(names)
    made, (axes,) = _panels([len(groups) * (0.14 + 0.15 * len(names))], 0.55)
    furthest = 0.0
    for place, name in enumerate(names):
        for y, group in enumerate(groups):
            if group not in systems[name]:
                continue
            share = systems[name][group]["hr"][top]
            at = y + (place - (len(names) - 1) / 2) * bar
            color = COLORS[OF_SYSTEM.get(name, "other")]
            axes.barh(at, share, height=bar * 0.86, color=color, label=_short(name) if y == 0 else None)
            _beside(axes, share, at, percent(share))
            furthest = max(furthest, share)
    _rows(axes, list(groups.values()))
    axes.set_xlim(0, (furthest or 1) * 1.22)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    made.legend(loc="outside upper left", ncols=2, fontsize=9, handlelength=0.9, handleheight=0.9, borderpad=0)
    return made


def _calibration(found: dict[str, Any]) -> "Figure":
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    told = {name: bins for name, one in probabilities_of(found).items() if (bins := sorted(bins_of(one)))}
    rows = -(-len(told) // 2)
    made = Figure(figsize=(WIDTH_IN, 2.25 * rows), layout="constrained")
    panels = list(made.subplots(rows, 2, squeeze=False).flat)
    for axes, (name, bins) in zip(panels, told.items(), strict=False):
        predicted, observed, weight = zip(*bins, strict=True)
        end = 1.08 * max(*predicted, *observed) or 1
        axes.plot([0, end], [0, end], color=COLORS["muted"], linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(predicted, observed, color=COLORS["ours"], linewidth=1)
        sizes = [10 + 50 * (one / max(weight)) ** 0.5 for one in weight]
        axes.scatter(predicted, observed, s=sizes, color=COLORS["ours"], linewidths=0, zorder=3, clip_on=False)
        axes.set(xlim=(0, end), ylim=(0, end), title=_short(name), box_aspect=1)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(3))
            axis.set_major_formatter(PercentFormatter(1, decimals=None, symbol=" %"))
        axes.tick_params(labelsize=8, labelcolor=COLORS["muted"])
        ece = figure(found["probability"][name].get("ece"))
        axes.text(0.04, 0.95, f"ECE {ece}", transform=axes.transAxes, fontsize=8, va="top", color=COLORS["muted"])
    for axes in panels[len(told) :]:
        axes.set_visible(False)
    made.supxlabel("mean predicted", fontsize=9, color=COLORS["muted"])
    made.supylabel("share observed", fontsize=9, color=COLORS["muted"])
    return made


def _training(found: dict[str, Any]) -> "Figure":
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    told = found["training"]
    hits = [one for one in told if one.get("hr@10") is not None]
    made, panels = _panels([1.1] * (2 if hits else 1), 0.45)
    curves = (("Loss", told, "loss", "other"), ("HR@10 of what was held out", hits, "hr@10", "ours"))
    for axes, (title, ones, name, color) in zip(panels, curves, strict=False):
        x, y = [one["epoch"] for one in ones], [one[name] for one in ones]
        axes.plot(x, y, "o-", color=COLORS[color], linewidth=2, markersize=4, clip_on=False)
        axes.set_title(title)
        axes.set_xlim(told[0]["epoch"] - 0.3, told[-1]["epoch"] + 0.3)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="y", color=COLORS["line"], linewidth=0.6)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0, labelcolor=COLORS["muted"])
        if name != "loss":
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None, symbol=" %"))
    panels[-1].set_xlabel("epoch", fontsize=9)
    return made


def _short(name: str) -> str:
    """A label of one line that leaves room for what it labels."""
    line = "".join(one if one.isprintable() else " " for one in name)
    width = list(accumulate(2 if east_asian_width(one) in "WF" else 1 for one in line))
    if not line or width[-1] <= LABEL_CHARS:
        return line
    return f"{line[: bisect_right(width, LABEL_CHARS - 1)]}…"
