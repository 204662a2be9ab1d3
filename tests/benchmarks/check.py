"""Whether a system did the work: the last updates of some users are what the slow reference makes of their events."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import orjson
from kafka import KafkaConsumer, TopicPartition

from models.bundle import Bundle
from stream.contract import EVENT_TYPES, hash32, hash64
from tests.benchmarks.load import Event
from tests.reference import Event as Stored
from tests.reference import Model, Reference

USERS = 100
TAIL = 1_000  # updates of each partition that are read, from the end
TOLERANCE = 1e-4


def last_updates(broker: str, topic: str, partitions: int) -> dict[bytes, dict[str, Any]]:
    """The last update of each user among the newest of every partition."""
    consumer = KafkaConsumer(bootstrap_servers=broker, enable_auto_commit=False, group_id=None, check_crcs=False)
    try:
        tps = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(tps)
        ends = consumer.end_offsets(tps)
        for tp, end in ends.items():
            consumer.seek(tp, max(0, end - TAIL))
        last: dict[bytes, bytes] = {}
        while any(consumer.position(tp) < end for tp, end in ends.items()):
            for records in consumer.poll(500).values():
                last.update((record.key, record.value) for record in records)
        return {key: orjson.loads(value) for key, value in last.items()}
    finally:
        consumer.close()


def wrong(updates: dict[bytes, dict[str, Any]], events: Iterable[Event], bundle: Bundle) -> str:
    """What is wrong with the first update that differs from the reference; "": none of those looked at does.

    Args:
        updates: the last of each user, by key; those of up to USERS users are looked at, spread evenly.
        events: all that was given, in the order of the log.
        bundle: the model.
    """
    if not updates:
        return "no update at all"
    chosen = sorted(updates)[:: max(1, len(updates) // USERS)]
    reference = Reference()
    for offset, event in enumerate(events):
        key = str(event["user_id"]).encode()
        if key in updates:
            reference.accept(0, offset, 0, key, _stored(event))
    windows = [reference.users[key].events for key in chosen]
    vectors = Model(bundle).vectors(windows)
    for key, window, vector in zip(chosen, windows, vectors, strict=True):
        update = updates[key]
        if update["events"] != len(window):
            return f"user {key.decode()}: a window of {len(window)} events expected, got {update['events']}"
        apart = float(np.abs(np.array(update["vector"]) - vector).max())
        if not apart <= TOLERANCE:
            return f"user {key.decode()}: vector expected within {TOLERANCE:g} of the reference, is {apart:g} apart"
    return ""


def _stored(event: dict[str, Any]) -> Stored:
    return Stored(
        timestamp=event["timestamp"],
        item=hash64(event["item_id"]),
        category=hash32(event["category_id"]),
        type=EVENT_TYPES[event["type"]],
    )
