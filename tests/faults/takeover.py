"""When updates come, as an independent consumer sees it, and how long they stay away after a fault."""

import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from types import TracebackType
from typing import Self

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

SILENCE_S = 1.0
POLL_MS = 50
STUCK_S = 120.0


def seconds_away(arrivals: Sequence[float], began: float, over: float, now: float) -> float:
    """How long after `over` the updates of one partition stay away because of a fault that began at `began`.

    A silence counts if it is longer than a second, ends after `over` or not at all, and began around or after `began`;
    0 where there is none.

    Args:
        arrivals: times of updates, ascending; `now` stands for the next where a silence goes on.
    """
    away = 0.0
    for last, following in zip(arrivals, [*arrivals[1:], now], strict=True):
        if last >= began - SILENCE_S and following - last > SILENCE_S and following > over:
            away = max(away, following - over)
    return away


class Takeover:
    """Notes when updates arrive, partition by partition, in a thread of its own; a context."""

    def __init__(self, broker: str, topic: str, partitions: int) -> None:
        self._broker = broker
        self._partitions = [TopicPartition(topic, number) for number in range(partitions)]
        self._arrivals: list[list[float]] = [[] for _ in range(partitions)]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="takeover")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def seconds(self, began: float, over: float | None = None) -> float:
        """Seconds from `over` (from `began` unless told) until updates flow again on every partition.

        Both by time.monotonic: when the fault began, and when it was over, e.g. when the broker was back.
        """
        now = time.monotonic()
        over = began if over is None else over
        return max(seconds_away(list(arrivals), began, over, now) for arrivals in self._arrivals)

    def wait_flowing(self, since: float) -> None:
        """Return once there were updates on every partition within the last second, and all came after `since`."""
        end = time.monotonic() + STUCK_S
        while not self._flows(since):
            assert time.monotonic() < end, f"no updates for {STUCK_S:.0f} s on partitions {self.silent(since)}"
            time.sleep(POLL_MS / 1000)

    def silent(self, since: float) -> list[int]:
        """Partitions without an update after `since`."""
        return [number for number, arrivals in enumerate(self._arrivals) if not arrivals or arrivals[-1] <= since]

    def _flows(self, since: float) -> bool:
        """Two updates a second apart, and nothing longer than that between them or after."""
        now = time.monotonic()
        for arrivals in self._arrivals:
            late = [at for at in arrivals[-100:] if at > max(since, now - 2 * SILENCE_S)]
            if not late or now - late[-1] > SILENCE_S or late[-1] - late[0] < SILENCE_S:
                return False
            if any(following - at > SILENCE_S for at, following in pairwise(late)):
                return False
        return True

    def _run(self) -> None:
        consumer = KafkaConsumer(
            bootstrap_servers=self._broker,
            enable_auto_commit=False,
            group_id=None,
            auto_offset_reset="earliest",
            reconnect_backoff_ms=50,
            reconnect_backoff_max_ms=100,
            request_timeout_ms=5000,
        )
        try:
            consumer.assign(self._partitions)
            while not self._ended.is_set():
                try:
                    found = consumer.poll(timeout_ms=POLL_MS, max_records=5000)
                except KafkaError:  # the broker is away, which is what we watch
                    time.sleep(POLL_MS / 1000)
                    continue
                now = time.monotonic()
                for tp in found:
                    self._arrivals[tp.partition].append(now)
        finally:
            consumer.close()
