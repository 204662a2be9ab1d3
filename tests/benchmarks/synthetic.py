"""A load of any size with as many users as wanted: each event's user is drawn evenly, by a seed."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def publish(
    broker: str,
    topic: str,
    partitions: int,
    users: Users,
    first_ms: int,
    part: int | None = None,
    part_s: float = 0.0,
) -> int:
    """Publish one event of each of `users` in turn, one a millisecond from `first_ms` on; how many records they are.

    Takes 1 to 2 µs an event: whole record batches are made here, keys are placed in bulk. With `part`, so many events
    go out at once, and the next so many `part_s` seconds later.
    """
    return asyncio.run(_publish(broker, topic, partitions, users, first_ms, part or len(users), part_s))


async def _publish(
    broker: str, topic: str, partitions: int, users: Users, first_ms: int, part: int, part_s: float
) -> int:
    producer = AIOKafkaProducer(bootstrap_servers=broker, acks="all", max_batch_size=1 << 18)
    await producer.start()
    began = time.monotonic()
    sent = []
    for number, begin in enumerate(range(0, len(users), part)):
        await asyncio.sleep(max(0.0, began + number * part_s - time.monotonic()))
        batches: dict[int, Any] = {}
        for key, partition, value in _events(users[begin : begin + part], partitions, first_ms + begin):
            batch = batches.get(partition)
            if batch is None or batch.append(key=key, value=value, timestamp=None) is None:
                if batch is not None:
                    sent.append(await producer.send_batch(batch, topic, partition=partition))
                batches[partition] = producer.create_batch()
                batches[partition].append(key=key, value=value, timestamp=None)
        sent += [await producer.send_batch(batch, topic, partition=partition) for partition, batch in batches.items()]
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
