"""`make faults`: every fault while a load runs, and what it cost: events lost, events counted twice, and the seconds
until updates flowed again (after an outage: from when it was over). `make soak`: faults of all kinds one after the
other. The exit code is 1 where anything was lost or counted twice, or did not go on."""

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

import tests.conftest  # noqa: F401  # settings of the person who runs this must not reach the workers
from tests.faults.scenarios import SHORT_FORM, Scenario
from tests.faults.soak import soak
from tests.faults.stage import Ground, open_ground, run
from tests.faults.table import Row, exits, table


def main() -> int:
    """Run what the arguments say, print, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--times", type=int, default=1, help="how often each fault is run")
    parser.add_argument("--only", default="", help="the faults whose names hold this text")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="random faults on one fleet for so long")
    parser.add_argument("--seed", type=int, default=0, help="of events and moments")
    asked = parser.parse_args()
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # load and onlooker have much to say of a broker that is away
    with (
        tempfile.TemporaryDirectory(prefix="interest-faults-") as folder,
        open_ground(Path(folder), asked.seed) as ground,
    ):
        if asked.soak is not None:
            return _soak(ground, asked.soak, asked.seed)
        return _faults(ground, asked.only, asked.times, asked.seed)


def _faults(ground: Ground, only: str, times: int, seed: int) -> int:
    rows = []
    for name, scenario in SHORT_FORM.items():
        if only in name:
            rows.append(row := Row(name))
            for number in range(times):
                _add(row, ground, scenario, seed + number)
    say(table(rows))
    lost, twice = (
        sum(getattr(outcome, name) for row in rows for outcome in row.outcomes) for name in ("lost", "twice")
    )
    say(f"lost {lost} twice {twice}")
    return int(any(row.failures for row in rows))


def _soak(ground: Ground, seconds: float, seed: int) -> int:
    say(f"seed {seed}")
    try:
        rows, report = soak(ground, seconds, seed, say)
    except AssertionError as error:
        say(f"FAILED: {error}", *getattr(error, "__notes__", ()), sep="\n")
        return 1
    outcome = report.outcome
    say(table(rows))
    say(f"{report.starts} workers started; ended: {exits(report.exits)}; at most {report.peak_bytes >> 20} MiB each")
    say(str(outcome), *outcome.problems, sep="\n")
    say(f"lost {outcome.lost} twice {outcome.twice}")
    return int(not outcome.exact)


def _add(row: Row, ground: Ground, scenario: Scenario, seed: int) -> None:
    """Run a scenario and add what came of it; a line of that."""
    began = time.monotonic()
    try:
        report = run(ground, scenario, seed=seed)
    except AssertionError as error:
        row.failures.append(str(error))
        say(f"{row.fault}: FAILED: {error}", *getattr(error, "__notes__", ()), sep="\n")
        return
    row.takeovers_s += report.takeovers_s
    row.outcomes.append(report.outcome)
    if not report.outcome.exact:
        row.failures.append(str(report.outcome))
    took_s = time.monotonic() - began
    away = ", ".join(f"{seconds:.1f}" for seconds in report.takeovers_s)
    say(f"{row.fault}: {report.outcome}; {away} s; workers ended with {exits(report.exits)}; {took_s:.0f} s in all")


def say(*lines: str, sep: str = " ") -> None:
    """Print at once."""
    print(*lines, sep=sep, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
