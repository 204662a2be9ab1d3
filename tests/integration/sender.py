"""Records of any kind put on a topic, whole batches at a time, in the order given."""

import asyncio
from collections.abc import Iterable, Sequence

from aiokafka import AIOKafkaProducer

from stream.publisher import partition_of

#: Key and value of a record.
Keyed = tuple[bytes | None, bytes | None]

BATCH_BYTES = 2_000_000


def send(
    broker: str,
    topic: str,
    records: Iterable[Keyed],
    *,
    partition: int | None = None,
    headers: Sequence[tuple[str, bytes | None]] = (),
) -> None:
    """Send records and return once all are acknowledged: by key where Java's partitioner puts them, or to `partition`.

    A record without a key goes to partition 0. The order holds within a partition.
    """
    asyncio.run(_send(broker, topic, list(records), partition, list(headers)))


async def _send(
    broker: str,
    topic: str,
    records: Sequence[Keyed],
    partition: int | None,
    headers: Sequence[tuple[str, bytes | None]],
) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=broker, max_request_size=BATCH_BYTES, max_batch_size=BATCH_BYTES // 2
    ) as producer:
        count = len(await producer.partitions_for(topic))
        places: dict[int, list[Keyed]] = {}
        for key, value in records:
            place = partition if partition is not None else partition_of(key, count) if key else 0
            places.setdefault(place, []).append((key, value))
        for place, some in places.items():
            batch = producer.create_batch()
            for key, value in some:
                if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                    await (await producer.send_batch(batch, topic, partition=place))
                    batch = producer.create_batch()
                    assert batch.append(key=key, value=value, timestamp=None, headers=headers) is not None
            await (await producer.send_batch(batch, topic, partition=place))
