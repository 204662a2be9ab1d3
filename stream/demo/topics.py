"""The demo's topics: made for it, and on a broker that is not its own deleted at its end."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import GroupIdNotFoundError, UnknownTopicOrPartitionError, for_code

from stream import topics
from stream.connect import admin
from stream.errors import InterestError
from stream.settings import Settings

#: Event and update then have their times from one clock; the worker's would tell when it sent the update, not when
#: consumers could have it.
UPDATE_CONFIG = {"message.timestamp.type": "LogAppendTime"}


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
    try:
        topics.create(settings, partitions)
        with admin(settings.broker) as client:
            client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, settings.update_topic, UPDATE_CONFIG)])
        yield
    finally:
        if not keep:
            _delete(settings, warn)


def _delete(settings: Settings, warn: Callable[[str], None]) -> None:
    names = [*settings.event_topics, settings.update_topic, settings.deadletter_topic, settings.changelog_topic]
    group = settings.app_id
    try:
        with admin(settings.broker) as client:
            groups = client.delete_groups([group])
            answer = client.delete_topics(names, raise_errors=False)
    except InterestError as error:
        left = [*names, f"group {group}: {error}"]
    else:
        left = [
            f"{topic['name']}: {for_code(topic['error_code']).__name__}"
            for topic in answer["topics"]
            if topic["error_code"] not in (0, UnknownTopicOrPartitionError.errno)
        ]
        if groups[group] not in ("OK", GroupIdNotFoundError.__name__):
            left.append(f"group {group}: {groups[group]}")
    if left:
        warn(f"warning: left on {settings.broker}: {', '.join(left)}")
