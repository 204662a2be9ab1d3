"""Events a second and CPU an event of this worker and of others, on the same events, model, broker and machine."""

import shutil
import time
from collections.abc import Callable, Collection
from itertools import count
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from models.bundle import Bundle
from stream.connect import admin
from stream.security import Cluster
from tests.benchmarks import check, load, stage, systems, workloads
from tests.bundles import random_bundle

PARTITIONS = 4
HIDDEN, DIM = 128, 64
EVERYBODY = tuple(system.name for system in systems.ALL)
FASTEST = ("worker", "loop", "kafka_streams")
PLAN = {
    "short": EVERYBODY,
    "full": EVERYBODY,
    "hot": FASTEST,
    "slow": ("worker", "loop"),  # the others cut windows by count only
    "shop": FASTEST,
}
ROUNDS = {"short": 3}  # one system after the other, so often; the slow ones, far behind, once
QUICK = 4  # the part of the load that is given when it has to be quick
UPDATE_CONFIG = {"message.timestamp.type": "LogAppendTime"}
QUIET_S = 1.0  # without another update: that was the last

Report = Callable[[str], None]

_numbers = count()


def measure(
    broker: str,
    folder: Path,
    quick: bool,
    report: Report,
    only: Collection[str] = (),
    peers: Collection[str] = (),
) -> dict[str, Any]:
    """Every system on every workload of the plan; quick: the first workload, fewer events.

    `only` and `peers` name the workloads and systems wanted, none: those of the plan.

    Raises:
        RuntimeError: a system ended, or its updates are not what its events mean.
    """
    here = [name for name in workloads.available() if name in (only or PLAN)]
    if quick and not only:
        here = ["short" if "short" in here else "shop"]
    rows: dict[str, Any] = {}
    for name in here:
        workload = workloads.find(name)
        catalog = workload.catalog()
        bundle = random_bundle(
            folder / f"bundle-{name}",
            item_ids=list(catalog),
            item_categories=list(catalog.values()),
            hidden=HIDDEN,
            dim=DIM,
        )
        chosen = [system for system in systems.ALL if system.name in (peers or PLAN[name])]
        if not rows:  # the broker's JVM compiles what it is asked for most: not at the cost of whoever comes first
            _one(broker, folder, workload, chosen[0], bundle, quick)
        runs: dict[str, list[dict[str, Any]]] = {system.name: [] for system in chosen}
        for number in range(1 if quick else ROUNDS.get(name, 1)):
            for system in chosen:
                if number == 0 or system.name in FASTEST:
                    one = _one(broker, folder, workload, system, bundle, quick)
                    runs[system.name].append(one)
                    report(
                        f"{name} {system.name}: {one['events_a_second']:,.0f} events/s, {one['cpu_us']:.1f} µs of CPU"
                    )
        rows[name] = {"what": workload.what, "systems": {system: _median(found) for system, found in runs.items()}}
    return {"partitions": PARTITIONS, "hidden": HIDDEN, "dim": DIM, "workloads": rows}


def _median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run in the middle, by events a second, and the rates of all."""
    rates = [one["events_a_second"] for one in runs]
    return sorted(runs, key=lambda one: one["events_a_second"])[len(runs) // 2] | {"runs": rates}


def _one(
    broker: str, folder: Path, workload: workloads.Workload, system: systems.System, bundle: Bundle, quick: bool
) -> dict[str, Any]:
    """Publish, start, wait until all is done, and compare what came out with the reference."""
    name = f"{workload.name}-{system.name.replace('_', '-')}-{next(_numbers)}"  # a group has offsets of its own topics
    limit = system.events
    if quick:
        limit = (limit or workloads.EVENTS) // QUICK
    given = stage.prepare(broker, name, bundle.folder, folder / name, PARTITIONS)
    topic, updates = given["event_topics"], given["update_topic"]
    with admin(Cluster(broker)) as client:  # Quix and Kafka Streams give an update its event's time
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, updates, UPDATE_CONFIG)])
    sent = load.send(broker, topic, workload.events(limit), PARTITIONS)
    running = system.start(given, PARTITIONS)
    try:
        used_s = running.cpu_s()
        stage.wait_committed(running, broker, system.group(given), topic, PARTITIONS, sent)
        _wait_quiet(broker, updates)
        used_s = running.cpu_s() - used_s
        seconds = stage.last_update_s(broker, updates, PARTITIONS) - running.ready_s
    finally:
        running.stop()
    wrong = check.wrong(check.last_updates(broker, updates, PARTITIONS), workload.events(limit), bundle)
    if wrong:
        raise RuntimeError(f"{system.name} on {workload.name}: {wrong}")
    clear(broker, name)
    shutil.rmtree(folder / name, ignore_errors=True)
    return {
        "events": sent,
        "seconds": round(seconds, 2),
        "events_a_second": round(sent / seconds),
        "cpu_us": round(used_s / sent * 1e6, 1),
    }


def _wait_quiet(broker: str, topic: str) -> None:
    """Return when no more updates come."""
    consumer = KafkaConsumer(bootstrap_servers=broker, enable_auto_commit=False, group_id=None)
    try:
        tps = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        ends: dict[Any, int] = {}
        while ends != (now := consumer.end_offsets(tps)):
            ends = now
            time.sleep(QUIET_S)
    finally:
        consumer.close()


def clear(broker: str, name: str) -> None:
    """Delete all topics whose name holds this one, so that the next has the disk to itself."""
    with admin(Cluster(broker)) as client:
        client.delete_topics([topic for topic in client.list_topics() if name in topic])


def _rows(result: dict[str, Any]) -> dict[str, Any]:
    """What was measured, in the order of the plan, whatever that of the file."""
    return {name: result["workloads"][name] for name in PLAN if name in result["workloads"]}


def ratios(result: dict[str, Any]) -> dict[str, float]:
    """This worker's events a second over each other system's, on the first workload that was measured."""
    for row in _rows(result).values():
        rate = {name: found["events_a_second"] for name, found in row["systems"].items()}
        return {name: rate["worker"] / other for name, other in rate.items() if name != "worker" and "worker" in rate}
    return {}


def show(result: dict[str, Any]) -> list[str]:
    """The table: events a second, µs of CPU an event, and how many events each was given."""
    lines = [
        "| workload | system | events/s | this worker is | CPU µs/event | events given |",
        "| --- | --- | --: | --: | --: | --: |",
    ]
    for name, row in _rows(result).items():
        worker = row["systems"].get("worker")
        for system in EVERYBODY:
            if (one := row["systems"].get(system)) is None:
                continue
            times = f"× {worker['events_a_second'] / one['events_a_second']:.2f}" if worker and one != worker else ""
            cells = [name, system, f"{one['events_a_second']:,}", times, f"{one['cpu_us']:.1f}", f"{one['events']:,}"]
            lines.append(f"| {' | '.join(cells)} |")
    return lines
