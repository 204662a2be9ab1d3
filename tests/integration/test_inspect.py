"""`interest inspect` says what a worker stored, and several event topics feed one user."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from kafka import KafkaProducer

from tests.bundles import random_bundle
from tests.integration.conftest import Names
from tests.integration.workers import Topics, Worker, create_topics, environment, interest, last_values, read, wait_for

UNIT_VECTOR_TOLERANCE = 1e-5


def event(user: str, item: str, time_ms: int, **more: object) -> dict[str, Any]:
    """A click."""
    return {"user_id": user, "type": "click", "item_id": item, "timestamp": time_ms, **more}


def send(broker: str, topic: str, *events: Mapping[str, Any]) -> None:
    """Publish events and wait for each."""
    producer = KafkaProducer(bootstrap_servers=broker, acks="all")
    try:
        for one in events:
            producer.send(topic, key=one["user_id"].encode(), value=orjson.dumps(one)).get(30)
    finally:
        producer.close()


def test_inspect(names: Names, tmp_path: Path) -> None:
    """Window and vector are what the worker stored and published; of an erased user a marker."""
    random_bundle(tmp_path / "model", item_ids=["i1", "i2"], item_categories=["c1", "c1"], item_names=["One", "Two"])
    create_topics(names)
    now = int(time.time() * 1000)
    send(
        names.broker,
        names.event_topic,
        event("u1", "i1", now - 2000, category_id="c1"),
        event("u1", "i2", now - 1000, type="review", rating=4.5, text="good and fast"),
        event("u1", "never-seen", now),
        event("gone", "i1", now),
        {"user_id": "gone", "type": "erase"},
    )
    with Worker(names, tmp_path / "model", tmp_path / "state") as worker, Topics(names) as topics:
        worker.wait_ready()
        topics.wait_done(worker)
        assert worker.stop() == 0
    update = orjson.loads(last_values(read(names.broker, names.update_topic))[b"u1"].value)
    env = environment(names, model=tmp_path / "model")

    shown = interest("inspect", "u1", "--json", env=env)
    assert shown.returncode == 0, shown.stderr
    said = orjson.loads(shown.stdout)
    assert said["version"] == 3
    assert [entry.get("item_name") for entry in said["events"]] == ["One", "Two", None]
    assert [entry["timestamp"] for entry in said["events"]] == [now - 2000, now - 1000, now]
    assert said["events"][1]["rating"] == 4.5
    assert said["events"][1]["text_tokens"] == 3
    assert said["last_update"] == update
    assert np.abs(np.array(said["vector"]) - np.array(update["vector"])).max() <= UNIT_VECTOR_TOLERANCE

    human = interest("inspect", "u1", env=env)
    assert "version 3, 3 events in the window" in human.stdout
    assert "last update: version 3" in human.stdout
    assert "the same vector within" in human.stdout

    erased = interest("inspect", "gone", env=env)
    assert "version 0, 0 events in the window, erased" in erased.stdout
    assert "last update: none" in erased.stdout

    unknown = interest("inspect", "nobody", env=env)
    assert unknown.returncode == 1
    assert unknown.stderr == f"error: nothing is stored of user 'nobody' in {names.changelog_topic}: never seen\n"


def test_several_event_topics(names: Names, tmp_path: Path) -> None:
    """One user's events from two topics are one window, in the order of their times, each counted once."""
    random_bundle(tmp_path / "model", item_ids=["i1"], item_categories=["c1"])
    second = f"{names.event_topic}-app"
    create_topics(names)
    create_topics(replace(names, event_topic=second))
    now = int(time.time() * 1000)
    send(names.broker, names.event_topic, *(event("u1", "i1", now - 10_000 + 2000 * n) for n in range(4)))
    send(names.broker, second, *(event("u1", "i1", now - 9_000 + 2000 * n) for n in range(4)))
    both = f"{names.event_topic},{second}"
    with Worker(names, tmp_path / "model", tmp_path / "state", event_topics=both) as worker:

        def versions() -> list[int]:
            updates = [orjson.loads(record.value) for record in read(names.broker, names.update_topic)]
            return [update["version"] for update in updates]

        wait_for(lambda: 8 in versions(), 60, [worker])
        assert worker.stop() == 0
    shown = interest("inspect", "u1", "--json", env=environment(names, event_topics=both))
    times = [entry["timestamp"] - now for entry in orjson.loads(shown.stdout)["events"]]
    assert times == [-10_000 + 1000 * n for n in range(8)]
