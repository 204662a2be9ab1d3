"""A topic becomes a log to train on: all that a worker takes for events, and nothing that somebody had erased."""

import json
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from models.log import read
from models.rows import Mapped
from stream.commands import run as interest
from stream.connect import admin
from tests.integration.conftest import Names
from tests.logs import event, write_log

pl = pytest.importorskip("polars", reason="Parquet is part of the train extra")

NOW = 1_700_000_000_000
TEXT = {"type": "review", "text": "好 good", "rating": 4.5, "event_id": "e"}


def lines(sent: list[tuple[int, dict[str, Any]]], user: str) -> list[dict[str, Any]]:
    """A user's events."""
    return [value for _, value in sent if value["user_id"] == user]


def test_export(
    names: Names, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events of both partitions, over several files, make the log that they make as JSON Lines; of an erased user what
    came after the erase record; refused records are counted (I01)."""
    with admin(names.cluster) as client:
        client.create_topics(
            {names.event_topic: {"num_partitions": 2, "replication_factor": 1}}, wait_for_metadata=True
        )
    sent: list[tuple[int, dict[str, Any]]] = [
        *((0, event("u", f"i{n}", NOW + n, category_id="c", price=2.5 * n)) for n in range(4)),
        (1, event("v", "i1", NOW + 1, **TEXT)),
        (1, event("gone", "i2", NOW)),
        (1, {"user_id": "gone", "type": "erase"}),
        (1, event("gone", "i3", NOW + 5, item_name="A pen")),
        (0, event("u", "late", NOW - 5, timestamp="2023-11-14T22:13:19+00:00")),
    ]
    producer = KafkaProducer(bootstrap_servers=names.broker)
    for partition, value in sent:
        producer.send(names.event_topic, json.dumps(value).encode(), value["user_id"].encode(), partition=partition)
    producer.send(names.event_topic, b"{}", b"u", partition=0)
    producer.close()
    monkeypatch.setattr("stream.export.ROWS", 3)
    monkeypatch.setenv("INTEREST_BROKER", names.broker)
    command = ["export", "--topic", names.event_topic, "--output", str(tmp_path / "out")]

    assert 0 == interest(command)

    assert "7 events of" in (said := capsys.readouterr().out)
    assert "in 3 files; left out: 1 refused, 2 erased" in said
    assert ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"] == sorted(
        path.name for path in (tmp_path / "out").iterdir()
    )
    exported = read(tmp_path / "out", form="parquet", mapped=Mapped())
    kept = [*lines(sent, "u"), *lines(sent, "v"), lines(sent, "gone")[-1]]
    expected = read(write_log(tmp_path / "log", kept))
    assert expected.events.tolist() == exported.events.tolist()
    assert expected.tokens[expected.text_row[expected.text_row >= 0]].tolist() == (
        exported.tokens[exported.text_row[exported.text_row >= 0]].tolist()
    )
    assert expected.names == exported.names
    assert expected.starts.tolist() == exported.starts.tolist()

    assert 2 == interest(command)
    assert "out: expected a new or empty folder" in capsys.readouterr().err


def test_no_topic_to_export(names: Names, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and no folder is made."""
    command = ["export", "--topic", names.event_topic, "--output", str(tmp_path / "out")]
    assert 1 == interest([*command, f"--broker={names.broker}"])
    assert f"topic {names.event_topic} is missing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
