"""The demo in plain lines: as it goes, and the summary at its end."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stream.demo.measure import Measure, percentile
from stream.demo.shop import Kind
from stream.demo.state import Snapshot
from stream.rules import Verdict

NAMED: Final = 3
FAULTS: Final = (Kind.LATE, Kind.REPEATED, Kind.MALFORMED)


@dataclass(frozen=True, slots=True)
class Starts:
    """Seconds that each took; None: it was there already."""

    broker_s: float | None
    worker_s: float


def progress(now: Snapshot) -> str:
    """One line that says how it goes."""
    of = "" if now.wanted is None else f" of {now.wanted:,}"
    latency = "" if now.p50_ms is None else f"; p50 {now.p50_ms:,} ms, p99 {now.p99_ms:,} ms"
    return (
        f"{now.elapsed_s:.0f} s: {now.published:,}{of} events, {now.events_s:,.0f}/s; "
        f"{now.updates:,} updates, {now.updates_s:,.0f}/s{latency}; lag {now.lag:,}; "
        f"refused {sum(now.refused.values()):,}; {now.user} leans to {_leaning(now, 2)}"
    )


def summary(now: Snapshot, measure: Measure, starts: Starts) -> list[str]:
    """What there was, a line each; `now` is the moment at which it ended."""
    total = measure.latencies.total
    p50, p99 = percentile(total, 0.5), percentile(total, 0.99)
    broker = "" if starts.broker_s is None else f"broker {starts.broker_s:.1f} s, "
    first = "" if now.first_update_s is None else f", first update after {now.first_update_s:.1f} s"
    verdicts = measure.verdicts
    lines = [
        f"events   {now.published:,} in {now.elapsed_s:.1f} s, {now.published / now.elapsed_s:,.0f}/s",
        "         of these on purpose " + ", ".join(f"{measure.kinds[kind]:,} {kind}" for kind in FAULTS),
        f"windows  {verdicts[Verdict.ACCEPTED]:,} events counted once, {verdicts[Verdict.DUPLICATE]:,} known already, "
        f"{verdicts[Verdict.LATE]:,} too late",
        f"updates  {now.updates:,} for {len(measure.answered):,} shopper{'' if len(measure.answered) == 1 else 's'}",
        f"refused  {_refused(now.refused)}",
        "latency  " + ("none measured" if p50 is None else f"p50 {p50:,} ms, p99 {p99:,} ms from event to update"),
        f"start    {broker}worker {starts.worker_s:.1f} s{first}",
        f"{now.user:<8} leans to {_leaning(now, NAMED)}",
    ]
    if now.lag:
        lines.append(f"lag      {now.lag:,} events had no answer yet")
    if measure.unmatched:
        lines.append(f"         {measure.unmatched:,} updates were no answer to what was published")
    return lines


def _refused(refused: Mapping[str, int]) -> str:
    named = ", ".join(f"{reason} {count:,}" for reason, count in refused.items())
    return f"{sum(refused.values()):,}" + (f" ({named})" if named else "")


def _leaning(now: Snapshot, count: int) -> str:
    best = sorted(now.leaning, key=lambda pair: -pair[1])[:count]
    return ", ".join(f"{name} {cosine:.2f}" for name, cosine in best) or "nothing yet"
