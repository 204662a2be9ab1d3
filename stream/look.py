"""What is stored of one user: the window in the changelog, the vector that it means, and the update last published."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.bundle import Bundle, Windows, run, session, zero_states
from stream.consume import read_all, reader
from stream.errors import InterestError, TableValueError
from stream.publisher import partition_of
from stream.settings import Settings
from stream.value import UserState, unpack


@dataclass(frozen=True)
class Seen:
    """One user, as the topics have it."""

    partition: int
    state: UserState
    update: dict[str, Any] | None  # the last one published; None: none, or a tombstone


def look(settings: Settings, user_id: str) -> Seen:
    """Read the changelog, then the updates, of the partition that Java's partitioner gives; else of all others.

    Raises:
        InterestError: nothing is stored of the user, or it cannot be read.
        TopicError: a topic is missing.
        BrokerError: no broker answers.
    """
    key = user_id.encode()
    with reader(settings.cluster, settings.changelog_topic) as consumer:
        partitions = {tp.partition for tp in consumer.assignment()}
    likely = {partition_of(key, len(partitions))}
    record = _last(settings, settings.changelog_topic, key, likely)
    if record is None:
        record = _last(settings, settings.changelog_topic, key, partitions - likely)
    if record is None or record.value is None:
        why = "never seen" if record is None else "forgotten"
        raise InterestError(f"nothing is stored of user {user_id!r} in {settings.changelog_topic}: {why}")
    try:
        state = unpack(record.value)
    except TableValueError as error:
        raise TableValueError(f"{record.topic}/{record.partition} at offset {record.offset}: {error}") from error
    update = _last(settings, settings.update_topic, key, {record.partition})
    return Seen(record.partition, state, orjson.loads(update.value) if update and update.value else None)


def _last(settings: Settings, topic: str, key: bytes, partitions: Collection[int]) -> Any:
    last = None
    for record in read_all(settings.cluster, topic, partitions):
        if record.key == key:
            last = record
    return last


def encode(state: UserState, bundle: Bundle, provider: str) -> NDArray[np.float32]:
    """The vector of the user's window, float32 [dim]: the model run from zero state over all of it."""
    windows = Windows.pack([(state.events, state.tokens)])
    inputs = windows.inputs(bundle.features)
    vectors, _ = run(session(bundle, provider=provider), bundle.signature, inputs, zero_states(bundle.signature, 1))
    vector: NDArray[np.float32] = vectors[0]
    return vector
