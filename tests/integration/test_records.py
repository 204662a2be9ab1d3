"""What Kafka may bring besides plain records: codecs, transactions, giants, topics and partitions that come again."""

import asyncio
import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from stream.connect import admin
from stream.topics import EVENT_CONFIG
from tests.bundles import random_bundle
from tests.integration.conftest import Names
from tests.integration.taobao import TOLERANCE, newest_updates
from tests.integration.workers import Topics, Worker, create_topics, last_values, read, reasons, wait_for
from tests.reference import Model, read_value

TIME_MS = 1_700_000_000_000
LARGE = 50_000_000

Sent = tuple[str, bytes]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A small random model."""
    return Model(
        random_bundle(
            tmp_path_factory.mktemp("model") / "bundle",
            item_ids=[f"i{n}" for n in range(20)],
            item_categories=[f"c{n % 3}" for n in range(20)],
        )
    )


def event(user: str, number: int, **fields: object) -> Sent:
    """User and record of a click, `number` seconds after the start."""
    made = {"user_id": user, "type": "click", "item_id": f"i{number % 23}", "timestamp": TIME_MS + 1000 * number}
    return user, json.dumps(made | fields).encode()


def erase(user: str) -> Sent:
    """User and record that asks to forget the user."""
    return user, json.dumps({"type": "erase", "user_id": user}).encode()


def send(names: Names, records: Iterable[Sent], *, abort: bool = False, **producer: Any) -> None:
    """Send records in order and wait until they are there; in one transaction where `transactional_id` is given."""

    async def run() -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=names.broker, max_request_size=LARGE, max_batch_size=LARGE, **producer
        ) as client:
            if "transactional_id" in producer:
                await client.begin_transaction()
            for user, value in records:
                await client.send_and_wait(names.event_topic, value, key=user.encode())
            if abort:
                await client.abort_transaction()
            elif "transactional_id" in producer:
                await client.commit_transaction()

    asyncio.run(run())


def assert_vectors(names: Names, model: Model, versions: dict[str, int]) -> None:
    """All users' versions, and that each last vector is the model's of the window in the changelog (P1)."""
    stored = {
        key: read_value(record.value) for key, record in last_values(read(names.broker, names.changelog_topic)).items()
    }
    updates = newest_updates(read(names.broker, names.update_topic))
    assert {user.encode(): version for user, version in versions.items()} == {
        key: state.version for key, state in stored.items()
    }
    keys = [key for key, state in sorted(stored.items()) if state.events]
    assert keys == sorted(updates)
    found = np.array([updates[key]["vector"] for key in keys], np.float32)
    assert np.abs(found - model.vectors([stored[key].events for key in keys])).max() <= TOLERANCE


def test_compressed_records(names: Names, model: Model, tmp_path: Path) -> None:
    """Producers may compress with any codec, all on one topic (D15)."""
    create_topics(names, partitions=1)
    codecs = ("gzip", "snappy", "lz4", "zstd")
    for codec in codecs:
        send(names, [event(codec, number) for number in range(3)], compression_type=codec)

    with Worker(names, model.bundle.folder, tmp_path / "state") as worker, Topics(names) as topics:
        topics.wait_done(worker)
        assert worker.stop() == 0

    assert_vectors(names, model, dict.fromkeys(codecs, 3))


def test_giant_records(names: Names, model: Model, tmp_path: Path) -> None:
    """Records over the limit become dead letters, whole, and block nothing (P5, D08)."""
    create_topics(names, partitions=1)
    send(names, [event("u1", 0), ("u1", b"x" * 300_000), ("u1", b"y" * 1_048_000), event("u1", 1)])

    with Worker(names, model.bundle.folder, tmp_path / "state") as worker, Topics(names) as topics:
        wait_for(partial(topics.has_done, 4), 60, [worker])
        assert worker.stop() == 0

    assert_vectors(names, model, {"u1": 2})
    letters = read(names.broker, names.deadletter_topic)
    assert {"too_large": 2} == reasons(letters)
    assert [b"x" * 300_000, b"y" * 1_048_000] == [letter.value for letter in letters]


def test_compressed_giant(names: Names, model: Model, tmp_path: Path) -> None:
    """A record that only compression brought through the topic's limit is refused and blocks nothing (P5, L01)."""
    create_topics(names, partitions=1)
    send(names, [event("u1", 0, text="z" * 5_000_000), event("u1", 1)], compression_type="gzip")

    with Worker(names, model.bundle.folder, tmp_path / "state") as worker, Topics(names) as topics:
        wait_for(partial(topics.has_done, 2), 60, [worker])
        assert worker.stop() == 0

    assert_vectors(names, model, {"u1": 1})
    assert {"too_large": 1} == reasons(read(names.broker, names.deadletter_topic))


def test_offsets_between_refused_records(names: Names, model: Model, tmp_path: Path) -> None:
    """Offsets 0 good, 1 `hello`, 2 good: the commit becomes 3, one dead letter that is the record itself (P5, D13)."""
    create_topics(names, partitions=1)
    send(names, [event("u1", 0), ("u1", b"hello"), event("u1", 1)])

    with Worker(names, model.bundle.folder, tmp_path / "state") as worker, Topics(names) as topics:
        topics.wait_done(worker)
        assert worker.stop() == 0
        assert {0: 3} == topics.committed()

    assert_vectors(names, model, {"u1": 2})
    (letter,) = read(names.broker, names.deadletter_topic)
    assert (b"u1", b"hello") == (letter.key, letter.value)
    assert f"{names.event_topic}/0/1".encode() == dict(letter.headers)["interest-source"]


def test_transactions(names: Names, model: Model, tmp_path: Path) -> None:
    """Aborted records are never seen, and the commit goes past the markers that transactions leave (R06)."""
    create_topics(names, partitions=1)
    send(names, [event("u1", 0), event("u1", 1)], transactional_id=f"{names.app_id}-1")
    send(names, [event("u1", 2), event("u2", 3)], transactional_id=f"{names.app_id}-1", abort=True)
    send(names, [event("u1", 4)], transactional_id=f"{names.app_id}-1")

    with Worker(names, model.bundle.folder, tmp_path / "state") as worker, Topics(names) as topics:
        topics.wait_done(worker)
        assert {0: 8} == topics.committed()
        send(names, [event("u1", 5)])
        wait_for(partial(topics.has_done, 9), 60, [worker])
        assert worker.stop() == 0

    assert_vectors(names, model, {"u1": 4})


def test_partitions_go_and_return(names: Names, model: Model, tmp_path: Path) -> None:
    """Partitions go to another worker and return: nothing kept in memory from before is gone on from (P1, R12).

    Meanwhile every user is erased and comes back to the same version with other events.
    """
    users = [f"u{number}" for number in range(40)]
    create_topics(names)

    with Worker(names, model.bundle.folder, tmp_path / "one") as one, Topics(names) as topics:
        send(names, [event(user, number) for user in users for number in range(3)])
        topics.wait_done(one)
        with Worker(names, model.bundle.folder, tmp_path / "two") as two:
            wait_for(lambda: len(one.partitions()) == len(two.partitions()) == 2, 60, [one, two])
            send(names, [erase(user) for user in users])
            topics.wait_done(one, two)
            now = last_values(read(names.broker, names.changelog_topic))
            start = max(read_value(record.value).floor for record in now.values())
            send(
                names,
                [event(user, number + 9, timestamp=start + 1 + number) for user in users for number in range(3)],
            )
            topics.wait_done(one, two)
            assert two.stop() == 0
        wait_for(lambda: len(one.partitions()) == 4, 60, [one])
        send(names, [event(user, 15, timestamp=start + 100) for user in users])
        topics.wait_done(one)
        assert one.stop() == 0

    assert_vectors(names, model, dict.fromkeys(users, 4))


def test_erased_user(names: Names, model: Model, tmp_path: Path) -> None:
    """An erase record, as one to every partition: a marker and a tombstone each; a replay of all brings nobody back."""
    create_topics(names, partitions=2)
    send(names, [event("u1", 0), event("u1", 1), erase("u1"), event("u2", 0)])

    with Worker(names, model.bundle.folder, tmp_path / "state") as worker, Topics(names) as topics:
        topics.wait_done(worker)
        send(names, [event("u1", 5)])
        topics.wait_done(worker)
        assert worker.stop() == 0

    assert_vectors(names, model, {"u1": 0, "u2": 1})
    assert last_values(read(names.broker, names.update_topic))[b"u1"].value is None


def test_topic_made_anew(names: Names, model: Model, tmp_path: Path) -> None:
    """An event topic that is deleted and made anew is another source: its events count, with a warning."""
    create_topics(names, partitions=1)
    for start in (0, 3):
        send(names, [event("u1", start + number) for number in range(3)])
        with Worker(names, model.bundle.folder, tmp_path / "state") as worker, Topics(names) as topics:
            wait_for(partial(topics.has_done, 3), 60, [worker])
            assert ("was made anew" in worker.said) == (start == 3)
            assert worker.stop() == 0
        if start == 0:
            with admin(names.cluster) as client:
                client.delete_topics([names.event_topic])
                wait_for(lambda: is_gone(client, names.event_topic), 30)
                client.create_topics(
                    {names.event_topic: {"num_partitions": 1, "replication_factor": 1, "configs": EVENT_CONFIG}}
                )
                client.wait_for_topics([names.event_topic])

    assert_vectors(names, model, {"u1": 6})


def is_gone(client: Any, topic: str) -> bool:
    """Whether the broker does not know the topic any more."""
    return bool(client.describe_topics([topic])[0]["error_code"])


def test_changelog_cannot_be_read(names: Names, model: Model, tmp_path: Path) -> None:
    """A changelog record of an unknown format ends the start, and is named by topic, partition and offset (R26)."""
    create_topics(names, partitions=1)
    send(names, [event("u1", 0)])
    with Worker(names, model.bundle.folder, tmp_path / "one") as worker, Topics(names) as topics:
        topics.wait_done(worker)
        assert worker.stop() == 0
    bad = Names(names.broker, names.app_id, names.changelog_topic, names.update_topic, names.deadletter_topic)
    send(bad, [("u2", b"\x7fbroken")])

    with Worker(names, model.bundle.folder, tmp_path / "two") as worker:
        assert worker.process.wait(60) != 0
        assert f"{names.changelog_topic}/0 at offset 1" in worker.said
        assert "Traceback" not in worker.said
