"""The demo's topics: made for it, and on a broker that is not its own deleted at its end."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    GroupIdNotFoundError,
    UnknownTopicOrPartitionError,
    for_code,
)

from stream import topics
from stream.connect import admin, require
from stream.errors import InterestError
from stream.settings import Settings

#: Event and update then have their times from one clock; the worker's would tell when it sent the update, not when
#: consumers could have it.
UPDATE_CONFIG: Final = {"message.timestamp.type": "LogAppendTime"}

#: What Kafka says of a group that is gone.
GONE: Final = ("OK", GroupIdNotFoundError.__name__)
COORDINATOR_S: Final = 5.0
POLL_S: Final = 0.2


def fresh_names(settings: Settings) -> Settings:
    """The settings with app id and topics that nobody else uses."""
    name = f"interest-demo-{uuid.uuid4().hex[:8]}"
    return settings.model_copy(
        update={
            "app_id": name,
            "event_topics": (f"{name}-events",),
            "update_topic": f"{name}-updates",
            "deadletter_topic": f"{name}-dead-letters",
        }
    )


@contextmanager
def made(settings: Settings, partitions: int, *, keep: bool, warn: Callable[[str], None]) -> Iterator[None]:
    """The topics of the settings, within the block; unless `keep`, they and the group are deleted behind it.

    `warn` is told in one line what could not be deleted.

    Raises:
        TopicError, BrokerError: as `interest topics create`.
    """
    require(settings.cluster)  # without it there is nothing that could be left
    try:
        topics.create(settings, partitions)
        with admin(settings.cluster) as client:
            client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, settings.update_topic, UPDATE_CONFIG)])
        yield
    finally:
        if not keep:
            _delete(settings, warn)


def _delete(settings: Settings, warn: Callable[[str], None]) -> None:
    names = [*settings.event_topics, settings.update_topic, settings.deadletter_topic, settings.changelog_topic]
    group = settings.app_id
    try:
        with admin(settings.cluster) as client:
            answer = client.delete_topics(names, raise_errors=False)
            left = [
                f"{topic['name']} ({for_code(topic['error_code']).__name__})"
                for topic in answer["topics"]
                if topic["error_code"] not in (0, UnknownTopicOrPartitionError.errno)
            ]
            outcome = _delete_group(client, group, settings.session_timeout_s + COORDINATOR_S)
            if outcome not in GONE:
                left.append(f"group {group} ({outcome})")
    except InterestError as error:
        left = [*names, f"group {group}: {error}"]
    if left:
        warn(f"warning: left on {settings.broker}: {', '.join(left)}")


def _delete_group(client: KafkaAdminClient, group: str, patience_s: float) -> str:
    """Kafka's word on it. A worker that was killed is a member until its session is over."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            outcome = str(client.delete_groups([group])[group])
        except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError) as error:  # a broker's very first group
            outcome = type(error).__name__
        if outcome in GONE or time.monotonic() > deadline:
            return outcome
        time.sleep(POLL_S)
