"""Writes for `interest topics grow`: plainly, what may be written again; in transactions, what must be written once.

The transactional id is the old group's: once a carrier has begun, one that began before can commit nothing more.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced
from aiokafka.structs import TopicPartition

from stream.access import Need, refusal
from stream.connect import require
from stream.deadletter import Headers
from stream.errors import BrokerError, TopicError
from stream.publisher import BATCH_BYTES, CLOSE_S, DELIVERY_S
from stream.security import Cluster

log = logging.getLogger(__name__)

#: The longest that the first transaction may take: all events that the table may hold already. Below Kafka's limit.
TRANSACTION_S = 600
_LOG_APPEND_TIME = 1

Answer = TypeVar("Answer")


class Moved(NamedTuple):
    """A record on its new place."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    time_ms: int | None  # None: now


class Carrier:
    """Two producers, acks=all: one plain and idempotent, one for transactions."""

    def __init__(self, broker: Cluster, group: str, max_batch_bytes: int) -> None:
        self._broker = broker
        self._group = group
        self._options = {
            "bootstrap_servers": require(broker),
            **broker.security.aiokafka(),
            "acks": "all",
            "max_batch_size": min(BATCH_BYTES, max_batch_bytes),
            "compression_type": "gzip",  # what only came through a topic's size limit so gets through once more
        }
        self._producers: list[AIOKafkaProducer] = []
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        try:
            self._run(self._begin())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._runner.run(self._close())
        self._runner.close()

    def write(self, records: Sequence[Moved]) -> None:
        """Write plainly, in order, and wait until all in-sync replicas have all.

        Raises:
            BrokerError: something was not acknowledged; what was stays.
        """
        self._run(self._hand_over(self._producers[0], records))

    def transact(self, chunks: Iterable[Sequence[Moved]], done: Mapping[tuple[str, int], int]) -> None:
        """Write all chunks, and how far the group has come (next offset by topic and partition), all or nothing.

        `done` is read when the chunks are at their end.

        Raises:
            BrokerError: nothing was written; unless the last word, to commit, was not answered.
        """
        self._run(self._transact(chunks, done))

    def _run(self, doing: Awaitable[Answer]) -> Answer:
        async def wait() -> Answer:
            return await doing

        try:
            return self._runner.run(wait())
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise BrokerError("another `interest topics grow` has begun; this one has ended") from error
        except (KafkaError, TimeoutError) as error:
            why = f"no answer in {DELIVERY_S} s" if isinstance(error, TimeoutError) else error or type(error).__name__
            needs = (Need("Write", "transactional-id", f"{self._group}-grow"), Need("Read", "group", self._group))
            why = refusal(error, self._broker, *needs) or why
            raise BrokerError(f"broker {self._broker}: {why}; run it again, it knows how far it came") from error

    async def _begin(self) -> None:
        # aiokafka gives a failure to several futures, some of which nobody can await; asyncio would print each.
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: log.debug("%s", context))
        plain = AIOKafkaProducer(enable_idempotence=True, **self._options)
        bound = AIOKafkaProducer(
            transactional_id=f"{self._group}-grow", transaction_timeout_ms=TRANSACTION_S * 1000, **self._options
        )
        self._producers = [plain, bound]
        async with asyncio.timeout(DELIVERY_S):
            for producer in self._producers:
                await producer.start()

    async def _transact(self, chunks: Iterable[Sequence[Moved]], done: Mapping[tuple[str, int], int]) -> None:
        producer = self._producers[1]
        await producer.begin_transaction()
        try:
            for chunk in chunks:
                await self._hand_over(producer, chunk)
            async with asyncio.timeout(DELIVERY_S):
                offsets = {TopicPartition(*place): offset for place, offset in done.items()}
                await producer.send_offsets_to_transaction(offsets, self._group)
                await producer.commit_transaction()
        except BaseException:
            await self._abort(producer)
            raise

    async def _abort(self, producer: AIOKafkaProducer) -> None:
        """Let readers go on at once; where this fails, the next run or the broker does it."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await producer.abort_transaction()
        except (KafkaError, TimeoutError) as error:
            log.debug("the transaction could not be aborted: %s", error)

    async def _hand_over(self, producer: AIOKafkaProducer, records: Sequence[Moved]) -> None:
        async with asyncio.timeout(DELIVERY_S):
            await self._send(producer, records)

    async def _send(self, producer: AIOKafkaProducer, records: Sequence[Moved]) -> None:
        places: dict[tuple[str, int], list[Moved]] = {}
        for record in records:
            places.setdefault((record.topic, record.partition), []).append(record)
        sent = []
        for (topic, partition), some in places.items():
            for batch, is_timed in _batches(producer, some):
                sent.append((await producer.send_batch(batch, topic, partition=partition), is_timed))
        for future, is_timed in sent:
            metadata = await future
            if is_timed and metadata.timestamp_type == _LOG_APPEND_TIME:
                raise TopicError(
                    f"topic {metadata.topic}: expected message.timestamp.type=CreateTime while events are carried, got "
                    "LogAppendTime; run it again"
                )

    async def _close(self) -> None:
        """Stop the producers; a broker that is gone keeps each no longer than 5 s."""
        for producer in self._producers:
            try:
                await asyncio.wait_for(producer.stop(), CLOSE_S)
            except TimeoutError:
                await producer.client.close()


def _batches(producer: AIOKafkaProducer, records: Iterable[Moved]) -> Iterator[tuple[Any, bool]]:
    """Record batches, each with whether a record has a time. A full one takes no more, an empty one any record."""
    batch, is_timed = producer.create_batch(), False
    for record in records:
        fields = {"key": record.key, "value": record.value, "headers": record.headers, "timestamp": record.time_ms}
        if batch.append(**fields) is None:
            yield batch, is_timed
            batch, is_timed = producer.create_batch(), False
            batch.append(**fields)
        is_timed |= record.time_ms is not None
    yield batch, is_timed
