"""A fleet's state without a fleet's work: a changelog of many users, filled directly, and events for some of them."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer

from stream import topics
from stream.contract import EVENT_DTYPE, EVENT_TYPES, hash32, hash64
from stream.partitioning import murmur2
from stream.settings import DAY_MS
from stream.value import source_hash
from stream.window import Windows, dump
from tests.benchmarks import load, stage
from tests.bundles import random_bundle

PARTITIONS = 4
#: Events of a window, least and most: of a slice of a day as Taobao's, and of windows that fold from 50 to 25.
SHORT, FULL = (1, 4), (25, 50)
ITEMS, CATEGORIES = 20_000, 500
HIDDEN, DIM = 128, 64

_CHUNK = 50_000
_SPAN_MS = 20 * DAY_MS  # all events are younger than a window's age and than what makes a user idle


def bundle(folder: Path) -> Path:
    """A model whose catalog has the items of these events."""
    items = [str(number) for number in range(ITEMS)]
    categories = [str(number % CATEGORIES) for number in range(ITEMS)]
    random_bundle(folder, item_ids=items, item_categories=categories, hidden=HIDDEN, dim=DIM)
    return folder


def names(first: int, count: int) -> list[bytes]:
    """User ids in no order, as digits; each number gives another."""
    numbers = (np.arange(first, first + count, dtype=np.uint64) * np.uint64(2_654_435_761)) % np.uint64(2**32)
    return [b"%d" % number for number in numbers.tolist()]


def values(first: int, count: int, window: tuple[int, int], source: int) -> list[bytes]:
    """Table values of so many users, whose last record was at offset 0 of `source`."""
    random = np.random.default_rng(first)
    sizes = random.integers(window[0], window[1] + 1, count)
    start = np.concatenate([[0], np.cumsum(sizes)])
    events = np.zeros(int(start[-1]), EVENT_DTYPE)
    items = random.zipf(1.2, len(events)) % ITEMS
    hashes = np.array([hash64(str(number)) for number in range(ITEMS)], np.uint64)
    groups = np.array([hash32(str(number)) for number in range(CATEGORIES)], np.uint32)
    now_ms = int(time.time() * 1000)
    times = now_ms - random.integers(DAY_MS, _SPAN_MS, len(events)) // 1000 * 1000
    user = np.repeat(np.arange(count), sizes)
    events["timestamp"] = times[np.lexsort((times, user))]
    events["item"], events["category"] = hashes[items], groups[items % CATEGORIES]
    events["type"] = EVENT_TYPES["click"]
    windows = Windows(
        sources=(source,),
        version=sizes,
        floor=np.zeros(count, np.int64),
        position=np.zeros((count, 1), np.int64),
        start=start,
        events=events,
        text_row=np.full(len(events), -1, np.int32),
        tokens=np.zeros((0, 1), np.uint32),
    )
    return dump(windows, np.arange(count))


def fill(given: Mapping[str, Any], users: int, window: tuple[int, int]) -> int:
    """Write a table value for each of so many users to the changelog, where a worker would; the bytes of all values.

    Each event topic's partition gets a first event, so that offset 0 is behind and what comes next is new.
    """
    settings = stage.settings(given)
    events = settings.event_topics[0]
    source = source_hash(events, topics.describe(settings.cluster, [events])[events].topic_id.bytes)
    touch(given, [_opener(number) for number in range(PARTITIONS)])
    return asyncio.run(_fill(settings.broker, settings.changelog_topic, users, window, source))


def _opener(partition: int) -> bytes:
    number = 0
    while (int(murmur2([b"opener-%d" % number])[0]) & 0x7FFFFFFF) % PARTITIONS != partition:
        number += 1
    return b"opener-%d" % number


async def _fill(broker: str, topic: str, users: int, window: tuple[int, int], source: int) -> int:
    producer = AIOKafkaProducer(bootstrap_servers=broker, acks="all", max_batch_size=1 << 19)
    await producer.start()
    written = 0
    for first in range(0, users, _CHUNK):
        count = min(_CHUNK, users - first)
        keys, rows = names(first, count), values(first, count, window, source)
        places = ((murmur2(keys) & np.uint32(0x7FFFFFFF)) % np.uint32(PARTITIONS)).tolist()
        sent, now_ms = [], int(time.time() * 1000)
        batches = [producer.create_batch() for _ in range(PARTITIONS)]
        for key, row, place in zip(keys, rows, places, strict=True):
            if batches[place].append(key=key, value=row, timestamp=now_ms) is None:
                sent.append(await producer.send_batch(batches[place], topic, partition=place))
                batches[place] = producer.create_batch()
                batches[place].append(key=key, value=row, timestamp=now_ms)
        sent += [await producer.send_batch(batch, topic, partition=n) for n, batch in enumerate(batches)]
        await asyncio.gather(*sent)
        written += sum(map(len, rows))
    await producer.stop()
    return written


def touch(given: Mapping[str, Any], users: Sequence[bytes]) -> None:
    """One event more for each of these users."""
    load.send(given["broker"], given["event_topics"], _events(users), PARTITIONS)


def _events(users: Sequence[bytes]) -> Iterator[load.Event]:
    now_ms = int(time.time() * 1000)
    for number, user in enumerate(users):
        item = number % ITEMS
        yield {
            "user_id": user.decode(),
            "type": "click",
            "item_id": str(item),
            "category_id": str(item % CATEGORIES),
            "timestamp": now_ms,
        }
