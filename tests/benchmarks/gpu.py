"""The model on a GPU beside the CPU: the graph alone, and the worker. Where CUDA is not to be had, that it is refused.

The graph alone: users a second by users of a call, for one step each (a user who goes on from kept states) and for
whole windows of 50 events. The worker: events a second of a load that waits (tests.benchmarks.scaling), and the time
from the broker's stamp on an event to the broker's stamp on its update, at 1,000 events a second.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from models import bundle as bundles
from models.bundle import Bundle
from stream.broker import Broker
from stream.connect import admin
from stream.errors import BundleError
from stream.security import Cluster
from stream.topics import EVENT_CONFIG
from tests.benchmarks import encoder, scaling, stage, synthetic

HIDDEN = (128, 256, 512, 1024, 2048)
USERS = (64, 512, 1024, 4096, 8192)
STEPS = (1, 50)
PARTITIONS = 4
RATE, SECONDS, TICKS = 1_000, 5, 100  # events a second, for so long, in so many parts a second
#: Left out is what takes a CPU longer than some seconds a call, or of a GPU's memory more than 12 GiB.
CPU_CALL_FLOP = 3e10
CUDA_CALL_BYTES = 12 * 2**30

Report = Callable[[str], None]


def measure(broker: str, folder: Path, quick: bool, report: Report, required: bool = True) -> dict[str, Any]:
    """Both providers in one run; where there is no CUDA, the graph alone on the CPU, unless CUDA is `required`.

    Raises:
        click.ClickException: CUDA is required and not there.
        RuntimeError: CUDA is not there and a worker that is told to use it does not say so and end.
    """
    folder.mkdir(exist_ok=True)
    sizes = HIDDEN[:2] if quick else HIDDEN
    reason = refusal(synthetic.bundle(folder / f"model-{sizes[0]}", sizes[0]))
    if reason is not None:
        require_refused(broker, folder / f"model-{sizes[0]}", reason)
        if required:
            raise click.ClickException(f"gpu: not measured: {reason}")
        report(f"gpu: not measured, the CPU alone: {reason}")
    providers = ("cpu",) if reason is not None else ("cpu", "cuda")
    result: dict[str, Any] = {
        "device": None if reason is not None else device(),
        "providers": providers,
        "encoder": [],
        "worker": [],
    }
    for hidden in sizes:
        bundle = synthetic.bundle(folder / f"model-{hidden}", hidden)
        result["encoder"] += _encoder(bundle, hidden, providers, USERS[::2] if quick else USERS, report)
    if reason is None:
        for hidden in sizes:
            for provider in providers:
                row = {"hidden": hidden, "provider": provider} | _worker(broker, folder, hidden, provider, quick)
                result["worker"].append(row)
                report(f"gpu: worker {row}")
    return result


def refusal(bundle: Bundle) -> str | None:
    """Why CUDA is not to be had here; None: it is."""
    try:
        bundles.session(bundle, provider="cuda")
    except BundleError as error:
        return str(error)
    return None


def require_refused(broker: str, model: Path, reason: str) -> None:
    """Check that a worker that is told to use CUDA ends with that one line, exit code 1.

    Raises:
        RuntimeError: it does not.
    """
    call = [sys.executable, "-m", "stream", "worker", "--provider", "cuda", "--model", str(model), "--broker", broker]
    ended = subprocess.run(call, capture_output=True, text=True, check=False, timeout=stage.READY_TIMEOUT_S)
    said = (ended.stdout + ended.stderr).strip()
    if ended.returncode != 1 or "\n" in said or not said.endswith(reason):
        raise RuntimeError(f"expected a worker that says {reason!r} and ends with 1, got {ended.returncode}:\n{said}")


def device() -> str:
    """Name, memory and driver of the GPU, as its driver's tool says."""
    call = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    if shutil.which(call[0]) is None:
        return "a device of CUDA"
    return subprocess.run(call, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()


def fits(provider: str, hidden: int, users: int, steps: int) -> bool:
    """Whether a call of that size is measured: a step takes 16 hidden² operations and about 12 float32 of hidden."""
    if provider == "cpu":
        return users * steps * 16 * hidden**2 <= CPU_CALL_FLOP
    return users * steps * hidden * 48 <= CUDA_CALL_BYTES


def _encoder(
    bundle: Bundle, hidden: int, providers: Sequence[str], sizes: Sequence[int], report: Report
) -> list[dict[str, Any]]:
    """The graph alone; users a second by provider, None where a call would be too large."""
    rows: list[dict[str, Any]] = [
        {"hidden": hidden, "steps": steps, "users": users} for steps in STEPS for users in sizes
    ]
    for provider in providers:
        session = bundles.session(bundle, provider=provider)
        deviation = bundles.verify(bundle, session)
        for row in rows:
            size = row["users"], row["steps"]
            row[provider] = encoder.users_a_second(bundle, session, *size) if fits(provider, hidden, *size) else None
        report(f"gpu: hidden {hidden} on {provider}: golden vectors within {deviation:.1e}, {len(rows)} sizes of calls")
    return rows


def _worker(broker: str, folder: Path, hidden: int, provider: str, quick: bool) -> dict[str, float]:
    """Events a second, CPU an event, and percentiles of the way from event to update, ms."""
    events = scaling.EVENTS.get(hidden, 8_000) // (4 if quick else 1)
    if provider != "cpu":
        events = scaling.BASE.events // (4 if quick else 1)
    point = replace(scaling.BASE, hidden=hidden, events=events)
    found = scaling.measure_point(broker, folder, point, f"gpu-{provider}-{hidden}", provider=provider)
    return found | latency(broker, folder, hidden, provider, f"gpu-paced-{provider}-{hidden}")


def latency(broker: str, folder: Path, hidden: int, provider: str, name: str) -> dict[str, float]:
    """Percentiles from the broker's stamp on an event to its stamp on the update, ms.

    Each event is another user's, and each user has one before, so that an update is known by its key.
    """
    given = stage.prepare(broker, name, scaling.model(folder, hidden), folder / name, PARTITIONS, provider=provider)
    topic, updates = given["event_topics"], given["update_topic"]
    with admin(Cluster(broker)) as client:
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, updates, EVENT_CONFIG)])
    users, first_ms = synthetic.each(RATE * SECONDS), int(time.time() * 1000) - 86_400_000
    worker = stage.start_worker(given)
    try:
        done = synthetic.publish(broker, topic, PARTITIONS, users, first_ms)
        stage.wait_committed(worker, broker, name, topic, PARTITIONS, done)
        before = _stamps(broker, topic), _stamps(broker, updates)
        done += synthetic.publish(broker, topic, PARTITIONS, users, first_ms + done, RATE // TICKS, 1 / TICKS)
        stage.wait_committed(worker, broker, name, topic, PARTITIONS, done)
        sent, answered = _stamps(broker, topic), _stamps(broker, updates)
    finally:
        worker.stop()
    if any(old[key] == new[key] for old, new in zip(before, (sent, answered), strict=True) for key in sent):
        raise RuntimeError("expected an update for each of the events, got fewer")
    ms = np.array([answered[key] - sent[key] for key in sent])
    return {f"p{q}_ms": float(np.percentile(ms, q)) for q in (50, 99)}


def _stamps(broker: str, topic: str) -> dict[bytes, int]:
    """The stamp on each key's last record, ms."""
    consumer = KafkaConsumer(bootstrap_servers=broker, enable_auto_commit=False, group_id=None)
    try:
        tps = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(tps)
        consumer.seek_to_beginning(*tps)
        ends = consumer.end_offsets(tps)
        found: dict[bytes, int] = {}
        deadline = time.monotonic() + stage.DONE_TIMEOUT_S
        while any(consumer.position(tp) < end for tp, end in ends.items()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"topic {topic} could not be read to its end")
            for records in consumer.poll(500).values():
                found.update((record.key, record.timestamp) for record in records)
        return found
    finally:
        consumer.close()


def show(result: dict[str, Any]) -> list[str]:
    """The lines of two Markdown tables; the second one where the worker was measured."""
    providers = result["providers"]
    lines = [
        f"Device: {result['device'] or 'none, the CPU alone'}.",
        "",
        "| hidden | events a user | users a call | " + " | ".join(f"{name}, users/s" for name in providers) + " |",
        "| ---: | ---: | ---: |" + " ---: |" * len(providers),
    ]
    for row in result["encoder"]:
        found = " | ".join("–" if row[name] is None else f"{row[name]:,.0f}" for name in providers)
        lines.append(f"| {row['hidden']} | {row['steps']} | {row['users']:,} | {found} |")
    if result["worker"]:
        lines += [
            "",
            "| hidden | provider | worker, events/s | CPU µs an event | p50, p99 ms at 1,000 events/s |",
            "| ---: | --- | ---: | ---: | ---: |",
        ]
    for row in result["worker"]:
        lines.append(
            f"| {row['hidden']} | {row['provider']} | {row['events_a_second']:,.0f} | {row['cpu_us_an_event']:.1f} | "
            f"{row['p50_ms']:.0f}, {row['p99_ms']:.0f} |"
        )
    return lines


def main() -> None:
    """`python -m tests.benchmarks.gpu [--quick]`: on a broker of its own; without CUDA only the CPU."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu")
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    with TemporaryDirectory() as folder, Broker() as broker:
        result = measure(broker.address, Path(folder), quick, click.echo, required=False)
    click.echo("\n".join(show(result)))
    click.echo(json.dumps(result))


if __name__ == "__main__":
    main()
