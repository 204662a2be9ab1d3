"""A load of any size with as many users as wanted: each event's user is drawn evenly, by a seed."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from aiokafka import AIOKafkaProducer
from numpy.typing import NDArray

from models.bundle import Bundle
from stream.partitioning import murmur2
from tests.bundles import random_bundle

ITEMS, CATEGORIES = 2_000, 50
CHUNK = 20_000

Users = NDArray[np.int64]


def bundle(folder: Path, hidden: int, dim: int = 64) -> Bundle:
    """A model with random weights that knows all items of the load."""
    items = range(ITEMS)
    return random_bundle(
        folder,
        item_ids=[f"i{item}" for item in items],
        item_categories=[f"c{item % CATEGORIES}" for item in items],
        hidden=hidden,
        dim=dim,
    )


def each(users: int, times: int = 1) -> Users:
    """Every user so many times, in rounds."""
    return np.tile(np.arange(users), times)


def drawn(users: int, events: int, seed: int) -> Users:
    """The users of so many events, each as likely as any other."""
    return np.random.default_rng(seed).integers(0, users, events)


def publish(broker: str, topic: str, partitions: int, users: Users, first_ms: int) -> int:
    """Publish one event of each of `users` in turn, one a millisecond from `first_ms` on; how many records they are.

    Takes 1 to 2 µs an event: whole record batches are made here, keys are placed in bulk.
    """
    return asyncio.run(_publish(broker, topic, partitions, users, first_ms))


async def _publish(broker: str, topic: str, partitions: int, users: Users, first_ms: int) -> int:
    producer = AIOKafkaProducer(bootstrap_servers=broker, acks="all", max_batch_size=1 << 18)
    await producer.start()
    batches = [producer.create_batch() for _ in range(partitions)]
    sent = []
    for key, partition, value in _events(users, partitions, first_ms):
        if batches[partition].append(key=key, value=value, timestamp=None) is None:
            sent.append(await producer.send_batch(batches[partition], topic, partition=partition))
            batches[partition] = producer.create_batch()
            batches[partition].append(key=key, value=value, timestamp=None)
    for partition, batch in enumerate(batches):
        if batch.record_count():
            sent.append(await producer.send_batch(batch, topic, partition=partition))
    await asyncio.gather(*sent)
    await producer.stop()
    return len(users)


def _events(users: Users, partitions: int, first_ms: int) -> Iterator[tuple[bytes, int, bytes]]:
    """Key, partition and value of each event."""
    random = np.random.default_rng(0)
    for begin in range(0, len(users), CHUNK):
        part = users[begin : begin + CHUNK]
        keys = [b"u%d" % user for user in part.tolist()]
        places = (murmur2(keys) & np.uint32(0x7FFFFFFF)) % np.uint32(partitions)
        items = random.integers(0, ITEMS, len(part)).tolist()
        for index, (key, place, item) in enumerate(zip(keys, places.tolist(), items, strict=True)):
            yield (
                key,
                place,
                b'{"user_id":"%b","type":"click","item_id":"i%d","category_id":"c%d","timestamp":%d}'
                % (key, item, item % CATEGORIES, first_ms + begin + index),
            )
