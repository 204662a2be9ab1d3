"""Reading several topics at once in the order of their records' times."""

import heapq
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from stream.connect import require
from stream.consume import POLL_MS, SILENT_S, reader
from stream.security import Cluster

#: Topic and partition.
Place = tuple[str, int]


def reach(broker: Cluster, topics: Iterable[str]) -> tuple[dict[Place, int], dict[Place, int]]:
    """The first offset of each partition, and the one behind the last committed record."""
    starts: dict[Place, int] = {}
    ends: dict[Place, int] = {}
    for topic in topics:
        with reader(broker, topic) as consumer:
            tps = consumer.assignment()
            starts |= {(tp.topic, tp.partition): offset for tp, offset in consumer.beginning_offsets(tps).items()}
            ends |= {(tp.topic, tp.partition): offset for tp, offset in consumer.end_offsets(tps).items()}
    return starts, ends


def read_in_time(broker: Cluster, starts: Mapping[Place, int], ends: Mapping[Place, int]) -> Iterator[Any]:
    """Committed records of each partition in [start, end), oldest first; those of a partition stay in their order."""
    with ExitStack() as stack:
        lanes = []
        for place, start in starts.items():
            if start < ends[place]:
                # A reader each: of one that has paused the others nothing came any more (kafka-python 3.0.12).
                consumer = stack.enter_context(reader(broker, place[0]))
                tp = TopicPartition(*place)
                consumer.assign([tp])
                consumer.seek(tp, start)
                lanes.append(_lane(broker, consumer, tp, ends[place]))
        yield from heapq.merge(*lanes, key=lambda record: record.timestamp)


def _lane(broker: Cluster, consumer: KafkaConsumer, tp: TopicPartition, end: int) -> Iterator[Any]:
    """The records of one partition; looks after the broker when nothing comes."""
    heard = time.monotonic()
    # A position, unlike the last record's offset, also passes over what transactions leave.
    while consumer.position(tp) < end:
        found = consumer.poll(timeout_ms=POLL_MS).get(tp, [])
        yield from (record for record in found if record.offset < end)
        if found:
            heard = time.monotonic()
        elif time.monotonic() - heard > SILENT_S:
            require(broker)
            heard = time.monotonic()
