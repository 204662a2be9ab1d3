"""What every measurement needs: topics, a load, a program that works on it, and when it was done."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
from kafka import KafkaConsumer, TopicPartition

from stream import topics
from stream.settings import Settings
from stream.settings import load as load_settings

READY_TIMEOUT_S = 120.0
DONE_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 60.0
BEHIND = 16  # offsets from the end of a log where the last record is looked for: the last may be transaction markers
WORKER_READY = "ready: partitions"


class Running:
    """A program that is measured; it has said that it is ready."""

    def __init__(self, name: str, call: Sequence[str], environment: Mapping[str, str], ready: str) -> None:
        self.name = name
        self.started_s = time.time()
        self._process = subprocess.Popen(
            list(call), env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._said: deque[str] = deque(maxlen=30)
        self._ready_s = 0.0
        self._reader = Thread(target=self._read, args=(ready,), daemon=True)
        self._reader.start()
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._ready_s:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise self.failure("was not ready")
            time.sleep(0.01)
        #: When it said so, seconds since the epoch.
        self.ready_s = self._ready_s

    def _read(self, ready: str) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.append(line)
            if not self._ready_s and ready in line:
                self._ready_s = time.time()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.poll()

    @property
    def said(self) -> str:
        """The last lines that it printed."""
        return "".join(list(self._said))

    def cpu_s(self) -> float:
        """Seconds of CPU that it has used so far, its children's too."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)

    def rss_bytes(self) -> int:
        """Memory that is resident now."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def failure(self, what: str) -> RuntimeError:
        """What happened, with the last lines that it said."""
        return RuntimeError(f"{self.name} {what}, exit code {self._process.poll()}:\n{''.join(self._said)}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; the exit code."""
        self._process.send_signal(number)
        try:
            return self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def prepare(broker: str, name: str, model: Path, data_dir: Path, partitions: int, **more: Any) -> dict[str, Any]:
    """Make topics of that name; the settings that a worker on them needs."""
    given: dict[str, Any] = {
        "broker": broker,
        "app_id": name,
        "event_topics": f"{name}-events",
        "update_topic": f"{name}-updates",
        "deadletter_topic": f"{name}-dead",
        "model": model,
        "data_dir": data_dir,
    } | more
    topics.create(load_settings(given), partitions=partitions)
    return given


def start_worker(given: Mapping[str, Any]) -> Running:
    """Start a worker; returns when it is ready."""
    environment = os.environ | {f"INTEREST_{name.upper()}": str(value) for name, value in given.items()}
    return Running(given["app_id"], [sys.executable, "-m", "stream", "worker"], environment, WORKER_READY)


def wait_committed(running: Running, broker: str, group: str, topic: str, partitions: int, records: int) -> None:
    """Return when a group has committed so many records of a topic."""
    deadline = time.monotonic() + DONE_TIMEOUT_S
    committed = 0
    consumer = KafkaConsumer(bootstrap_servers=broker, enable_auto_commit=False, group_id=group)
    try:
        while time.monotonic() < deadline and running.ended is None:
            committed = sum(consumer.committed(TopicPartition(topic, n)) or 0 for n in range(partitions))
            if committed >= records:
                return
            time.sleep(0.25)
    finally:
        consumer.close()
    raise running.failure(f"has {committed} of {records} events committed by group {group}")


def last_update_s(broker: str, topic: str, partitions: int) -> float:
    """Time of the newest record on a topic, seconds since the epoch; 0: there is none."""
    consumer = KafkaConsumer(bootstrap_servers=broker, enable_auto_commit=False, group_id=None)
    try:
        tps = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(tps)
        last = 0.0
        for tp, end in consumer.end_offsets(tps).items():
            consumer.seek(tp, max(0, end - BEHIND))
            deadline = time.monotonic() + READY_TIMEOUT_S
            while end and consumer.position(tp) < end and time.monotonic() < deadline:
                for record in consumer.poll(500).get(tp, ()):
                    last = max(last, record.timestamp / 1000)
        return last
    finally:
        consumer.close()


def settings(given: Mapping[str, Any]) -> Settings:
    """The settings as a worker reads them."""
    return load_settings(dict(given))
