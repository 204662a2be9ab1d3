"""Memory and disk of a worker that holds many users: with short and with full windows, on disk and in memory."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rocksdict

from tests.benchmarks import stage, users

USERS, QUICK_USERS = 1_000_000, 50_000
#: Users who get an event each, so that the model's states of as many as are kept in memory are there.
TOUCHED, QUICK_TOUCHED = 120_000, 10_000
STEADY_S, QUICK_STEADY_S = 20.0, 5.0
STEADY_EVENTS = 1000  # a second
CASES = (("rocksdb", "short"), ("rocksdb", "full"), ("memory", "short"), ("memory", "full"))
WINDOWS = {"short": users.SHORT, "full": users.FULL}


def measure(
    broker: str, folder: Path, quick: bool, report: Callable[[str], None], steady_s: float | None = None
) -> dict[str, Any]:
    """Bytes of memory and of disk, by store and window; memory while events come for `steady_s` seconds."""
    model = users.bundle(folder / "footprint-bundle")
    count = QUICK_USERS if quick else USERS
    result: dict[str, Any] = {"users": count}
    given, sent = {}, dict.fromkeys(WINDOWS, users.PARTITIONS)
    for window, events in WINDOWS.items():
        given[window] = stage.prepare(
            broker, f"bench-footprint-{window}", model, folder / "none", users.PARTITIONS, standby_replicas=0
        )
        if window == "short":
            result["empty_rss"] = _empty(given[window], folder)
            sent[window] += 1
            report(f"footprint: a worker without users: {_mib(result['empty_rss'])}")
        result[f"{window}_value_bytes"] = round(users.fill(given[window], count, events) / count)
    for store, window in CASES[:2] if quick else CASES:
        told = given[window] | {"store": store, "data_dir": folder / f"footprint-{store}-{window}"}
        touched = QUICK_TOUCHED if quick else TOUCHED
        seconds = steady_s or (QUICK_STEADY_S if quick else STEADY_S)
        found = _hold(told, count, touched, seconds, sent, window)
        found["rss_a_user"] = (found["steady_last_rss"] - result["empty_rss"]) / count
        result[f"{store}_{window}"] = found
        report(f"footprint: {store}, {window} windows: " + ", ".join(f"{k} {_mib(v)}" for k, v in found.items()))
    return result


def _empty(given: dict[str, Any], folder: Path) -> int:
    """Memory of a worker that has published an update of one user."""
    worker = stage.start_worker(given | {"data_dir": folder / "footprint-empty"})
    try:
        users.touch(given, users.names(0, 1))
        stage.wait_committed(worker, given["broker"], given["app_id"], given["event_topics"], users.PARTITIONS, 1)
        return worker.rss_bytes()
    finally:
        worker.stop()


def _hold(
    given: dict[str, Any], count: int, touched: int, steady_s: float, sent: dict[str, int], window: str
) -> dict[str, float]:
    """One worker that holds all users: bytes, when it is ready, with states in memory, and while events come."""

    def publish(names: list[bytes]) -> None:
        users.touch(given, names)
        sent[window] += len(names)

    def wait() -> None:
        stage.wait_committed(
            worker, given["broker"], given["app_id"], given["event_topics"], users.PARTITIONS, sent[window]
        )

    worker = stage.start_worker(given)
    try:
        found: dict[str, float] = {"ready_rss": worker.rss_bytes()}
        publish(users.names(0, touched))
        wait()
        found["cached_rss"] = worker.rss_bytes()
        seen: list[int] = []
        pick = random.Random(0)
        began = time.monotonic()
        while time.monotonic() < began + steady_s:
            publish([users.names(pick.randrange(count), 1)[0] for _ in range(STEADY_EVENTS)])
            time.sleep(max(0.0, began + len(seen) + 1 - time.monotonic()))
            seen.append(worker.rss_bytes())
        wait()
        third = max(1, len(seen) // 3)
        found["steady_first_rss"] = sum(seen[:third]) / third
        found["steady_last_rss"] = sum(seen[-third:]) / third
        found["steady_highest_rss"] = max(seen)
        found["disk"] = _on_disk(given["data_dir"])
    finally:
        worker.stop()
    if given["store"] == "rocksdb":
        found["disk_compacted"] = _compact(given["data_dir"])
    return found


def _on_disk(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def _compact(folder: Path) -> int:
    """Bytes on disk once RocksDB has compacted all."""
    for copy in {path.parent for path in folder.rglob("CURRENT")}:
        db = rocksdict.Rdict(str(copy), rocksdict.Options(raw_mode=True))
        db.flush()
        db.compact_range(None, None)
        db.close()
    return _on_disk(folder)


def _mib(count: float) -> str:
    return f"{count / (1 << 20):,.0f} MiB" if count > 1 << 20 else f"{count:,.0f} B"


def show(result: dict[str, Any]) -> list[str]:
    """A Markdown table."""
    count = result["users"]
    lines = [
        f"A worker without users: {_mib(result['empty_rss'])}. With {count:,} users, values of "
        f"{result['short_value_bytes']} bytes (short windows) and {result['full_value_bytes']} bytes (full ones):",
        "",
        "| store | windows | memory | a user | steady: first, last, highest | disk | a user | compacted, a user |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for store, window in CASES:
        if f"{store}_{window}" not in result:
            continue  # in quick runs the default store alone is measured
        row = result[f"{store}_{window}"]
        steady = ", ".join(_mib(row[f"steady_{name}_rss"]) for name in ("first", "last", "highest"))
        memory = f"{_mib(row['cached_rss'])} | {row['rss_a_user']:,.0f} B | {steady}"
        disk = "– | – | –"
        if store == "rocksdb":
            disk = f"{_mib(row['disk'])} | {row['disk'] / count:,.0f} B | {row['disk_compacted'] / count:,.0f} B"
        lines.append(f"| {store} | {window} | {memory} | {disk} |")
    return lines
