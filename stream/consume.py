"""Reading a topic without a group: nothing is committed, nobody else notices."""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from stream.access import Need, explain
from stream.connect import require
from stream.errors import TopicError
from stream.security import Cluster
from stream.topics import allow

POLL_MS = 200
SILENT_S = 5.0


@contextmanager
def reader(broker: Cluster, topic: str) -> Iterator[KafkaConsumer]:
    """A consumer with every partition of the topic assigned, committed records only.

    Raises:
        TopicError: the topic does not exist.
        BrokerError: no broker answers, or it refuses.
    """
    servers = require(broker)
    try:
        consumer = KafkaConsumer(
            bootstrap_servers=servers,
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            check_crcs=False,  # in plain Python here: 0.37 s a MB; brokers check what they write
            metrics_enabled=False,
            **broker.security.kafka_python(),
        )
        try:
            partitions = consumer.partitions_for_topic(topic)
            if not partitions:
                allow(broker, topic, "Read")  # it is missing, or this user must not know of it
                raise TopicError(f"topic {topic} is missing on {broker}")
            consumer.assign([TopicPartition(topic, partition) for partition in sorted(partitions)])
            yield consumer
        finally:
            consumer.close()
    except KafkaError as error:
        raise explain(error, broker, Need("Read", "topic", topic)) from error


def read_all(broker: Cluster, topic: str, partitions: Collection[int] | None = None) -> Iterator[Any]:
    """Every record (of kafka-python) from the topic's start to the end that it has now, each partition in its order.

    `partitions` limits it to some of the topic's; by default all are read.
    """
    with reader(broker, topic) as consumer:
        if partitions is not None:
            consumer.assign([tp for tp in consumer.assignment() if tp.partition in partitions])
        ends = consumer.end_offsets(consumer.assignment())
        consumer.seek_to_beginning()
        watch = _Watch(broker)
        # A position, unlike the last record's offset, also passes over what compaction and transactions leave.
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            for partition, records in watch.poll(consumer).items():
                yield from (record for record in records if record.offset < ends[partition])


def read_range(broker: Cluster, topic: str, partition: int, first: int, end: int) -> list[Any]:
    """The records of one partition whose offsets are in [first, end)."""
    found: list[Any] = []
    with reader(broker, topic) as consumer:
        tp = TopicPartition(topic, partition)
        consumer.assign([tp])
        consumer.seek(tp, first)
        watch = _Watch(broker)
        while consumer.position(tp) < end:
            for records in watch.poll(consumer).values():
                found += (record for record in records if record.offset < end)
    return found


def follow(broker: Cluster, topic: str, from_beginning: bool = False) -> Iterator[Any]:
    """Records without end, as they come; first None, once everything written from now on will be seen.

    Raises:
        BrokerError: also if the broker goes away.
    """
    with reader(broker, topic) as consumer:
        if from_beginning:
            consumer.seek_to_beginning()
        else:
            consumer.seek_to_end()
        for partition in consumer.assignment():
            consumer.position(partition)
        yield None
        watch = _Watch(broker)
        while True:
            for records in watch.poll(consumer).values():
                yield from records


class _Watch:
    """Polls, and looks whether the broker is still there when nothing comes: the consumer would try for ever."""

    def __init__(self, broker: Cluster) -> None:
        self._broker = broker
        self._heard = time.monotonic()

    def poll(self, consumer: KafkaConsumer) -> dict[TopicPartition, list[Any]]:
        found: dict[TopicPartition, list[Any]] = consumer.poll(timeout_ms=POLL_MS)
        if found:
            self._heard = time.monotonic()
        elif time.monotonic() - self._heard > SILENT_S:
            require(self._broker)
            self._heard = time.monotonic()
        return found
