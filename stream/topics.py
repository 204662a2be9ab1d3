"""The topics of a worker: made as it needs them, looked at, and checked before it starts."""

import logging
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import for_code

from stream import groups
from stream.access import Need, denied, lacking, needs_of, worker_needs
from stream.connect import admin
from stream.errors import TopicError
from stream.security import Cluster
from stream.settings import DAY_MS, Settings

log = logging.getLogger(__name__)

PARTITIONS = 4
UNKNOWN_TOPIC = 3
TOPIC_EXISTS = 36
NOT_AUTHORIZED = 29
CREATE = "`interest topics create`"
#: What carries everything over to more partitions.
GROW = "`interest topics grow`"

#: The broker's time on every record decides what lies in the future, the same at every replay.
EVENT_CONFIG = {"message.timestamp.type": "LogAppendTime"}
#: The lag keeps a value that a stopped worker wrote late from hiding the newer one before recovery has seen both.
COMPACT_CONFIG = {
    "cleanup.policy": "compact",
    "delete.retention.ms": str(7 * DAY_MS),
    "min.compaction.lag.ms": str(3_600_000),
}
#: A dead letter is the refused record and three headers more.
DEADLETTER_EXTRA_BYTES = 65_536


@dataclass(frozen=True)
class TopicInfo:
    """A topic as it is: Kafka's id of it, its partitions, replicas of each, and every configuration entry."""

    name: str
    topic_id: uuid.UUID
    partitions: int
    replication: int
    configs: Mapping[str, str]


def describe(broker: Cluster, names: Iterable[str], *operations: str) -> dict[str, TopicInfo]:
    """What is known of the topics named, in their order; one that does not exist is absent.

    `operations` (Read, Write) are what is to be done with them, beside describing them.

    Raises:
        AccessError: the user may not; names every operation that is missing.
        BrokerError: no broker answers, or it refuses.
        TopicError: a name is not allowed, or a topic cannot be read.
    """
    names = list(names)
    with admin(broker) as client:
        return _describe(client, broker, needs_of(names, *operations, "DescribeConfigs"))


def allow(broker: Cluster, topic: str, operation: str) -> None:
    """Return if the user may do this with the topic, or it does not exist. Raises as `describe`."""
    with admin(broker) as client:
        _look(client, broker, needs_of([topic], operation))


def create(settings: Settings, partitions: int | None = None, replication: int | None = None) -> list[str]:
    """Make the topics of the settings that do not exist yet; those that do are left as they are.

    `partitions` is, unless told, that of the topics that exist, else 4. `replication` is, unless told, 3 where there
    are three brokers, else 1; at 3, two must have a record before it counts as written.

    Returns:
        A line for each topic: made or left alone, partitions and replication.

    Raises:
        TopicError: a topic exists with other partitions (nothing is made then), or Kafka refuses.
        BrokerError: no broker answers, or it refuses.
    """
    names = [*settings.topics, settings.deadletter_topic]
    cluster = settings.cluster
    needs = needs_of(names, "Create", "Describe", "DescribeConfigs")
    with admin(cluster) as client:
        there = _describe(client, cluster, needs)
        partitions = _agree(settings, there, partitions)
        brokers = len(client.describe_cluster()["brokers"])
        replication = replication or (3 if brokers >= 3 else 1)
        if replication > brokers:
            raise TopicError(f"replication {replication} needs as many brokers, {settings.broker} has {brokers}")
        durable = {"min.insync.replicas": "2" if replication >= 3 else "1"}
        wanted = dict.fromkeys(settings.event_topics, EVENT_CONFIG | durable)
        wanted |= dict.fromkeys(settings.compacted_topics, COMPACT_CONFIG | durable)
        missing = {name: config for name, config in wanted.items() if name not in there}
        make(client, cluster, missing, partitions, replication)
        if settings.deadletter_topic not in there:
            # Only now is the limit of the event topics known, whoever made them.
            made = _describe(client, cluster, needs_of(settings.event_topics, "DescribeConfigs"))
            largest = max(int(info.configs["max.message.bytes"]) for info in made.values())
            letters = durable | {"max.message.bytes": str(largest + DEADLETTER_EXTRA_BYTES)}
            make(client, cluster, {settings.deadletter_topic: letters}, partitions, replication)
        now = _describe(client, cluster, needs)
    return [
        f"{'exists' if name in there else 'created'} {name}: {_count(info.partitions, 'partition')}, "
        f"replication {info.replication}"
        for name, info in now.items()
    ]


def check(settings: Settings) -> dict[str, TopicInfo]:
    """Look at the topics before a start; what is unwise but works is logged as a warning.

    Returns:
        the topics, by name.

    Raises:
        TopicError: names every topic that is missing, or the partition counts that differ; and what to do.
        AccessError: the user may not do with topics and group what a worker does; names all that is missing.
        BrokerError: no broker answers, or it refuses.
    """
    names = [*settings.topics, settings.deadletter_topic]
    cluster, needs = settings.cluster, worker_needs(settings)
    with admin(cluster) as client:
        there = _describe(client, cluster, needs)
        brokers = len(client.describe_cluster()["brokers"])
    missing = [name for name in names if name not in there]
    if missing:
        raise TopicError(
            f"missing on {settings.broker}: topic{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
            f"make what is missing with {CREATE}"
        )
    _agree(settings, there, None)
    groups.check(cluster, settings.app_id)
    for warning in find_risks(settings, there, brokers):
        log.warning("%s", warning)
    return there


def find_risks(settings: Settings, topics: Mapping[str, TopicInfo], brokers: int) -> list[str]:
    """What works with these topics but is unwise, a line each."""
    risks = []
    for name in settings.event_topics:
        stamp = topics[name].configs["message.timestamp.type"]
        if stamp != "LogAppendTime":
            risks.append(
                f"topic {name}: message.timestamp.type is {stamp}, expected LogAppendTime; "
                "a producer's clock decides which events lie in the future"
            )
    for name in settings.compacted_topics:
        policy = topics[name].configs["cleanup.policy"]
        if policy != "compact":
            risks.append(
                f"topic {name}: cleanup.policy is {policy}, expected compact; what is old is lost with its segment"
            )
    limit = "max.message.bytes"
    largest = max(int(topics[name].configs[limit]) for name in settings.event_topics) + DEADLETTER_EXTRA_BYTES
    if int(topics[settings.deadletter_topic].configs[limit]) < largest:
        risks.append(
            f"topic {settings.deadletter_topic}: {limit} is {topics[settings.deadletter_topic].configs[limit]}, "
            f"expected at least {largest}; a large record that is refused could not be kept"
        )
    single = [name for name, info in topics.items() if info.replication == 1]
    if single:
        risks.append(
            f"replication 1 ({'all topics' if len(single) == len(topics) else ', '.join(single)}) "
            f"with {_count(brokers, 'broker')}; what was acknowledged is lost with its disk"
        )
    return risks


def _look(client: KafkaAdminClient, broker: Cluster, needs: Iterable[Need]) -> dict[str, dict[str, Any]]:
    """Kafka's metadata of the topics of `needs` that exist. Who lacks Describe cannot tell whether one does."""
    by_topic: dict[str, list[Need]] = {}
    for need in needs:
        if need.kind == "topic":
            by_topic.setdefault(need.name, []).append(need)
    found, missing = {}, []
    for topic in client.describe_topics(list(by_topic)):
        name, code = topic["name"], topic["error_code"]
        if code == NOT_AUTHORIZED:
            missing += by_topic[name]
        elif code == 0:
            found[name] = topic
            missing += lacking([need for need in by_topic[name] if need.operation != "Create"], topic)
        elif code != UNKNOWN_TOPIC:
            raise TopicError(f"topic {name}: Kafka refuses to describe it: {for_code(code).__name__}")
    if missing:
        raise denied(broker, missing)
    return {name: found[name] for name in by_topic if name in found}


def _describe(client: KafkaAdminClient, broker: Cluster, needs: Iterable[Need]) -> dict[str, TopicInfo]:
    found = _look(client, broker, needs)
    if not found:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in found]
    configs = client.describe_configs(resources, config_filter="all")["topic"]
    hidden = [name for name in found if not configs.get(name)]
    if hidden:
        raise denied(broker, needs_of(hidden, "DescribeConfigs"))
    return {
        name: TopicInfo(
            name=name,
            topic_id=uuid.UUID(str(found[name]["topic_id"])),
            partitions=len(found[name]["partitions"]),
            replication=min(len(partition["replica_nodes"]) for partition in found[name]["partitions"]),
            configs={key: str(entry["value"]) for key, entry in configs[name].items()},
        )
        for name in found
    }


def _agree(settings: Settings, topics: Mapping[str, TopicInfo], told: int | None) -> int:
    """The one partition count of events, updates and changelog: `told`, or that of `topics`, or the default."""
    counts = {name: info.partitions for name, info in topics.items() if name != settings.deadletter_topic}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise TopicError(
            f"partition counts differ: {listed}; events, updates and changelog need the same: if one that was in use "
            f"has grown, carry everything over with {GROW}; else delete the wrong one, or name another, then {CREATE}"
        )
    if told is not None and counts and told not in counts.values():
        name, count = next(iter(counts.items()))
        raise TopicError(
            f"topic {name} exists with {_count(count, 'partition')}, asked for {told}; "
            f"events, updates and changelog need the same: ask for {count}, or carry all to more with {GROW}"
        )
    return told or next(iter(counts.values()), PARTITIONS)


def make(
    client: KafkaAdminClient,
    broker: Cluster,
    wanted: Mapping[str, Mapping[str, str]],
    partitions: int,
    replication: int,
) -> None:
    """Make topics, each with its configuration, and wait until they are there; one that exists is left as it is.

    Raises:
        AccessError: the user may not make them.
        TopicError: Kafka refuses.
    """
    if not wanted:
        return
    topics = {
        name: {"num_partitions": partitions, "replication_factor": replication, "configs": dict(config)}
        for name, config in wanted.items()
    }
    answer = client.create_topics(topics, raise_errors=False)
    refused = [topic["name"] for topic in answer["topics"] if topic["error_code"] == NOT_AUTHORIZED]
    if refused:
        raise denied(broker, needs_of(refused, "Create"))
    for topic in answer["topics"]:
        if topic["error_code"] not in (0, TOPIC_EXISTS):  # another `topics create` may run beside this one
            raise TopicError(f"topic {topic['name']}: Kafka refuses to make it: {topic['error_message']}")
    client.wait_for_topics(list(wanted))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
