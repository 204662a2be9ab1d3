"""Logs that are not as they were left: emptied, trimmed, with bytes that nobody can read, made anew; at a start and
under a worker's hands."""

import asyncio
import json
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from stream.connect import admin
from stream.publisher import partition_of
from stream.topics import EVENT_CONFIG, describe
from tests.bundles import random_bundle
from tests.faults.outcome import TOLERANCE, newest_updates, read
from tests.faults.proxy import free_port
from tests.integration.conftest import Names
from tests.integration.probes import metrics
from tests.integration.sender import Keyed, send
from tests.integration.workers import Topics, Worker, create_topics, wait_for
from tests.reference import Model, read_value

INJECT = Path(__file__).parents[1] / "inject"
TIME_MS = 1_760_000_000_000
ITEMS = 20
EXIT_RECOVERY = 70
PARTITIONS = 4
#: A user for each partition.
USERS = [next(f"u{n}" for n in range(100) if partition_of(b"u%d" % n, PARTITIONS) == p) for p in range(PARTITIONS)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A small random model."""
    items = [f"i{n}" for n in range(ITEMS)]
    return Model(random_bundle(tmp_path_factory.mktemp("m") / "bundle", item_ids=items, item_categories=["c"] * ITEMS))


def events(user: str, numbers: Iterable[int], **fields: object) -> list[Keyed]:
    """Reviews of one user, `number` seconds after the start."""
    made = {"user_id": user, "type": "review", "text": "good and fast"}
    return [
        (
            user.encode(),
            json.dumps(
                made | {"item_id": f"i{number % ITEMS}", "timestamp": TIME_MS + 1000 * number} | fields
            ).encode(),
        )
        for number in numbers
    ]


def empty(names: Names, topic: str, partition: int, before: int) -> None:
    """Let the log of a partition begin at offset `before`, as retention does."""
    with admin(names.cluster) as client:
        policy = describe(names.cluster, [topic])[topic].configs["cleanup.policy"]
        for now in ("delete", policy):  # a compacted log cannot be trimmed
            client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"cleanup.policy": now})])
            wait_for(partial(has_policy, names, topic, now), 30)
            if now == "delete":
                client.delete_records({TopicPartition(topic, partition): before})


def has_policy(names: Names, topic: str, policy: str) -> bool:
    """Whether a topic is cleaned up so."""
    return describe(names.cluster, [topic])[topic].configs["cleanup.policy"] == policy


def abort(names: Names, topic: str, partition: int) -> None:
    """Write a record and take it back: the log ends on a marker that no reader sees."""

    async def run() -> None:
        async with AIOKafkaProducer(bootstrap_servers=names.broker, transactional_id=names.app_id) as client:
            await client.begin_transaction()
            await client.send_and_wait(topic, b"aborted", key=b"nobody", partition=partition)
            await client.abort_transaction()

    asyncio.run(run())


def held(names: Names, model: Model) -> dict[str, tuple[int, int]]:
    """Version and number of events of each user in the changelog; the newest updates say the same, exactly (P1)."""
    last = {record.key: record.value for record in read(names.broker, names.changelog_topic)}
    stored = {key: read_value(value) for key, value in last.items() if value is not None}
    updates = newest_updates(read(names.broker, names.update_topic))
    assert stored.keys() == updates.keys()
    found = np.array([updates[key]["vector"] for key in stored], np.float32)
    assert np.abs(found - model.vectors([state.events for state in stored.values()])).max() <= TOLERANCE
    assert {key: state.version for key, state in stored.items()} == {
        key: update["version"] for key, update in updates.items()
    }
    return {key.decode(): (state.version, len(state.events)) for key, state in stored.items()}


def test_changelog(names: Names, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changelog with a partition that was emptied, one with one record, one that ends with a tombstone, one that ends
    with a marker of a transaction: recovered at once. As long as nobody knows where it ends, or with a record that is
    cut short, no worker starts: it never serves an empty state (R01, R04, R09, R24, R26)."""
    a, b, c, d = USERS
    create_topics(names, PARTITIONS)
    start = partial(Worker, names, model.bundle.folder)
    with Topics(names) as topics:
        send(names.broker, names.event_topic, [event for user in (a, b, c, d) for event in events(user, range(2))])
        with start(tmp_path / "one") as worker:
            topics.wait_done(worker)
            assert 0 == worker.stop()
        before = topics.updates()
        empty(names, names.changelog_topic, 0, topics.ends(names.changelog_topic)[0])
        send(names.broker, names.changelog_topic, [(c.encode(), None)], partition=2)
        abort(names, names.changelog_topic, 3)
        send(names.broker, names.event_topic, [event for user in (a, b, c, d) for event in events(user, [2])])

        with monkeypatch.context() as injected:
            injected.setenv("PYTHONPATH", str(INJECT), prepend=os.pathsep)
            injected.setenv("FAULT", "end_offsets")
            with start(tmp_path / "two") as worker:
                assert EXIT_RECOVERY == worker.process.wait(60)
                last = worker.said.splitlines()[-1]
                assert f"does not say where {names.changelog_topic}/0, {names.changelog_topic}/1, " in last
                assert "end offsets: no answer" in last
                assert "Traceback" not in worker.said
                assert "ready: partitions" not in worker.said
        assert (before, 4) == (topics.updates(), topics.lag())

        with start(tmp_path / "two") as worker:
            topics.wait_done(worker)
            assert 0 == worker.stop()
        # What consumers hold of the user in the emptied partition is of the same window by its newest event only.
        assert {a: (1, 1), b: (3, 3), c: (1, 1), d: (3, 3)} == held(names, model)

        value = next(r.value for r in reversed(read(names.broker, names.changelog_topic)) if r.key == b.encode())
        send(names.broker, names.changelog_topic, [(b.encode(), value[:-1])], partition=1)
        bad = topics.ends(names.changelog_topic)[1] - 1
        with start(tmp_path / "three") as worker:
            assert EXIT_RECOVERY == worker.process.wait(60)
            last = worker.said.splitlines()[-1]
            assert f"{names.changelog_topic}/1 at offset {bad}: cut short" in last
            assert "Traceback" not in worker.said
            assert "ready: partitions" not in worker.said


def test_event_log(names: Names, model: Model, tmp_path: Path) -> None:
    """A committed offset that the log has no longer: goes on from where the log begins; what is lost is logged and
    counted. A topic that is deleted and made anew under a worker, and fills beyond where it was, ends it; the next
    counts all events of the new one (P3; R07, R10, R16)."""
    create_topics(names, 1)
    port = free_port()
    start = partial(
        Worker,
        names,
        model.bundle.folder,
        tmp_path / "state",
        health_address=f"127.0.0.1:{port}",
        session_timeout_s=3,
        heartbeat_s=1,
    )
    with Topics(names) as topics:
        send(names.broker, names.event_topic, events("u", range(3)))
        with start() as worker:
            topics.wait_done(worker)
            assert 0 == worker.stop()
        send(names.broker, names.event_topic, events("u", range(3, 8)))
        with admin(names.cluster) as client:
            client.delete_records({TopicPartition(names.event_topic, 0): 6})

        with start() as worker:
            topics.wait_done(worker)
            wait_for(lambda: metrics(port)["interest_offsets_gone_total"] == 3, 60, [worker])
            assert f"{names.event_topic}/0: offsets 3 to 5 are gone from the log" in worker.said
            assert {"u": (5, 5)} == held(names, model)

            with admin(names.cluster) as client:
                client.delete_topics([names.event_topic])
                wait_for(lambda: not describe(names.cluster, [names.event_topic]), 30)
                client.create_topics(
                    {names.event_topic: {"num_partitions": 1, "replication_factor": 1, "configs": EVENT_CONFIG}}
                )
                client.wait_for_topics([names.event_topic])
            send(names.broker, names.event_topic, events("u", range(10, 20)))
            assert worker.process.wait(60) > 0
            assert names.event_topic in worker.said.splitlines()[-1]
            assert "Traceback" not in worker.said

        with start() as worker:
            topics.wait_done(worker)
            assert "was made anew" in worker.said
            assert 0 == worker.stop()
    assert {"u": (15, 15)} == held(names, model)
