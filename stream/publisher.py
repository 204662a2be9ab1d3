"""Sends keyed records to one topic as whole record batches, on the partition that Java's partitioner takes."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import NoReturn

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from kafka.partitioner.default import murmur2

from stream.access import Need, explain, refusal
from stream.connect import require
from stream.errors import BrokerError
from stream.eventfile import Record
from stream.security import Cluster
from stream.topics import TopicInfo

# A few µs a record; a producer that is given record after record costs 50 (kafka-python 18,000 records/s here).
BATCH_BYTES = 256 * 1024
#: What a record batch of one record takes beside key and value, at most.
OVERHEAD_BYTES = 128
DELIVERY_S = 30
CLOSE_S = 5
KEPT_KEYS = 1_000_000


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Java's client, and all that follow it, choose for a key."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


class Publisher:
    """A producer for one topic: acks=all, idempotent, each key's records in the order given.

    The records' own times are left to Kafka. An async context; `acknowledged` counts what all in-sync replicas have.
    """

    def __init__(self, broker: Cluster, topic: TopicInfo) -> None:
        self._broker = broker
        self._topic = topic
        # Idempotent: brokers before 2.8 want a right of its own for that.
        self._needs = (Need("Write", "topic", topic.name), Need("IdempotentWrite", "cluster", ""))
        self.max_record_bytes = int(topic.configs["max.message.bytes"]) - OVERHEAD_BYTES
        self.acknowledged = 0
        self._partitions: dict[bytes, int] = {}
        self._batches: dict[int, _Batch] = {}
        self._sent: deque[_Batch] = deque()

    async def __aenter__(self) -> "Publisher":
        self._producer = AIOKafkaProducer(
            bootstrap_servers=require(self._broker),
            **self._broker.security.aiokafka(),
            acks="all",
            enable_idempotence=True,
            max_batch_size=min(BATCH_BYTES, self.max_record_bytes + OVERHEAD_BYTES),
        )
        try:
            await self._producer.start()
        except KafkaError as error:
            await self._close()
            raise explain(error, self._broker, *self._needs) from error
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._close()

    async def send(self, records: Iterable[Record]) -> None:
        """Hand over records. Batches that are full are on their way, others wait for more or for `flush`.

        Raises:
            BrokerError: a batch was not acknowledged; tells how many records and the first one's line.
        """
        for record in records:
            await self._put(record, self._partition(record.key))

    async def send_everywhere(self, records: Iterable[Record]) -> None:
        """Hand over records, each to every partition. Raises as `send` does."""
        for record in records:
            for partition in range(self._topic.partitions):
                await self._put(record, partition)

    async def send_to(self, partition: int, records: Iterable[Record]) -> None:
        """Hand over records, all to one partition. Raises as `send` does."""
        for record in records:
            await self._put(record, partition)

    async def flush(self) -> None:
        """Send what waits and return once everything is acknowledged. Raises as `send` does."""
        for partition in list(self._batches):
            await self._hand_over(partition)
        while self._sent:
            await self._settle()

    async def _put(self, record: Record, partition: int) -> None:
        batch = self._batches.get(partition)
        if batch is not None and batch.append(record):
            return
        if batch is not None:
            await self._hand_over(partition)
        batch = self._batches[partition] = _Batch(self._producer, record.line)
        if not batch.append(record):
            raise ValueError(f"line {record.line}: {len(record.value)} bytes do not fit a batch")

    def _partition(self, key: bytes) -> int:
        partition = self._partitions.get(key)
        if partition is None:
            if len(self._partitions) >= KEPT_KEYS:
                self._partitions.clear()
            partition = self._partitions[key] = partition_of(key, self._topic.partitions)
        return partition

    async def _hand_over(self, partition: int) -> None:
        batch = self._batches.pop(partition)
        self._sent.append(batch)
        try:
            # Waits while an earlier batch of the partition waits: so a slow broker slows us.
            sending = self._producer.send_batch(batch.builder, self._topic.name, partition=partition)
            batch.future = await asyncio.wait_for(sending, DELIVERY_S)
        except (KafkaError, TimeoutError) as error:
            await self._fail(error)
        while self._sent and (future := self._sent[0].future) is not None and future.done():
            await self._settle()

    async def _settle(self) -> None:
        """Wait for the oldest batch that is on its way."""
        batch = self._sent[0]
        assert batch.future is not None
        try:
            # An idempotent producer itself would try for ever.
            await asyncio.wait_for(asyncio.shield(batch.future), DELIVERY_S)
        except (KafkaError, TimeoutError) as error:
            await self._fail(error)
        self._sent.popleft()
        self.acknowledged += batch.count

    async def _fail(self, error: KafkaError | TimeoutError) -> NoReturn:
        """One batch failed. What follows must not overtake it, so all ends; but what is on its way may arrive."""
        futures = [batch.future for batch in self._sent if batch.future is not None]
        if futures and not isinstance(error, TimeoutError):
            await asyncio.wait(futures, timeout=DELIVERY_S)
        lost = list(self._batches.values())
        for batch in self._sent:
            if batch.future is not None and batch.future.done() and batch.future.exception() is None:
                self.acknowledged += batch.count
            else:
                lost.append(batch)
        count, line = sum(batch.count for batch in lost), min(batch.line for batch in lost)
        why = f"no answer in {DELIVERY_S} s" if isinstance(error, TimeoutError) else error or type(error).__name__
        why = refusal(error, self._broker, *self._needs) or why
        raise BrokerError(
            f"{count:,} of the events for {self._topic.name} were not acknowledged, the first is line {line}: {why}"
        ) from error

    async def _close(self) -> None:
        """Stop the producer; a broker that is gone keeps it no longer than 5 s."""
        try:
            await asyncio.wait_for(self._producer.stop(), CLOSE_S)
        except TimeoutError:
            await self._producer.client.close()


class _Batch:
    """A record batch of one partition: its records' number, the line of the first, and its acknowledgement."""

    def __init__(self, producer: AIOKafkaProducer, line: int) -> None:
        self.builder = producer.create_batch()
        self.line = line
        self.count = 0
        self.future: asyncio.Future[object] | None = None

    def append(self, record: Record) -> bool:
        """False if the batch is full."""
        if self.builder.append(timestamp=None, key=record.key, value=record.value) is None:
            return False
        self.count += 1
        return True
