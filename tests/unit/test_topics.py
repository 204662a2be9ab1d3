"""Topics where there are three brokers, which no test machine has: the client is a double that notes what it made."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import stream.topics
from stream.settings import load
from stream.topics import create


class ThreeBrokers:
    """Answers as a cluster of three without topics would."""

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}

    def describe_cluster(self) -> dict[str, Any]:
        return {"brokers": [{"broker_id": number} for number in (1, 2, 3)]}

    def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "error_code": 0 if name in self.made else 3,
                "topic_id": "00000000-0000-0000-0000-000000000001",
                "partitions": [{"replica_nodes": [1, 2, 3]}] * 4,
            }
            for name in names
        ]

    def describe_configs(self, resources: list[Any], config_filter: str) -> dict[str, Any]:
        assert config_filter == "all"
        return {"topic": {resource.name: {"max.message.bytes": {"value": "1048588"}} for resource in resources}}

    def create_topics(self, topics: dict[str, dict[str, Any]], raise_errors: bool) -> dict[str, Any]:
        assert not raise_errors
        self.made |= topics
        return {"topics": [{"name": name, "error_code": 0} for name in topics]}

    def wait_for_topics(self, names: list[str]) -> None:
        assert set(names) <= set(self.made)


def test_three_brokers(monkeypatch: pytest.MonkeyPatch) -> None:
    """With three brokers every topic gets replication 3, and two must have a record before it counts as written."""
    cluster = ThreeBrokers()

    @contextmanager
    def admin(_broker: str) -> Iterator[ThreeBrokers]:
        yield cluster

    monkeypatch.setattr(stream.topics, "admin", admin)
    create(load())

    assert list(cluster.made) == ["user-events", "interest-updates", "interest-users-changelog", "dead-letters"]
    assert {topic["replication_factor"] for topic in cluster.made.values()} == {3}
    assert {topic["configs"]["min.insync.replicas"] for topic in cluster.made.values()} == {"2"}
