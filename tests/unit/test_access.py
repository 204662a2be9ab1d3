"""What a user must be allowed, and the line that says what is missing."""

import aiokafka.errors
import kafka.errors

from stream.access import Need, denied, explain, lacking, worker_needs
from stream.errors import AccessError
from stream.security import Cluster, Security
from stream.settings import load
from tests.acls import by_commands, by_table


def test_missing_rights() -> None:
    """All that is missing is in one line, with a command for each resource, for the user that the client is."""
    cluster = Cluster("k:9092", Security(username="shop"))
    needs = [Need("Read", "topic", "a"), Need("Write", "topic", "a"), Need("Read", "group", "g")]
    base = "kafka-acls.sh --bootstrap-server k:9092 --add --allow-principal User:shop"
    assert str(denied(cluster, needs)) == (
        f"user 'shop' may not Read topic a, Write topic a, Read group g: grant it by {base} --operation Read "
        f"--operation Write --topic a && {base} --operation Read --group g"
    )
    idempotent = str(denied(cluster, [Need("IdempotentWrite", "cluster", "")]))
    assert idempotent.endswith("--operation IdempotentWrite --cluster")
    assert needs[1:2] == lacking(needs[:2], {"authorized_operations": ["READ", "DESCRIBE_CONFIGS"]})
    assert [] == lacking(needs, {"authorized_operations": None})


def test_errors_of_clients() -> None:
    """An error of either client about rights is told as such, for the topic that it names; others as they are."""
    cluster = Cluster("k:9092", Security(username="shop"))
    needs = (Need("Read", "topic", "a"), Need("Read", "topic", "b"), Need("Read", "group", "g"))
    for error in (
        aiokafka.errors.TopicAuthorizationFailedError("b"),
        aiokafka.errors.TopicAuthorizationFailedError({"b"}),
        kafka.errors.TopicAuthorizationFailedError({"b"}),
    ):
        assert str(explain(error, cluster, *needs)).startswith("user 'shop' may not Read topic b: grant it by ")
    group = explain(aiokafka.errors.GroupAuthorizationFailedError("g"), cluster, *needs)
    assert str(group).startswith("user 'shop' may not Read group g: ")
    assert isinstance(explain(kafka.errors.ClusterAuthorizationFailedError(), cluster, *needs), AccessError)
    other = explain(kafka.errors.KafkaTimeoutError("late"), cluster, *needs)
    assert not isinstance(other, AccessError)
    assert "broker k:9092: KafkaTimeoutError: late" == str(other)
    assert not isinstance(explain(OSError(29, "no right of Kafka's"), cluster, *needs), AccessError)


def test_document_is_what_is_checked() -> None:
    """The table, the commands below it, and what a worker checks at its start are the same."""
    assert by_table() == by_commands()
    assert set(worker_needs(load())) == set(by_table()["worker"])
