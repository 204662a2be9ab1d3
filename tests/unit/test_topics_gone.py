"""A topic that is deleted under a worker ends it; one that a client just asks for no longer does not."""

from types import SimpleNamespace

import pytest
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import TopicAuthorizationFailedError
from aiokafka.protocol.metadata import MetadataResponse_v1

from stream import growth
from stream.ending import EXIT_FAILURE, EXIT_MOVED

EXPECTED = {"events": 2, "updates": 2}


class EndedError(Exception):
    """The process would have ended."""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> ClusterMetadata:
    """What a client knows, watched; its subscription is the events."""

    def end(code: int, message: str, *arguments: object) -> None:
        raise EndedError(code, message % arguments)

    monkeypatch.setattr(growth, "end", end)
    cluster = ClusterMetadata()
    growth.watch(cluster, EXPECTED, refuse, {"events"})
    return cluster


def refuse(error: TopicAuthorizationFailedError) -> None:
    """As the worker does: ends, with the topics."""
    raise EndedError(error.args[0])


def learn(cluster: ClusterMetadata, **partitions: int) -> None:
    """The broker answers with these topics and their partitions; below 0: an error code."""
    topics = [
        (max(0, -count), name, False, [(0, number, 1, [1], [1]) for number in range(count)])
        for name, count in partitions.items()
    ]
    cluster.update_metadata(
        SimpleNamespace(
            API_VERSION=MetadataResponse_v1.API_VERSION, brokers=[(1, "h", 9, None)], controller_id=1, topics=topics
        )
    )


def test_deleted(cluster: ClusterMetadata) -> None:
    """A topic of the subscription that the broker knows no longer was deleted, and may come again as another (R10)."""
    learn(cluster, events=2)

    with pytest.raises(EndedError) as ended:
        learn(cluster, events=-3)
    assert (EXIT_FAILURE, "topic events was deleted; ends, to look at the topics afresh") == ended.value.args


def test_not_asked_for(cluster: ClusterMetadata) -> None:
    """Other topics come and go in what a client knows; nor is one gone that it has not seen yet."""
    learn(cluster)
    learn(cluster, events=2, updates=2)
    learn(cluster, events=2)
    learn(cluster, events=2, updates=-29)
    learn(cluster, events=2, updates=2)


@pytest.mark.parametrize("seen", [False, True])
def test_refused(cluster: ClusterMetadata, seen: bool) -> None:
    """A topic of the subscription that the user may not see (any more) is told: the group has nothing to read then."""
    if seen:
        learn(cluster, events=2, updates=2)

    with pytest.raises(EndedError) as ended:
        learn(cluster, events=-29, updates=2)
    assert (["events"],) == ended.value.args


def test_grown(cluster: ClusterMetadata) -> None:
    """Other partition counts are told of any topic (K10)."""
    with pytest.raises(EndedError) as ended:
        learn(cluster, events=2, updates=3)
    assert EXIT_MOVED == ended.value.args[0]
    assert "updates has 3 partitions, 2 expected" in ended.value.args[1]
