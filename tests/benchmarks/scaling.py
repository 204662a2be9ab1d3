"""What an event costs as one thing grows and the rest stays: partitions, users, window, model, workers, threads.

How a point is measured: a worker gets some events of every user, so that all are known and windows are as full as the
point says; it is stopped with all committed, the load is published, and it goes on. From then to the last update is
what an event takes. So its states are in memory as in a worker that has run for long, and the publisher is not timed.

Broker and workers share the machine's cores: two workers on two cores leave the broker none of its own.
"""

import argparse
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from kafka import KafkaConsumer, TopicPartition

from models import bundle as bundles
from stream.broker import Broker
from stream.connect import admin
from stream.groups import committed
from stream.security import Cluster
from tests.benchmarks import encoder, stage, synthetic

SESSION_S = 60.0  # a worker that is stopped for a moment stays a member
WARM_TIMEOUT_S = 300.0
WINDOW_USERS = 2_000  # few, so that windows fill within a run
DECADE = 10_000_000


@dataclass(frozen=True)
class Point:
    """What a worker is measured with."""

    partitions: int = 4
    users: int = 100_000
    window_max_events: int = 50
    hidden: int = 128
    workers: int = 1
    batch_max_events: int = 8192
    before: int = 1  # events that each user has before
    events: int = 400_000


BASE = Point()
#: A batch of one event a user, as many users have it, though there are few: the cost of a window is not shared.
WINDOW = replace(BASE, users=WINDOW_USERS, batch_max_events=WINDOW_USERS, events=200_000)
#: Events for a model of `hidden`: some ten seconds each.
EVENTS = {64: 400_000, 128: 400_000, 256: 200_000, 512: 60_000, 1024: 16_000}

POINTS: dict[str, tuple[Point, ...]] = {
    "partitions": tuple(replace(BASE, partitions=count) for count in (1, 4, 16, 64)),
    "users": tuple(replace(BASE, users=count) for count in (10_000, 100_000, 1_000_000)),
    "window_max_events": tuple(replace(WINDOW, window_max_events=size, before=size) for size in (10, 50, 200)),
    "hidden": tuple(replace(BASE, hidden=hidden, events=events) for hidden, events in EVENTS.items()),
    "workers": tuple(replace(BASE, workers=count) for count in (1, 2)),
}
QUICK = {
    "partitions": (1, 16),
    "users": (10_000, 100_000),
    "window_max_events": (10, 50),
    "hidden": (64, 256),
    "workers": (1, 2),
}
THREADS = (1, 2)
THREAD_USERS = 512

Report = Callable[[str], None]


def measure(broker: str, folder: Path, quick: bool, report: Report, only: Sequence[str] = ()) -> dict[str, Any]:
    """All points, or those of the `only` named; each point once, though it may stand in several rows."""
    known: dict[Point, dict[str, float]] = {}
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, points in POINTS.items():
        if only and name not in only:
            continue
        rows[name] = []
        for point in points:
            if quick:
                if getattr(point, name) not in QUICK[name]:
                    continue
                point = replace(point, events=point.events // 4)
            if point not in known:
                known[point] = measure_point(broker, folder, point, f"scaling-{len(known)}-{os.getpid()}")
            found = known[point]
            rows[name].append(asdict(point) | found)
            report(
                f"{name} {getattr(point, name):>9,}: {found['events_a_second']:>8,.0f} events/s, "
                f"{found['cpu_us_an_event']:.1f} µs of CPU an event"
            )
    result: dict[str, Any] = {"base": asdict(BASE), "window": asdict(WINDOW), "rows": rows}
    if len(rows.get("users", ())) > 1:
        result["extrapolated"] = extrapolate(rows["users"])
    if not only or "threads" in only:
        result["threads"] = _threads(folder, (128, 512) if quick else (128, 256, 512, 1024), report)
    return result


def extrapolate(users: Sequence[dict[str, Any]]) -> dict[str, float]:
    """A row for 10,000,000 users: the last step of tenfold users once more, in µs of wall time and of CPU.

    Why this holds: what grows with users is the way to a user's row in RocksDB, one level more for ten times the rows,
    and the share of users whose state is not in memory, which that last step took from none to nearly all. Nothing else
    of a batch knows how many users there are. It needs the memory or disk for the rows: one that is not in the page
    cache costs a read of the disk besides.
    """
    before, last = users[-2], users[-1]
    wall = [1e6 / row["events_a_second"] for row in (before, last)]
    cpu = [row["cpu_us_an_event"] for row in (before, last)]
    steps = len(str(DECADE // last["users"])) - 1
    return {
        "users": DECADE,
        "events_a_second": 1e6 / (wall[1] + steps * max(0.0, wall[1] - wall[0])),
        "cpu_us_an_event": cpu[1] + steps * max(0.0, cpu[1] - cpu[0]),
    }


def model(folder: Path, hidden: int) -> Path:
    """The folder of a model of that size; made once."""
    made = folder / f"model-{hidden}"
    if not made.exists():
        synthetic.bundle(made, hidden)
    return made


def measure_point(broker: str, folder: Path, point: Point, name: str, **more: Any) -> dict[str, float]:
    """One point, with `more` settings: events a second of all workers together, and their CPU."""
    given = stage.prepare(
        broker,
        name,
        model(folder, point.hidden),
        folder / name,
        point.partitions,
        window_max_events=point.window_max_events,
        window_keep_events=point.window_max_events // 2,
        batch_max_events=point.batch_max_events,
        session_timeout_s=SESSION_S,
        **more,
    )
    topic, first_ms = given["event_topics"], int(time.time() * 1000) - 86_400_000
    with ExitStack() as stack:
        workers = []
        for number in range(point.workers):
            workers.append(stage.start_worker(given | {"data_dir": folder / name / str(number)}))
            stack.callback(workers[-1].stop)
        before = synthetic.each(point.users, point.before)
        done = synthetic.publish(broker, topic, point.partitions, before, first_ms)
        _wait(workers, broker, name, topic, done)
        updates = -_records(broker, given["update_topic"], point.partitions)
        for worker in workers:
            os.kill(worker.pid, signal.SIGSTOP)
        try:
            after = synthetic.drawn(point.users, point.events, seed=1)
            done += synthetic.publish(broker, topic, point.partitions, after, first_ms + len(before))
            cpu_s = sum(worker.cpu_s() for worker in workers)
            began = time.time()
        finally:
            for worker in workers:
                os.kill(worker.pid, signal.SIGCONT)
        _wait(workers, broker, name, topic, done)
        cpu_s = sum(worker.cpu_s() for worker in workers) - cpu_s
        updates += _records(broker, given["update_topic"], point.partitions)
        ended = stage.last_update_s(broker, given["update_topic"], point.partitions)
    with admin(Cluster(broker)) as client:
        client.delete_topics([topic, given["update_topic"], given["deadletter_topic"], f"{name}-users-changelog"])
    shutil.rmtree(folder / name)
    return {
        "events_a_second": point.events / (ended - began),
        "cpu_us_an_event": cpu_s / point.events * 1e6,
        "updates_an_event": updates / point.events,
    }


def _records(broker: str, topic: str, partitions: int) -> int:
    """How many records a topic has."""
    consumer = KafkaConsumer(bootstrap_servers=broker, enable_auto_commit=False, group_id=None)
    try:
        return sum(consumer.end_offsets([TopicPartition(topic, number) for number in range(partitions)]).values())
    finally:
        consumer.close()


def _wait(workers: Sequence[stage.Running], broker: str, group: str, topic: str, records: int) -> None:
    """Return when the group has committed so many records of the topic; asks once a second, so as to cost nothing."""
    deadline = time.monotonic() + WARM_TIMEOUT_S
    done = 0
    while time.monotonic() < deadline and all(worker.ended is None for worker in workers):
        done = sum(offset for (name, _), offset in committed(Cluster(broker), group).items() if name == topic)
        if done >= records:
            return
        time.sleep(1.0)
    raise workers[0].failure(f"has {done} of {records} events committed")


def _threads(folder: Path, sizes: Sequence[int], report: Report) -> list[dict[str, Any]]:
    """The model alone, one event for each of 512 users a call, by hidden size and threads: users a second."""
    rows = []
    for hidden in sizes:
        bundle = synthetic.bundle(folder / f"threads-{hidden}", hidden)
        row: dict[str, Any] = {"hidden": hidden}
        for threads in THREADS:
            session = bundles.session(bundle, threads=threads)
            row[f"threads_{threads}"] = encoder.users_a_second(bundle, session, THREAD_USERS, 1)
        rows.append(row)
        report(f"threads, hidden {hidden}: " + ", ".join(f"{n}: {row[f'threads_{n}']:,.0f}/s" for n in THREADS))
    return rows


def show(result: dict[str, Any]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [
        "| what grows | | events/s | CPU µs an event | updates an event |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, rows in result["rows"].items():
        lines += [_line(name, row) for row in rows]
        if name == "users" and "extrapolated" in result:
            lines.append(_line("users, extrapolated", result["extrapolated"] | {"users, extrapolated": DECADE}))
    for row in result.get("threads", ()):
        for count in THREADS:
            name = f"model alone, hidden {row['hidden']}, threads"
            lines.append(f"| {name} | {count} | {row[f'threads_{count}']:,.0f} users | | |")
    return lines


def _line(name: str, row: dict[str, Any]) -> str:
    updates = f"{row['updates_an_event']:.2f}" if "updates_an_event" in row else ""
    return f"| {name} | {row[name]:,} | {row['events_a_second']:,.0f} | {row['cpu_us_an_event']:.1f} | {updates} |"


def main() -> None:
    """`python -m tests.benchmarks.scaling [--quick] [--only NAME ...]`: measure on a broker of its own and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scaling")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", default=[], choices=[*POINTS, "threads"])
    chosen = parser.parse_args()
    with TemporaryDirectory() as folder, Broker() as broker:
        result = measure(broker.address, Path(folder), chosen.quick, click.echo, chosen.only)
    click.echo("\n".join([*show(result), json.dumps(result)]))


if __name__ == "__main__":
    main()
