"""One load for all who are compared: events as JSON with their keys, sent as fast as the broker takes them."""

import asyncio
import gzip
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner

TAOBAO = Path(__file__).parents[3] / "shared" / "data" / "taobao" / "UserBehavior_timeslice_20171126.csv.gz"
TYPES = {"pv": "click", "cart": "cart", "fav": "favorite", "buy": "purchase"}

Event = dict[str, object]


def taobao(copies: int) -> Iterator[Event]:
    """The slice, then copies of it with other users."""
    for copy in range(copies):
        with gzip.open(TAOBAO, "rt") as lines:
            for line in lines:
                user, item, category, kind, seconds = line.rstrip().split(",")
                yield {
                    "user_id": f"{user}-{copy}" if copy else user,
                    "type": TYPES[kind],
                    "item_id": item,
                    "category_id": category,
                    "timestamp": int(seconds) * 1000,
                }


def send(broker: str, topic: str, events: Iterator[Event], partitions: int, limit: int | None = None) -> int:
    """Publish up to `limit` events; how many they were."""
    return asyncio.run(_send(broker, topic, islice(events, limit), partitions))


async def _send(broker: str, topic: str, events: Iterator[Event], partitions: int) -> int:
    producer = AIOKafkaProducer(bootstrap_servers=broker, acks="all", max_batch_size=1 << 18)
    await producer.start()
    partitioner, numbers = DefaultPartitioner(), list(range(partitions))
    batches = {number: producer.create_batch() for number in numbers}
    sent = []
    count = 0
    for event in events:
        key, value = str(event["user_id"]).encode(), orjson.dumps(event)
        number = partitioner(key, numbers, numbers)
        if batches[number].append(key=key, value=value, timestamp=None) is None:
            sent.append(await producer.send_batch(batches[number], topic, partition=number))
            batches[number] = producer.create_batch()
            batches[number].append(key=key, value=value, timestamp=None)
        count += 1
    sent += [await producer.send_batch(batch, topic, partition=number) for number, batch in batches.items()]
    await asyncio.gather(*sent)
    await producer.stop()
    return count
