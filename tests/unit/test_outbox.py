"""What is published is acknowledged before it counts, and another writer's updates are noticed by where ours lie."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stream import settings
from stream.batch import PartitionResult
from stream.outbox import Acknowledged, Outbox
from stream.producer import Codec, Entry, Sent

SETTINGS = settings.load({"update_topic": "updates", "deadletter_topic": "letters", "app_id": "app"})
CHANGELOG = "app-users-changelog"


class Broker:
    """Keeps logs; `acknowledged`, where it is told, is what a batch of a topic is answered with."""

    def __init__(self) -> None:
        self.logs: dict[tuple[str, int], list[Any]] = {}
        self.answers: dict[str, list[Any]] = {}
        self.gzipped: set[str] = set()

    def append(self, topic: str, partition: int, entries: Iterable[Any]) -> int:
        """Write records; the offset of the first."""
        log = self.logs.setdefault((topic, partition), [])
        first = len(log)
        log += entries
        return first

    def _ensure_producer(self) -> "Broker":
        return self

    async def partitions_for(self, _topic: str) -> set[int]:
        """Three, of any topic."""
        return {0, 1, 2}

    async def send_batches(
        self, topic: str, partition: int, entries: Iterable[Entry], _timestamp_ms: int, codec: Codec = "none"
    ) -> list[Sent]:
        """As the producer, all in one record batch."""
        entries = list(entries)
        if codec == "gzip":
            self.gzipped.add(topic)
        if not entries:
            return []
        offset: Any = self.append(topic, partition, entries)
        if self.answers.get(topic):
            offset = self.answers[topic].pop(0)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if isinstance(offset, Exception):
            future.set_exception(offset)
        else:
            future.set_result(SimpleNamespace(offset=offset))
        return [(future, len(entries))]


@pytest.fixture
def broker() -> Broker:
    """With empty logs."""
    return Broker()


@pytest.fixture
def outbox(broker: Broker) -> Outbox:
    """Of a worker that owns partitions 0 and 1 of the updates, both empty."""

    async def publish(partition: int, values: Iterable[Any], time_ms: int) -> list[Sent]:
        return await broker.send_batches(CHANGELOG, partition, ((k, v, []) for k, v in values), time_ms)

    outbox = Outbox(SETTINGS, cast(Any, SimpleNamespace(publish=publish)), lambda: cast(Any, broker))
    outbox.begin({0: 0, 1: 0})
    return outbox


def update(outbox: Outbox, partition: int, *keys: bytes) -> None:
    """Publish an update for each key."""
    asyncio.run(outbox.publish_updates(partition, [(key, b"{}") for key in keys]))


async def publish(outbox: Outbox, *parts: Mapping[int, PartitionResult]) -> dict[int, Acknowledged]:
    """Publish the parts of a batch, and wait for all."""
    return await outbox.acknowledged([await outbox.send(part, {}) for part in parts])


def foreign(outbox: Outbox) -> dict[int, list[tuple[int, int]]]:
    """What was noticed."""
    return {partition: ranges for partition, ranges in outbox.foreign.items() if ranges}


def test_ours_alone(outbox: Outbox) -> None:
    """Batch behind batch, nothing between: nobody else writes."""
    for keys in ((b"u1", b"u2"), (b"u1",), (b"u3",)):
        update(outbox, 0, *keys)
        update(outbox, 1, *keys)

    assert {} == foreign(outbox)


def test_records_between_ours(outbox: Outbox, broker: Broker) -> None:
    """Records of another between two of ours are noticed, by partition and offsets, each once."""
    update(outbox, 0, b"u1", b"u2")
    broker.append("updates", 0, [b"late", b"later"])
    update(outbox, 0, b"u3")
    update(outbox, 0, b"u4")
    broker.append("updates", 0, [b"latest"])
    update(outbox, 0, b"u5")

    assert {0: [(2, 4), (6, 7)]} == foreign(outbox)


def test_records_before_our_first(outbox: Outbox, broker: Broker) -> None:
    """From the end that the partition had when it became ours."""
    broker.append("updates", 0, [b"before"] * 5)
    outbox.begin({0: 5})
    broker.append("updates", 0, [b"late"])
    update(outbox, 0, b"u1")

    assert {0: [(5, 6)]} == foreign(outbox)


def test_records_behind_our_last(outbox: Outbox, broker: Broker) -> None:
    """Who does not write meets them by the end of the partition; once, and what is ours afterwards is ours."""
    update(outbox, 0, b"u1")
    outbox.meet(0, 1)
    assert {} == foreign(outbox)

    broker.append("updates", 0, [b"late", b"later"])
    outbox.meet(0, 3)
    outbox.meet(0, 3)
    update(outbox, 0, b"u2")

    assert {0: [(1, 3)]} == foreign(outbox)


def test_an_end_from_before(outbox: Outbox) -> None:
    """An answer that is older than our last record says nothing."""
    update(outbox, 0, b"u1", b"u2")
    outbox.meet(0, 1)
    update(outbox, 0, b"u3")

    assert {} == foreign(outbox)


def test_a_partition_not_known(outbox: Outbox) -> None:
    """Where nobody knows what was ours, the first record or end only begins it."""
    outbox.meet(5, 7)
    assert {} == foreign(outbox)

    outbox.meet(5, 8)
    assert {5: [(7, 8)]} == foreign(outbox)


def test_acknowledged_twice(outbox: Outbox, broker: Broker) -> None:
    """Sent again after its acknowledgement was lost, a batch has no offset: it is looked at as if another's (L01)."""
    update(outbox, 0, b"u1")
    broker.answers["updates"] = [-1]
    update(outbox, 0, b"u2", b"u3", b"u4")
    assert {} == foreign(outbox)

    update(outbox, 0, b"u5")
    assert {0: [(1, 4)]} == foreign(outbox)


def test_begin_forgets(outbox: Outbox, broker: Broker) -> None:
    """After a rebalance all begins anew: what was noticed is in the tail of the changelog too, which was read."""
    update(outbox, 0, b"u1")
    broker.append("updates", 0, [b"late"])
    update(outbox, 0, b"u2")
    outbox.begin({0: 3})

    assert {} == foreign(outbox)
    update(outbox, 0, b"u3")
    assert {} == foreign(outbox)


def results(*partitions: int, letters: Sequence[Entry] = ()) -> dict[int, PartitionResult]:
    """What a batch calls for: a value, an update and the letters, of each partition."""
    values: list[tuple[bytes, bytes]] = [(b"u", b"value")]
    updates: list[tuple[bytes, bytes | None]] = [(b"u", b"update")]
    return {partition: PartitionResult(1, values, updates, list(letters)) for partition in partitions}


def test_all_of_a_batch(outbox: Outbox, broker: Broker) -> None:
    """Values, updates and letters to their topics; the changelog's offsets are returned, by partition (P4)."""
    broker.append(CHANGELOG, 1, [b"before"])

    acknowledged = asyncio.run(publish(outbox, results(0, 1, letters=[(b"k", b"bad", [("h", b"1")])])))

    assert {0: [(0, 1)], 1: [(1, 1)]} == {
        partition: [(metadata.offset, count) for metadata, count in some] for partition, some in acknowledged.items()
    }
    for partition in (0, 1):
        assert [(b"u", b"update", [])] == broker.logs["updates", partition]
        assert [(b"k", b"bad", [("h", b"1")])] == broker.logs["letters", partition]
    assert {"letters"} == broker.gzipped


def test_parts_of_a_batch(outbox: Outbox, broker: Broker) -> None:
    """Several parts are acknowledged as one batch, in order, and are all ours."""
    broker.append(CHANGELOG, 0, [b"before"])

    acknowledged = asyncio.run(publish(outbox, results(0, 1), results(0), results(0)))

    assert {0: [(1, 1), (2, 1), (3, 1)], 1: [(0, 1)]} == {
        partition: [(metadata.offset, count) for metadata, count in some] for partition, some in acknowledged.items()
    }
    assert 3 == len(broker.logs["updates", 0])
    assert {} == foreign(outbox)


def test_letters_have_their_own_partitions(outbox: Outbox, broker: Broker) -> None:
    """The topic for dead letters may have fewer partitions than the events."""
    asyncio.run(publish(outbox, results(4, letters=[(None, b"bad", [])])))

    assert [(None, b"bad", [])] == broker.logs["letters", 1]


@pytest.mark.parametrize("topic", ["updates", "letters", CHANGELOG])
def test_not_acknowledged(topic: str, outbox: Outbox, broker: Broker) -> None:
    """Whatever is not acknowledged is an error, so that nothing is committed past it (P4, L01)."""
    broker.answers[topic] = [OSError("no leader")]

    with pytest.raises(OSError, match="no leader"):
        asyncio.run(publish(outbox, results(0, letters=[(None, b"bad", [])])))


def test_an_update_not_acknowledged(outbox: Outbox, broker: Broker) -> None:
    """So it is for tombstones and what is written again."""
    broker.answers["updates"] = [OSError("no leader")]
    with pytest.raises(OSError, match="no leader"):
        update(outbox, 0, b"u1")

    broker.answers[CHANGELOG] = [OSError("no leader")]
    with pytest.raises(OSError, match="no leader"):
        asyncio.run(outbox.publish_values(0, [(b"u1", None)]))
