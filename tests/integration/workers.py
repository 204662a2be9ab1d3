"""Workers as processes of their own, started, watched, ended and killed; and what the topics then hold."""

import contextlib
import gzip
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError

from tests.integration.conftest import Names

READY_S = 60.0
POLL_S = 0.05


def environment(names: Names, **settings: object) -> dict[str, str]:
    """The environment of a command: this test's names, and settings by their own names (`batch_max_events=100`)."""
    given = {f"INTEREST_{name.upper()}": str(value) for name, value in settings.items()}
    return {**os.environ, **names.environment, **given}


def interest(
    *arguments: str | Path, env: Mapping[str, str], timeout_s: float = 120
) -> "subprocess.CompletedProcess[str]":
    """Run one command to its end; the test judges its exit code."""
    return subprocess.run(
        [command(), *map(str, arguments)], env=env, capture_output=True, text=True, timeout=timeout_s, check=False
    )


def command() -> str:
    """The command `interest` of this environment."""
    return str(Path(sys.executable).with_name("interest"))


def create_topics(names: Names, partitions: int = 4) -> None:
    """Make the topics of the names by the command."""
    done = interest("topics", "create", "--partitions", str(partitions), env=environment(names))
    assert 0 == done.returncode, done.stderr


def publish(names: Names, file: Path) -> str:
    """Publish a Taobao file; what the command printed."""
    done = interest("publish", file, "--format", "taobao", env=environment(names))
    assert 0 == done.returncode, done.stderr
    return done.stdout


class Feed:
    """Publishes a Taobao file at a steady pace, and keeps its last third back until :meth:`finish`.

    So what a test does meanwhile falls in the middle of the replay, however slow the machine is.
    """

    LINES = 500
    PACE_S = 0.05

    def __init__(self, names: Names, file: Path) -> None:
        self._lines = (gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()).splitlines(
            True
        )
        self._released = threading.Event()
        self._process = subprocess.Popen(
            [command(), "publish", "-", "--format", "taobao"],
            env=environment(names),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._process.kill()
        self._released.set()
        self._thread.join()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def finish(self) -> None:
        """Send the rest as fast as it goes; return when all is acknowledged."""
        assert self._process.poll() is None
        self._released.set()
        assert self._process.stdout is not None
        output = self._process.stdout.read().decode()
        assert 0 == self._process.wait(60), output

    def _write(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as stdin:
            for start in range(0, len(self._lines), self.LINES):
                self._released.wait(self.PACE_S if start < len(self._lines) * 2 // 3 else None)
                stdin.writelines(self._lines[start : start + self.LINES])
                stdin.flush()


class Worker:
    """One `interest worker`; leaving the context kills what still runs. Its lines go to a file near its state."""

    def __init__(self, names: Names, model: Path, data_dir: Path, **settings: object) -> None:
        self._log = next(parent for parent in data_dir.parents if parent.is_dir()) / f"{time.monotonic_ns()}.log"
        env = environment(names, model=model, data_dir=data_dir, **settings)
        with self._log.open("wb") as output:
            self.process = subprocess.Popen([command(), "worker"], env=env, stdout=output, stderr=output)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.kill()  # nothing happens where it has ended
        self.process.wait(30)
        if error is not None:
            error.add_note(f"worker {self.process.pid} said:\n{self.said[-5000:]}")

    @property
    def said(self) -> str:
        """All lines so far."""
        return self._log.read_text(errors="replace")

    def partitions(self) -> list[int]:
        """The partitions that it said last that it works on."""
        ready = [line for line in self.said.splitlines() if "ready: partitions [" in line]
        if not ready:
            return []
        listed = ready[-1].partition("partitions [")[2].partition("]")[0]
        return [int(number) for number in listed.split(",") if number.strip()]

    def wait_ready(self) -> None:
        """Return once it works on at least one partition."""
        wait_for(lambda: bool(self.partitions()), READY_S, [self])

    def kill(self) -> None:
        """End it at once, as a machine that goes down (kill -9)."""
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait(30) == -signal.SIGKILL

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(with_signal)
        return self.process.wait(60)


def wait_for(true: Callable[[], bool], timeout_s: float, workers: Sequence[Worker] = ()) -> None:
    """Return once it is true; a worker that ends meanwhile, and the time, are failures."""
    end = time.monotonic() + timeout_s
    while not true():
        for worker in workers:
            assert worker.process.poll() is None, f"worker ended with {worker.process.returncode}:\n{worker.said}"
        assert time.monotonic() < end, f"not within {timeout_s} s"
        time.sleep(POLL_S)


class Topics:
    """How far the topics of a test reach, and how far the workers are."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._admin = KafkaAdminClient(bootstrap_servers=names.broker)
        self._partitions = len(self._admin.describe_topics([names.event_topic])[0]["partitions"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._admin.close()

    def ends(self, topic: str) -> dict[int, int]:
        """The next offset of each partition."""
        tps = [TopicPartition(topic, partition) for partition in range(self._partitions)]
        found = self._admin.list_partition_offsets(dict.fromkeys(tps, OffsetSpec.LATEST))
        return {tp.partition: found[tp].offset for tp in tps}

    def committed(self) -> dict[int, int]:
        """The offset of each partition of the events up to which the workers have committed."""
        try:
            found = self._admin.list_group_offsets(self._names.app_id)[self._names.app_id]
        except (CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError):
            # The broker makes the topic for offsets when the first group comes.
            found = {}
        offsets = {tp.partition: at.offset for tp, at in found.items() if tp.topic == self._names.event_topic}
        return {partition: max(0, offsets.get(partition, 0)) for partition in range(self._partitions)}

    def done(self) -> int:
        """Events that are committed, of all partitions."""
        return sum(self.committed().values())

    def updates(self) -> int:
        """Updates written so far."""
        return sum(self.ends(self._names.update_topic).values())

    def has_updates(self, updates: int) -> bool:
        """Whether so many updates are written."""
        return self.updates() >= updates

    def has_done(self, events: int) -> bool:
        """Whether so many events are committed."""
        return self.done() >= events

    def lag(self) -> int:
        """Events that are not yet committed."""
        return sum(self.ends(self._names.event_topic).values()) - self.done()

    def wait_done(self, *workers: Worker, timeout_s: float = 120) -> None:
        """Return once the workers have committed all events."""
        wait_for(lambda: self.lag() == 0, timeout_s, workers)


def read(broker: str, topic: str) -> list[Any]:
    """All records of a topic, each partition in its order."""
    consumer = KafkaConsumer(
        bootstrap_servers=broker,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        check_crcs=False,  # in pure Python, 0.4 s for each MB
    )
    try:
        consumer.assign(
            [TopicPartition(topic, partition) for partition in sorted(consumer.partitions_for_topic(topic))]
        )
        ends = consumer.end_offsets(consumer.assignment())
        records: list[Any] = []
        while any(consumer.position(tp) < end for tp, end in ends.items()):
            for found in consumer.poll(timeout_ms=500).values():
                records += found
        return records
    finally:
        consumer.close()


def last_values(records: Sequence[Any]) -> dict[bytes, Any]:
    """The last record of each key, as a compacted topic keeps it; a key on two partitions is a failure."""
    last: dict[bytes, Any] = {}
    for record in records:
        assert last.setdefault(record.key, record).partition == record.partition
        last[record.key] = record
    return last


def reasons(records: Sequence[Any]) -> Counter[str]:
    """How many dead letters there are for each reason; a letter that was written twice counts once."""
    letters = {dict(record.headers)["interest-source"]: dict(record.headers) for record in records}
    return Counter(headers["interest-reason"].decode() for headers in letters.values())
