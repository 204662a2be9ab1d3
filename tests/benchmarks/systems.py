"""Who is compared: how each program is started, and the consumer group whose offsets tell how far it is."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks import stage

PEERS_PYTHON = Path(__file__).resolve().parents[2] / ".venv-peers" / "bin" / "python"

Start = Callable[[dict[str, Any], int], stage.Running]  # of what `stage.prepare` gave, and the number of partitions


@dataclass(frozen=True)
class System:
    """A program that does the work. `events`: what it is given in 10 to 20 s of its own work, None: all."""

    name: str
    what: str
    start: Start
    events: int | None = None

    def group(self, given: dict[str, Any]) -> str:
        """The consumer group: a worker's is its application, the others' has the name of the events topic."""
        return str(given["app_id"] if self.name == "worker" else given["event_topics"])


def _worker(given: dict[str, Any], _partitions: int) -> stage.Running:
    return stage.start_worker(given)


def _python(module: str) -> Start:
    def start(given: dict[str, Any], partitions: int) -> stage.Running:
        call = [str(PEERS_PYTHON), "-m", f"tests.benchmarks.{module}", *_places(given), str(partitions)]
        return stage.Running(module, call, os.environ, "ready")

    return start


def _java(guarantee: str) -> Start:
    def start(given: dict[str, Any], partitions: int) -> stage.Running:
        from tests.benchmarks import java_peer  # builds Java; only where it is compared with

        broker, topic, updates, model, data_dir = _places(given)
        call = java_peer.command(broker, topic, updates, model, data_dir, partitions, guarantee)
        return stage.Running("kafka_streams", call, os.environ, "ready")

    return start


def _places(given: dict[str, Any]) -> tuple[str, str, str, str, str]:
    broker, topic, updates, model, data_dir = (
        str(given[name]) for name in ("broker", "event_topics", "update_topic", "model", "data_dir")
    )
    return broker, topic, updates, model, data_dir


ALL = (
    System("worker", "this worker, every promise kept", _worker),
    System("loop", "a bare librdkafka loop that promises nothing", _python("loop")),
    System("kafka_streams", "Kafka Streams, at least once", _java("at_least_once"), 80_000),
    System("kafka_streams_eos", "Kafka Streams, exactly once", _java("exactly_once_v2"), 60_000),
    System("quix", "Quix Streams", _python("quix"), 40_000),
    System("plain_faust", "plain Faust", _python("plain_faust"), 20_000),
)
