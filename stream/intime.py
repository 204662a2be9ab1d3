"""Reading several topics at once in the order of their records' times."""

import heapq
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from stream.connect import require
from stream.consume import POLL_MS, SILENT_S, reader

#: Topic and partition.
Place = tuple[str, int]

#: Records of a partition that wait, at most, and one poll more.
AHEAD_RECORDS = 1000


def reach(broker: str, topics: Iterable[str]) -> tuple[dict[Place, int], dict[Place, int]]:
    """The first offset of each partition, and the one behind the last committed record."""
    starts: dict[Place, int] = {}
    ends: dict[Place, int] = {}
    for topic in topics:
        with reader(broker, topic) as consumer:
            tps = consumer.assignment()
            starts |= {(tp.topic, tp.partition): offset for tp, offset in consumer.beginning_offsets(tps).items()}
            ends |= {(tp.topic, tp.partition): offset for tp, offset in consumer.end_offsets(tps).items()}
    return starts, ends


def read_in_time(broker: str, starts: Mapping[Place, int], ends: Mapping[Place, int]) -> Iterator[Any]:
    """Committed records of each partition in [start, end), oldest first; those of a partition stay in their order."""
    with ExitStack() as stack:
        lanes = []
        for name in sorted({topic for topic, _ in starts}):
            consumer = stack.enter_context(reader(broker, name))
            mine = {TopicPartition(*place): place for place, start in starts.items() if place[0] == name}
            wanted = {tp: ends[place] for tp, place in mine.items() if starts[place] < ends[place]}
            consumer.assign(list(wanted))
            for tp in wanted:
                consumer.seek(tp, starts[mine[tp]])
            lanes += _Lanes(broker, consumer, wanted).all()
        yield from heapq.merge(*lanes, key=lambda record: record.timestamp)


class _Lanes:
    """The partitions of one topic, each a stream of its own."""

    def __init__(self, broker: str, consumer: KafkaConsumer, ends: Mapping[TopicPartition, int]) -> None:
        self._broker = broker
        self._consumer = consumer
        self._ends = ends
        self._waiting: dict[TopicPartition, deque[Any]] = {tp: deque() for tp in ends}
        self._heard = time.monotonic()

    def all(self) -> list[Iterator[Any]]:
        """The streams."""
        return [self._lane(tp) for tp in self._ends]

    def _lane(self, tp: TopicPartition) -> Iterator[Any]:
        waiting = self._waiting[tp]
        while True:
            while waiting:
                yield waiting.popleft()
            # A position, unlike the last record's offset, also passes over what transactions leave.
            if self._is_read(tp):
                return
            self._poll()

    def _is_read(self, tp: TopicPartition) -> bool:
        return bool(self._consumer.position(tp) >= self._ends[tp])

    def _poll(self) -> None:
        """Take what comes, of the partitions that have room; look after the broker when nothing comes."""
        full = {tp for tp, waiting in self._waiting.items() if len(waiting) >= AHEAD_RECORDS or self._is_read(tp)}
        self._consumer.pause(*full)
        self._consumer.resume(*(self._ends.keys() - full))
        found = self._consumer.poll(timeout_ms=POLL_MS)
        for tp, records in found.items():
            self._waiting[tp].extend(record for record in records if record.offset < self._ends[tp])
        if found:
            self._heard = time.monotonic()
        elif time.monotonic() - self._heard > SILENT_S:
            require(self._broker)
            self._heard = time.monotonic()
