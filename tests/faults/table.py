"""Figures of a run as lines of text."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.faults.outcome import Outcome


@dataclass
class Row:
    """What one kind of fault has cost so far."""

    fault: str
    takeovers_s: list[float] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def table(rows: Sequence[Row]) -> str:
    """Fault, times, events, lost, twice, takeover seconds (median, worst); a line each."""
    width = max(len(row.fault) for row in rows)
    lines = [f"{'fault':{width}}  times   events  lost  twice  takeover s: median  worst"]
    for row in rows:
        counted = [sum(numbers) for numbers in zip(*((o.events, o.lost, o.twice) for o in row.outcomes), strict=True)]
        events, lost, twice = [f"{number:,}" for number in counted] or ["", "", ""]
        away = row.takeovers_s
        median, worst = (f"{statistics.median(away):.1f}", f"{max(away):.1f}") if away else ("", "")
        lines.append(
            f"{row.fault:{width}}  {len(away):5}  {events:>7}  {lost:>4}  {twice:>5}  {median:>18}  {worst:>5}"
            + ("  FAILED" if row.failures else "")
        )
    return "\n".join(lines)


def exits(codes: Counter[int]) -> str:
    """Exit codes in words, the commonest first."""
    return ", ".join(
        f"{count} × {f'signal {-code}' if code < 0 else f'code {code}'}" for code, count in codes.most_common()
    )
