"""A steady load that outlives the broker's outages: what counts is what the topic holds afterwards."""

import threading
import time
from collections.abc import Iterator
from itertools import islice
from types import TracebackType
from typing import Self

from kafka import KafkaProducer

from stream.publisher import partition_of
from tests.faults.events import Record

SLICE_S = 0.05
#: So long it tries; more than any outage.
PATIENCE_S = 180.0


class Load:
    """Publishes records at `rate` a second from a thread of its own, for as long as a `with` block or until `stop`.

    Each slice of 50 ms is acknowledged before the next. Time that is lost while the broker is away is not caught up.
    """

    def __init__(self, broker: str, topic: str, partitions: int, records: Iterator[Record], rate: float) -> None:
        self._broker = broker
        self._topic = topic
        self._partitions = partitions
        self._records = records
        self._slice = round(rate * SLICE_S)
        self._ended = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="load")
        self.acknowledged = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Send no more; return when all that was sent is acknowledged."""
        self.__exit__(None, None, None)

    def _run(self) -> None:
        try:
            self._publish()
        except Exception as error:  # noqa: BLE001  # raised again in the thread that waits
            self._error = error

    def _publish(self) -> None:
        # aiokafka's producer, where no one listens, tries again without a pause and takes a core.
        producer = KafkaProducer(
            bootstrap_servers=self._broker,
            acks="all",
            delivery_timeout_ms=PATIENCE_S * 1000,
            max_block_ms=PATIENCE_S * 1000,
            request_timeout_ms=5000,
            reconnect_backoff_max_ms=200,
        )
        try:
            due = time.monotonic()
            while not self._ended.is_set():
                sent = [
                    producer.send(self._topic, value, key, partition=partition_of(key, self._partitions))
                    for key, value in islice(self._records, self._slice)
                ]
                for future in sent:
                    future.get(PATIENCE_S)
                self.acknowledged += len(sent)
                due = max(due + SLICE_S, time.monotonic() - SLICE_S)
                time.sleep(max(0.0, due - time.monotonic()))
        finally:
            producer.close(timeout=5)
