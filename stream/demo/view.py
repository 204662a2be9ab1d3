"""The demo's view on a terminal: numbers above, the followed shopper's events and leanings below."""

from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from stream.demo.shop import FAULTS_TOLD
from stream.demo.state import Shown, Snapshot

LABEL: Final = "dim"
ACCENT: Final = "cyan"
TYPE_STYLES: Final = {"purchase": "bold green", "review": "yellow", "cart": "green", "favorite": "magenta"}
NAME_WIDTH: Final = 13
COSINE_WIDTH: Final = 5
#: Rows besides the two lists: title, numbers, headings, gaps; and the legend.
FIXED_ROWS: Final = 9
LEGEND_ROWS: Final = 3
#: What a bar keeps, a frame, of its distance from where it belongs: it glides there in about a second.
GLIDE: Final = 0.6

BLOCKS: Final = " ▏▎▍▌▋▊▉█"


class View:
    """Frames for a terminal, one after another; only the bars remember the frame before."""

    def __init__(self, title: str, hint: str) -> None:
        self._title = title
        self._hint = hint
        self._bars: dict[str, float] = {}

    def frame(self, now: Snapshot, width: int, height: int) -> RenderableType:
        """One frame of at most `height` rows, for `width` columns."""
        inside = max(20, width - 2)
        rows = max(1, height - FIXED_ROWS)
        legend = rows >= 12 + LEGEND_ROWS
        if legend:
            rows -= LEGEND_ROWS
        parts: list[RenderableType] = [
            self._head(now, inside),
            Text(),
            _numbers(now, inside),
            _line(" " * 11 + _reasons(now), LABEL),
            Text(),
            _user(now),
            self._lists(now, inside, rows),
        ]
        if legend:
            parts += [Text(), _line(f"{FAULTS_TOLD} Ctrl-C ends.", LABEL), _line(self._hint, LABEL)]
        return Padding(Group(*parts), (0, 1))

    def _head(self, now: Snapshot, width: int) -> RenderableType:
        minutes, seconds = divmod(int(now.elapsed_s), 60)
        clock = f"{minutes}:{seconds:02}"
        if now.wanted is not None:
            clock = f"{now.published / now.wanted:.0%} of {now.wanted:,} events   {clock}"
        first = "" if now.first_update_s is None else f", first update after {now.first_update_s:.1f} s"
        title = Text.assemble(("interest demo", f"bold {ACCENT}"), (f"   {self._title}{first}", LABEL))
        title.truncate(max(1, width - len(clock) - 2), overflow="ellipsis")
        head = Table.grid(expand=True)
        head.add_column(ratio=1, no_wrap=True)
        head.add_column(justify="right", no_wrap=True)
        head.add_row(title, Text(clock, LABEL))
        return head

    def _lists(self, now: Snapshot, width: int, rows: int) -> RenderableType:
        right = max(30, min(56, width * 2 // 5))
        left = max(20, min(64, width - right - 3))
        both = Table.grid(padding=(0, 3, 0, 0))
        both.add_column(width=left, no_wrap=True)
        both.add_column(width=right, no_wrap=True)
        both.add_row(_line("latest events", LABEL), _line("the vector leans to (cosine)", LABEL))
        events = _events(now, left, rows)
        bars = self._leaning(now, right, rows)
        for row in range(min(rows, max(len(events), len(bars)))):
            both.add_row(events[row] if row < len(events) else "", bars[row] if row < len(bars) else "")
        return both

    def _leaning(self, now: Snapshot, width: int, rows: int) -> list[Text]:
        shown = now.leaning
        best = max((cosine for _, cosine in shown), default=0.0)
        if len(shown) > rows:
            kept = sorted(sorted(range(len(shown)), key=lambda index: -shown[index][1])[:rows])
            shown = [shown[index] for index in kept]
        lines = []
        for name, cosine in shown:
            before = self._bars.get(name, 0.0)
            self._bars[name] = at = cosine + (before - cosine) * GLIDE
            room = width - NAME_WIDTH - COSINE_WIDTH - 2
            style = f"bold {ACCENT}" if cosine == best else ACCENT
            label = _fit(name, NAME_WIDTH)
            label.stylize("bold" if cosine == best else LABEL)
            value = Text(f"{cosine:{COSINE_WIDTH}.2f}", "bold" if cosine == best else LABEL)
            lines.append(Text.assemble(label, " ", (_bar(at, room), style), " ", value))
        return lines or [_line("no update yet", LABEL)]


def _numbers(now: Snapshot, width: int) -> RenderableType:
    latency = "event → update " if width >= 66 else ""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=9, style=LABEL, no_wrap=True)
    grid.add_column(min_width=11, style="bold", justify="right", no_wrap=True)
    grid.add_column(min_width=10, justify="right", no_wrap=True)
    grid.add_column(min_width=len(latency) + 9 if latency else 4, style=LABEL, justify="right", no_wrap=True)
    grid.add_column(min_width=7, style="bold", justify="right", no_wrap=True)
    grid.add_column(width=2, no_wrap=True)
    p50, p99 = ("–" if value is None else f"{value:,}" for value in (now.p50_ms, now.p99_ms))
    grid.add_row("events", f"{now.published:,}", f"{now.events_s:,.0f}/s", f"{latency}p50", p50, "ms")
    grid.add_row("updates", f"{now.updates:,}", f"{now.updates_s:,.0f}/s", "p99", p99, "ms")
    grid.add_row("refused", f"{sum(now.refused.values()):,}", "", "lag", f"{now.lag:,}", "")
    return grid


def _reasons(now: Snapshot) -> str:
    return " · ".join(f"{reason} {count:,}" for reason, count in now.refused.items())


def _user(now: Snapshot) -> RenderableType:
    told = f"version {now.version:,}, {now.window} events in the window" if now.version else "no update yet"
    return Text.assemble(
        (now.user, f"bold {ACCENT}"), (f"   one shopper, followed: {told}", LABEL), no_wrap=True, overflow="ellipsis"
    )


def _events(now: Snapshot, width: int, rows: int) -> list[Text]:
    lines: list[Text] = []
    for event in now.events:
        lines += _event(event, now.now_ms, width)
        if len(lines) >= rows:
            break
    return lines[:rows]


def _event(event: Shown, now_ms: int, width: int) -> list[Text]:
    """A row of age, type, product and category; of a review another with stars and text."""
    age = max(0, now_ms - event.time_ms) // 1000
    rest = width - 4 - 1 - 8 - 1
    category = NAME_WIDTH if rest >= 2 * NAME_WIDTH else 0
    line = Text.assemble(
        (f"{_age(age):>4} ", LABEL),
        (f"{event.type:<8} ", TYPE_STYLES.get(event.type, "")),
        _fit(event.product, rest - category - (1 if category else 0)),
    )
    if category:
        line.append(" ")
        line.append_text(_styled(_fit(event.category, category), LABEL))
    if event.rating is None and event.text is None:
        return [line]
    stars = "★" * (event.rating or 0) + "☆" * (5 - (event.rating or 0))
    said = Text.assemble("     ", (stars, "yellow"), " ", (event.text or "", "italic"))
    said.truncate(width, overflow="ellipsis")
    return [line, said]


def _bar(share: float, width: int) -> str:
    """`share` of `width` cells, in eighths of a cell; nothing below 0."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full, part = divmod(eighths, 8)
    bar = "█" * full + (BLOCKS[part] if part else "")
    return bar.ljust(width)


def _fit(text: str, cells: int) -> Text:
    """Cut or filled to exactly so many cells."""
    fitted = Text(text)
    fitted.truncate(max(0, cells), overflow="ellipsis", pad=True)
    return fitted


def _styled(text: Text, style: str) -> Text:
    text.stylize(style)
    return text


def _line(text: str, style: str) -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _age(age_s: int) -> str:
    return "now" if age_s < 1 else f"{age_s} s" if age_s < 100 else f"{age_s // 60} m"
