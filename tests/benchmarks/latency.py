"""From an event's hand-over to the producer to its update's arrival at a consumer, at three rates, default settings.

The client (tests.benchmarks.clock) is a process of its own. What it takes by itself, publishing and reading the same
topic with no worker between, is measured in the same run: the floor of what can be seen here. Broker, worker and client
share the machine's cores. Before it begins, the worker has met all users: their states are in memory, as in life.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from tests.benchmarks import load, stage, workloads
from tests.bundles import random_bundle

PARTITIONS = 4
HIDDEN, DIM = 128, 64
RATES = (100, 1_000, 10_000)
# Ten seconds until the broker's JVM has compiled what so many small requests call for: before, p99 is twice as high.
RUNS, RUN_S, WARM_S, QUICK_WARM_S = 5, 4, 10, 2
USERS_EVENTS = 100_000  # published before the clock starts
BEGIN_MS = 1_735_689_600_000
ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".venv-peers" / "bin" / "python"
#: Upper bounds of the histogram's buckets, ms; the last is open.
BUCKETS_MS = tuple(round(2 ** (step / 2), 1) for step in range(21))


def measure(broker: str, folder: Path, quick: bool, report: Callable[[str], None]) -> dict[str, Any]:
    """Percentiles of each rate in ms, medians of the runs, and their histogram; `alone`: the client without worker."""
    workload = workloads.find("short" if "short" in workloads.available() else "shop")
    events = list(workload.events(USERS_EVENTS))
    catalog = workload.catalog()
    random_bundle(
        folder / "latency-bundle",
        item_ids=list(catalog),
        item_categories=list(catalog.values()),
        hidden=HIDDEN,
        dim=DIM,
    )
    lines = folder / "latency-events.jsonl"
    lines.write_bytes(
        b"\n".join(orjson.dumps({name: value for name, value in e.items() if name != "timestamp"}) for e in events)
    )
    given = stage.prepare(broker, "bench-latency", folder / "latency-bundle", folder / "latency", PARTITIONS)
    topic = given["event_topics"]
    runs, run_s = (1, 2) if quick else (RUNS, RUN_S)
    result: dict[str, Any] = {"workload": workload.name, "runs": runs, "run_s": run_s, "rates": {}}

    met = (event | {"timestamp": BEGIN_MS + number} for number, event in enumerate(events))
    sent = load.send(broker, topic, met, PARTITIONS)
    clock = _Clock(broker, topic, lines, len(events), runs, run_s, QUICK_WARM_S if quick else WARM_S)
    worker = stage.start_worker(given)
    try:
        stage.wait_committed(worker, broker, given["app_id"], topic, PARTITIONS, sent)
        for rate in RATES:
            cpu_s, began = worker.cpu_s(), time.monotonic()
            found = clock.run(rate, given["update_topic"])
            found["worker_cpu"] = round((worker.cpu_s() - cpu_s) / (time.monotonic() - began), 2)
            result["rates"][str(rate)] = found
            report(f"latency: {_line(rate, found)}")
    finally:
        worker.stop()
    for rate in RATES:  # the topic's other events are the worker's no more
        result["rates"][str(rate)]["alone"] = alone = clock.run(rate, topic, runs=1)
        report(f"latency: the client alone: {_line(rate, alone)}")
    return result


def show(result: dict[str, Any]) -> list[str]:
    """A row for each rate."""
    rows = [
        "| events/s | p50 ms | p99 ms | p99.9 ms | the client alone, p50/p99 ms | worker's CPU, cores |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for rate, found in result["rates"].items():
        alone = found["alone"]
        rows.append(
            f"| {int(rate):,} | {found['p50']:.1f} | {found['p99']:.1f} | {found['p99.9']:.1f} | "
            f"{alone['p50']:.1f}/{alone['p99']:.1f} | {found['worker_cpu']:.2f} |"
        )
    return rows


class _Clock:
    """Runs of the client, each with the events after those of the one before."""

    def __init__(self, broker: str, topic: str, lines: Path, first: int, runs: int, run_s: int, warm_s: int) -> None:
        self._broker, self._topic, self._lines = broker, topic, lines
        self._next = first
        self._runs, self._run_s, self._warm_s = runs, run_s, warm_s

    def run(self, rate: int, answers: str, runs: int | None = None) -> dict[str, Any]:
        """Publish at a rate, read the answers of a topic; the figures of all runs, which follow each other."""
        count = rate * self._run_s * (runs or self._runs)
        warm = rate * self._warm_s
        options = {
            "broker": self._broker,
            "events": self._topic,
            "answers": answers,
            "lines": self._lines,
            "first": self._next,
            "begin-ms": BEGIN_MS,
            "rate": rate,
            "warm": warm,
            "count": count,
        }
        call = [str(PEERS if PEERS.exists() else sys.executable), "-m", "tests.benchmarks.clock"]
        call += [f"--{name}={value}" for name, value in options.items()]
        ended = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            raise RuntimeError(f"the clock ended with {ended.returncode}: {ended.stderr}")
        self._next += warm + count
        said = json.loads(ended.stdout)
        return summary(np.array(said["ms"]), runs or self._runs) | {
            "client_cpu": said["cpu"],
            "client_late_p99_ms": said["late_p99_ms"],
        }


def summary(ms: NDArray[np.float64], runs: int) -> dict[str, Any]:
    """The medians of the runs' percentiles, each run's p99, and a histogram of all, [buckets + 1]."""
    parts = np.array_split(ms, runs)
    percentiles = {
        name: [round(float(np.percentile(part, q)), 2) for part in parts]
        for name, q in (("p50", 50), ("p99", 99), ("p99.9", 99.9))
    }
    return {name: median(values) for name, values in percentiles.items()} | {
        "p99_of_runs": percentiles["p99"],
        "max": round(float(ms.max()), 2),
        "events": len(ms),
        "histogram": np.bincount(np.searchsorted(BUCKETS_MS, ms), minlength=len(BUCKETS_MS) + 1).tolist(),
    }


def _line(rate: int, found: dict[str, Any]) -> str:
    return (
        f"{rate:,} events/s: p50 {found['p50']:.1f}, p99 {found['p99']:.1f} ({_listed(found['p99_of_runs'])}), "
        f"p99.9 {found['p99.9']:.1f}, max {found['max']:.1f} ms; client's CPU {found['client_cpu']:.2f}"
        + (f", worker's {found['worker_cpu']:.2f}" if "worker_cpu" in found else "")
    )


def _listed(values: Sequence[float]) -> str:
    return " ".join(f"{value:.1f}" for value in values)
