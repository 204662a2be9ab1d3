"""Topics on a real broker: made as the design says, left alone when there, checked before a start."""

import logging
import socket
import time
from collections.abc import Callable

import pytest

from stream.connect import admin
from stream.errors import BrokerError, TopicError
from stream.security import Cluster
from stream.settings import Settings, load
from stream.topics import check, create, describe
from tests.integration.conftest import Names

WEEK_MS = "604800000"


@pytest.fixture
def settings(names: Names) -> Settings:
    """Settings with this test's names and two event topics."""
    return load(
        {
            "broker": names.broker,
            "app_id": names.app_id,
            "event_topics": f"{names.event_topic},{names.event_topic}-2",
            "update_topic": names.update_topic,
            "deadletter_topic": names.deadletter_topic,
        }
    )


def test_create_makes_what_the_design_says(settings: Settings, names: Names) -> None:
    """All topics, equal partition counts, and each the configuration that its use needs."""
    lines = create(settings)

    assert lines[0] == f"created {names.event_topic}: 4 partitions, replication 1"
    every = [*settings.event_topics, names.update_topic, names.changelog_topic, names.deadletter_topic]
    topics = describe(names.cluster, every)
    assert list(topics) == every
    assert {info.partitions for info in topics.values()} == {4}
    assert {info.replication for info in topics.values()} == {1}
    assert {info.configs["min.insync.replicas"] for info in topics.values()} == {"1"}
    for name in settings.event_topics:
        assert topics[name].configs["message.timestamp.type"] == "LogAppendTime"
        assert topics[name].configs["cleanup.policy"] == "delete"
        assert topics[name].configs["max.message.bytes"] == "1048588"
    for name in (names.update_topic, names.changelog_topic):
        assert topics[name].configs["cleanup.policy"] == "compact"
        assert topics[name].configs["delete.retention.ms"] == WEEK_MS
        assert topics[name].configs["min.compaction.lag.ms"] == "3600000"
    assert topics[names.deadletter_topic].configs["max.message.bytes"] == str(1048588 + 65536)
    assert topics[names.deadletter_topic].configs["cleanup.policy"] == "delete"


def test_create_again_changes_nothing(settings: Settings, names: Names) -> None:
    """What exists is reported and left alone; what was deleted is made again, with a new id."""
    create(settings, partitions=3)
    before = describe(names.cluster, settings.event_topics)
    assert all(line.startswith("exists ") for line in create(settings))
    assert describe(names.cluster, settings.event_topics) == before

    with admin(names.cluster) as client:
        client.delete_topics([names.event_topic])
    assert create(settings)[:2] == [
        f"created {names.event_topic}: 3 partitions, replication 1",
        f"exists {names.event_topic}-2: 3 partitions, replication 1",
    ]
    assert (
        describe(names.cluster, [names.event_topic])[names.event_topic].topic_id != before[names.event_topic].topic_id
    )


def test_dead_letters_take_the_largest_record(settings: Settings, names: Names) -> None:
    """An event topic with a limit of its own raises that of the dead letters."""
    make(names.broker, names.event_topic, 4, {"max.message.bytes": "3000000"})
    create(settings)
    letters = describe(names.cluster, [names.deadletter_topic])[names.deadletter_topic]
    assert letters.configs["max.message.bytes"] == "3065536"


def test_create_refuses_other_partition_counts(settings: Settings, names: Names) -> None:
    """A topic with other partitions than asked for is named with both numbers, and nothing is made."""
    make(names.broker, names.update_topic, 5)
    with pytest.raises(TopicError) as caught:
        create(settings, partitions=8)
    assert str(caught.value) == (
        f"topic {names.update_topic} exists with 5 partitions, asked for 8; events, updates and changelog need the "
        "same: ask for 5, or carry all to more with `interest topics grow`"
    )
    assert describe(names.cluster, settings.event_topics) == {}


def test_create_names_what_kafka_refuses(settings: Settings, names: Names) -> None:
    """More replicas than brokers, and a name that Kafka does not take."""
    with pytest.raises(TopicError, match=r"^replication 2 needs as many brokers, .* has 1$"):
        create(settings, replication=2)
    bad = settings.model_copy(update={"update_topic": "no spaces"})
    with pytest.raises(TopicError, match=r"^topic no spaces: Kafka refuses to describe it: InvalidTopicError$"):
        create(bad)


def test_check_gives_the_topics(settings: Settings, names: Names) -> None:
    """Every topic as it is, with Kafka's id, which the positions in the table are tied to."""
    create(settings)
    topics = check(settings)
    every = [*settings.event_topics, names.update_topic, names.changelog_topic, names.deadletter_topic]
    assert list(topics) == every
    assert all(topic.topic_id.int for topic in topics.values())
    assert topics == describe(names.cluster, every)


def test_check_names_every_missing_topic(settings: Settings, names: Names) -> None:
    """All that are missing at once, and the command that makes them."""
    make(names.broker, names.update_topic, 4)
    with pytest.raises(TopicError) as caught:
        check(settings)
    assert str(caught.value) == (
        f"missing on {names.broker}: topics {names.event_topic}, {names.event_topic}-2, {names.changelog_topic}, "
        f"{names.deadletter_topic}; make what is missing with `interest topics create`"
    )


def test_check_names_both_partition_counts(settings: Settings, names: Names) -> None:
    """Events with 5 partitions and a changelog with 8 end the start, with both numbers and what to do (K09)."""
    make(names.broker, names.changelog_topic, 8)
    for name in (*settings.event_topics, names.update_topic):
        make(names.broker, name, 5)
    make(names.broker, names.deadletter_topic, 1)
    with pytest.raises(TopicError) as caught:
        check(settings)
    assert f"{names.event_topic} has 5" in str(caught.value)
    assert f"{names.changelog_topic} has 8" in str(caught.value)
    assert "`interest topics create`" in str(caught.value)
    assert names.deadletter_topic not in str(caught.value)


def test_check_warns(settings: Settings, names: Names, caplog: pytest.LogCaptureFixture) -> None:
    """Topics made by hand work, and each thing that is unwise is logged."""
    for name in (*settings.event_topics, names.update_topic, names.changelog_topic, names.deadletter_topic):
        make(names.broker, name, 4)
    with caplog.at_level(logging.WARNING, "stream.topics"):
        check(settings)
    text = caplog.text
    assert f"topic {names.event_topic}: message.timestamp.type is CreateTime, expected LogAppendTime" in text
    assert f"topic {names.changelog_topic}: cleanup.policy is delete, expected compact" in text
    assert f"topic {names.deadletter_topic}: max.message.bytes is 1048588, expected at least 1114124" in text
    assert "replication 1 (all topics) with 1 broker;" in text


def test_check_warns_of_nothing_but_replication(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """Topics made by the command are as they should be; on one broker only the replication stays to be named."""
    create(settings)
    with caplog.at_level(logging.WARNING, "stream.topics"):
        check(settings)
    assert len(caplog.records) == 1
    assert caplog.records[0].getMessage().startswith("replication 1 (all topics)")


@pytest.mark.parametrize("call", [check, create])
def test_dead_broker(call: Callable[[Settings], object]) -> None:
    """No broker there, and something there that is silent, are one line, within 10 s."""
    began = time.monotonic()
    with pytest.raises(BrokerError, match=r"^no broker answers at 127\.0\.0\.1:1; start one with `interest broker`"):
        call(load({"broker": "127.0.0.1:1"}))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(BrokerError, match=rf"^no broker answers at 127\.0\.0\.1:{port};"):
            call(load({"broker": f"127.0.0.1:{port}"}))
    assert time.monotonic() - began < 10


def make(broker: str, name: str, partitions: int, configs: dict[str, str] | None = None) -> None:
    """A topic as somebody makes it by hand."""
    with admin(Cluster(broker)) as client:
        client.create_topics(
            {name: {"num_partitions": partitions, "replication_factor": 1, "configs": configs or {}}},
            wait_for_metadata=True,
        )
