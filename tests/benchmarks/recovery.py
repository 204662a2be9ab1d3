"""How long a worker takes until it works again: with nothing, with its local state, and how fast a standby follows."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks import stage, users

USERS, QUICK_USERS = 1_000_000, 100_000
CAUGHT_UP_S = 300.0

_RECOVERED = re.compile(r"recovered: (\d+) records in ([\d.]+) s")
_FOLLOWED = re.compile(r"standby copies have caught up: (\d+) records in ([\d.]+) s")


def measure(broker: str, folder: Path, quick: bool, report: Callable[[str], None]) -> dict[str, Any]:
    """Users restored a second, and seconds from the start of the process until it is ready and to its first update."""
    count = QUICK_USERS if quick else USERS
    model = users.bundle(folder / "recovery-bundle")
    given = stage.prepare(broker, "bench-recovery", model, folder / "recovery", users.PARTITIONS, standby_replicas=0)
    report(f"recovery: a changelog of {count:,} users")
    began = time.monotonic()
    value_bytes = users.fill(given, count, users.SHORT)
    report(f"recovery: filled in {time.monotonic() - began:.0f} s")
    result: dict[str, Any] = {"users": count, "value_bytes": round(value_bytes / count)}
    for store in ("memory", "rocksdb"):
        result[store] = _start(given | {"store": store, "data_dir": folder / f"recovery-{store}"}, report, store)
    again = given | {"data_dir": folder / "recovery-rocksdb"}
    result["intact"] = _start(again, report, "rocksdb, local state intact")
    result["standby"] = _follow(again, folder, report)
    return result


def _start(given: dict[str, Any], report: Callable[[str], None], name: str) -> dict[str, float]:
    """Start a worker for whom an event waits, and stop it after its update."""
    users.touch(given, users.names(0, 1))
    worker = stage.start_worker(given)
    try:
        found = {"ready_s": worker.ready_s - worker.started_s}
        found["first_update_s"] = _first_update_s(given, worker) - worker.started_s
        found |= _read(_RECOVERED, worker)
    finally:
        worker.stop()
    report(f"recovery: {name}: " + ", ".join(f"{key} {value:,.1f}" for key, value in found.items()))
    return found


def _first_update_s(given: dict[str, Any], worker: stage.Running) -> float:
    """Time of the only update since the worker was started, seconds since the epoch."""
    deadline = time.monotonic() + stage.DONE_TIMEOUT_S
    while time.monotonic() < deadline and worker.ended is None:
        last_s = stage.last_update_s(given["broker"], given["update_topic"], users.PARTITIONS)
        if last_s >= worker.started_s:
            return last_s
        time.sleep(0.05)
    raise worker.failure("has published no update")


def _follow(given: dict[str, Any], folder: Path, report: Callable[[str], None]) -> dict[str, float]:
    """A second worker joins with an empty folder: it takes over half of the partitions, and follows the other half."""
    one = stage.start_worker(given | {"standby_replicas": 1})
    try:
        two = stage.start_worker(given | {"standby_replicas": 1, "data_dir": folder / "recovery-second"})
        try:
            deadline = time.monotonic() + CAUGHT_UP_S
            while not (found := _read(_FOLLOWED, two)):
                if time.monotonic() > deadline or two.ended is not None:
                    raise two.failure("has no standby copies that have caught up")
                time.sleep(0.1)
        finally:
            two.stop()
    finally:
        one.stop()
    report("recovery: standby: " + ", ".join(f"{key} {value:,.1f}" for key, value in found.items()))
    return found


def _read(said: re.Pattern[str], worker: stage.Running) -> dict[str, float]:
    """What a worker has told of how much it read of the changelog."""
    found = said.findall(worker.said)
    if not found:
        return {}
    records, seconds = int(found[-1][0]), float(found[-1][1])
    return {"records": records, "seconds": seconds, "users_a_second": records / max(seconds, 0.01)}


def show(result: dict[str, Any]) -> list[str]:
    """A Markdown table."""
    lines = [
        f"| {result['users']:,} users, values of {result['value_bytes']} bytes | users/s | start to ready, s "
        "| start to first update, s |",
        "|---|---|---|---|",
    ]
    for key, name in (
        ("rocksdb", "RocksDB (default), from the changelog"),
        ("memory", "in memory, from the changelog"),
        ("intact", "RocksDB, local state intact"),
        ("standby", "a standby follows (RocksDB)"),
    ):
        row = result[key]
        rate = f"{row['users_a_second']:,.0f}" if row.get("records", 0) > 1000 else "–"
        rest = [f"{row[column]:.1f}" if column in row else "–" for column in ("ready_s", "first_update_s")]
        lines.append(f"| {name} | {rate} | {rest[0]} | {rest[1]} |")
    return lines
