"""Faust's producer, for whole record batches: acknowledged by all replicas, sent only while the partitions are ours."""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch
from faust.transport.drivers import aiokafka as driver

from stream.access import Need, refusal
from stream.connect import require
from stream.consumer import Consumer
from stream.ending import EXIT_FAILURE, end
from stream.errors import AccessError, BrokerError
from stream.parting import close_in_time
from stream.security import Cluster

if TYPE_CHECKING:
    from stream.worker import App

log = logging.getLogger(__name__)

RETRY_S = 0.1
LOOK_S = 5.0

#: How records are compressed on their way and in the log.
Codec = Literal["none", "gzip", "zstd"]
_CODECS: dict[Codec, int] = {
    "none": DefaultRecordBatch.CODEC_NONE,
    "gzip": DefaultRecordBatch.CODEC_GZIP,
    "zstd": DefaultRecordBatch.CODEC_ZSTD,
}

#: Of a record without headers: one list for all, so that a batch makes no list a record.
NO_HEADERS: list[tuple[str, bytes | None]] = []
#: Key, value and headers of a record.
Entry = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]
#: The acknowledgement of one record batch and the number of its records.
Sent = tuple["asyncio.Future[Any]", int]


class Producer(driver.Producer):
    """Publishes record batches at a few µs a record; `send` costs 50 to 100."""

    _look_again_s = 0.0

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}

    async def on_start(self) -> None:
        await super().on_start()
        consumer = cast(Consumer, self.app.consumer)
        producer = self._ensure_producer()
        close_in_time(producer.client)
        sender = producer._sender
        send = sender._send_produce_req

        async def guarded(node_id: int, batches: Any) -> None:
            await consumer.lease_or_exit()
            await send(node_id, batches)

        sender._send_produce_req = guarded

        # With no broker there, aiokafka asks for its metadata thousands of times a second.
        update = producer.client._metadata_update

        async def unhurried(cluster: Any, topics: Any) -> bool:
            updated: bool = await update(cluster, topics)
            if not updated:
                await asyncio.sleep(RETRY_S)
                await self._end_if_refused()
            return updated

        producer.client._metadata_update = unhurried

    async def _end_if_refused(self) -> None:
        """No broker is heard. If that is since they refuse this worker, it ends: clients would try on in silence."""
        if time.monotonic() < self._look_again_s:
            return
        try:
            await asyncio.to_thread(require, self._broker)
        except AccessError as error:
            end(EXIT_FAILURE, "%s", error)
        except BrokerError as error:
            log.debug("%s", error)  # one that is away may come back
        self._look_again_s = time.monotonic() + LOOK_S

    @property
    def _broker(self) -> Cluster:
        return cast("App", self.app).cluster

    @property
    def cluster(self) -> ClusterMetadata:
        """What the client knows of topics and their partitions."""
        return self._ensure_producer().client.cluster

    async def send_batches(
        self, topic: str, partition: int, entries: Iterable[Entry], timestamp_ms: int, codec: Codec = "none"
    ) -> list[Sent]:
        """Hand over records of one partition; they are sent in this order.

        Compressed, what only came through a topic's size limit so gets through another's.

        Returns:
            for each record batch the future of its acknowledgement, which raises BrokerError where it is refused, and
            its number of records.
        """
        producer = self._ensure_producer()
        sent: list[Sent] = []
        rest = iter(entries)
        left = next(rest, None)
        while left is not None:
            batch = _Batch(self.max_batch_size, _CODECS[codec])
            left = batch.fill(left, rest, timestamp_ms)
            sending = await producer.send_batch(batch, topic, partition=partition)
            acknowledged = asyncio.ensure_future(_acknowledged(sending, topic, partition, self._broker))
            sent.append((acknowledged, batch.record_count()))
        return sent


class _Batch(BatchBuilder):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's, filled by one call: its own, a call a record, takes twice as long."""

    def fill(self, first: Entry, rest: Iterator[Entry], timestamp_ms: int) -> Entry | None:
        """Append `first`, then the `rest` as long as they fit; the one that did not, None when all did.

        An empty batch takes any record, and the broker is the judge.
        """
        append, count, left = self._builder.append, 1, None
        append(0, timestamp_ms, *first)
        for entry in rest:
            key, value, headers = entry
            if append(count, timestamp_ms, key, value, headers) is None:
                left = entry
                break
            count += 1
        self._relative_offset = count
        self.close()
        return left


async def _acknowledged(sending: "asyncio.Future[Any]", topic: str, partition: int, broker: Cluster) -> Any:
    try:
        return await sending
    except KafkaError as error:
        if refused := refusal(error, broker, Need("Write", "topic", topic)):
            raise refused from error
        raise BrokerError(f"{topic}/{partition} does not take what is sent: {error}") from error
