"""`make bench`: this worker beside a plain Faust app; same events, model and broker, one after the other in one run.

Prints events a second from the moment each is ready to the last update that it published, and the ratio. Broker, load
and worker share the machine's cores; the load is published before either starts. Compare the ratio, not the numbers.
"""

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from models.simulator import Shop, simulate
from stream import topics
from stream.broker import Broker
from stream.settings import load as load_settings
from tests.benchmarks import load
from tests.bundles import random_bundle

PARTITIONS = 4
COPIES = 4
PLAIN_EVENTS = 20_000  # of the same load; enough for a steady rate at about 1,000 a second
HIDDEN, DIM = 128, 64
READY_TIMEOUT_S = 60.0
TIMEOUT_S = 120.0


def main() -> None:
    """Run both and print."""
    with tempfile.TemporaryDirectory() as folder, Broker() as broker:
        work = Path(folder)
        workload, catalog = _workload()
        random_bundle(
            work / "bundle", item_ids=list(catalog), item_categories=list(catalog.values()), hidden=HIDDEN, dim=DIM
        )
        print(f"{workload}; LSTM of {HIDDEN}, vectors of {DIM}; {PARTITIONS} partitions", flush=True)  # noqa: T201
        results = {
            "plain_faust": _measure("plain", broker.address, work, PLAIN_EVENTS),
            "interest_stream": _measure("worker", broker.address, work, None),
        }
    ratio = results["interest_stream"]["events_a_second"] / results["plain_faust"]["events_a_second"]
    print(f"machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")  # noqa: T201
    for name, result in results.items():
        print(f"{name:16} {result['events']:>8,} events  {result['events_a_second']:>9,.0f} events/s")  # noqa: T201
    print(json.dumps(results))  # noqa: T201
    print(f"ratios plain_faust={ratio:.1f}")  # noqa: T201


def _workload() -> tuple[str, dict[str, str]]:
    """What is published, and its items with their categories."""
    if load.TAOBAO.exists():
        events: Iterator[Any] = load.taobao(1)
        name = f"Taobao slice, {COPIES} times with other users"
    else:
        events, name = _shop(1), f"simulated shop, {COPIES} times"
    return name, {str(event["item_id"]): str(event["category_id"]) for event in events}


def _shop(copies: int) -> Iterator[load.Event]:
    for copy in range(copies):
        yield from simulate(Shop(0), users=20_000, events=100_000, end_ms=int(time.time() * 1000), seed=copy)


def _events() -> Iterator[load.Event]:
    return load.taobao(COPIES) if load.TAOBAO.exists() else _shop(COPIES)


def _measure(kind: str, broker: str, work: Path, limit: int | None) -> dict[str, float]:
    """Publish, start, wait until all is committed, and read when the last update was published."""
    given: dict[str, Any] = {
        "broker": broker,
        "app_id": f"bench-{kind}",
        "event_topics": f"bench-{kind}-events",
        "update_topic": f"bench-{kind}-updates",
        "deadletter_topic": f"bench-{kind}-dead",
        "model": work / "bundle",
        "data_dir": work / kind,
    }
    settings = load_settings(given)
    topics.create(settings, partitions=PARTITIONS)
    events = settings.event_topics[0]
    sent = load.send(broker, events, _events(), PARTITIONS, limit)
    if kind == "plain":
        group = events  # the app's id
        call = [sys.executable, "-m", "tests.benchmarks.plain_faust", broker, events, settings.update_topic]
        call += [str(settings.model), str(settings.data_dir), str(PARTITIONS)]
        environment, ready = dict(os.environ), "ready"
    else:
        group = settings.app_id
        call = [sys.executable, "-m", "stream", "worker"]
        environment = os.environ | {f"INTEREST_{name.upper()}": str(value) for name, value in given.items()}
        ready = "ready: partitions"
    process = subprocess.Popen(call, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        began = _wait_ready(kind, process, ready)
        _wait_committed(process, broker, group, events, sent)
        ended = _last_update_s(broker, settings.update_topic)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    return {"events": sent, "seconds": ended - began, "events_a_second": sent / (ended - began)}


def _wait_ready(kind: str, process: "subprocess.Popen[str]", words: str) -> float:
    assert process.stdout is not None
    said = []
    stop = Timer(READY_TIMEOUT_S, process.kill)
    stop.start()
    for line in process.stdout:
        said.append(line)
        if words in line:
            stop.cancel()
            return time.time()
    raise RuntimeError(f"{kind} ended with {process.wait()}:\n{''.join(said[-20:])}")


def _wait_committed(process: "subprocess.Popen[str]", broker: str, group: str, topic: str, records: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    committed = 0
    consumer = KafkaConsumer(bootstrap_servers=broker, enable_auto_commit=False, group_id=group)
    try:
        while time.monotonic() < deadline and process.poll() is None:
            committed = sum(consumer.committed(TopicPartition(topic, n)) or 0 for n in range(PARTITIONS))
            if committed >= records:
                return
            time.sleep(0.5)
    finally:
        consumer.close()
    raise RuntimeError(f"{committed} of {records} events committed by group {group}, exit code {process.poll()}")


def _last_update_s(broker: str, topic: str) -> float:
    consumer = KafkaConsumer(bootstrap_servers=broker, enable_auto_commit=False, group_id=None)
    try:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        last = 0.0
        for partition, end in consumer.end_offsets(partitions).items():
            if end:
                consumer.seek(partition, end - 1)
                wanted = {partition}
                while wanted:
                    for tp, records in consumer.poll(500).items():
                        if tp in wanted and records[-1].offset == end - 1:
                            last = max(last, records[-1].timestamp / 1000)
                            wanted.discard(tp)
        return last
    finally:
        consumer.close()


if __name__ == "__main__":
    main()
