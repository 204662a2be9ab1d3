"""`interest deadletters list` on a real broker: what was refused, safely shown."""

from dataclasses import dataclass

import orjson
import pytest
from kafka import KafkaProducer

from stream.commands import run
from stream.contract import Reason
from stream.deadletter import dead_letter
from stream.decode import decode
from tests.integration.conftest import Names


@dataclass(frozen=True)
class Raw:
    """A record as `decode` reads it."""

    value: bytes
    key: bytes | None
    offset: int
    timestamp: int = 1511658000000
    headers: tuple[()] = ()


@pytest.fixture(autouse=True)
def letters(names: Names, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Three letters as a worker writes them, and a record that somebody else put there."""
    for variable, setting in names.environment.items():
        monkeypatch.setenv(variable, setting)
    assert run(["topics", "create", "--partitions", "1"]) == 0
    capsys.readouterr()
    producer = KafkaProducer(bootstrap_servers=names.broker)
    records = [
        Raw(b"hello \x1b[2J" + b"x" * 200, key=b"u1", offset=5),
        Raw(b'{"user_id": "u1", "type": "view", "item_id": "i", "timestamp": 1511658000000}', key=b"u1", offset=6),
        Raw(b"\xff", key=None, offset=7),
    ]
    for refused in decode(records).refused:
        key, value, headers = dead_letter(refused, "user-events", 3)
        producer.send(names.deadletter_topic, value, key, headers).get(10)
    producer.send(names.deadletter_topic, b"foreign", None).get(10)
    producer.close()


def test_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Reason, source, key, detail and the beginning of the value; nothing that a terminal would obey."""
    assert run(["deadletters", "list"]) == 0

    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("not_json  user-events/3/5  key u1  ")
    assert lines[0].endswith("  hello \\x1b[2J" + "x" * (100 - 10) + "…")
    assert lines[1].startswith("unknown_type  user-events/3/6  key u1  ")
    assert "$.type" in lines[1]
    assert lines[2].startswith("missing_key  user-events/3/7  key -  ")
    assert lines[2].endswith("  \\xff")
    assert lines[3] == "-  -  key -  -  foreign"
    assert shown.err == "4 dead letters: 1 not_json, 1 unknown_type, 1 missing_key, 1 -\n"


def test_one_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """`--reason` picks; a reason that does not exist is a wrong call that names those that do."""
    assert run(["deadletters", "list", "--reason", "unknown_type"]) == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 1
    assert shown.err == "1 dead letter: 1 unknown_type\n"
    assert run(["deadletters", "list", "--reason", "ugly"]) == 2
    told = capsys.readouterr().err
    assert all(f"'{reason}'" in told for reason in Reason)


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json the value is whole, bytes that are no UTF-8 as \\xNN, what is absent null."""
    assert run(["deadletters", "list", "--json", "--limit", "3"]) == 0
    shown = capsys.readouterr()
    first, _, third = map(orjson.loads, shown.out.splitlines())
    assert first["value"] == "hello \x1b[2J" + "x" * 200
    assert third["detail"]
    del third["detail"]
    assert third == {
        "partition": 0,
        "offset": 2,
        "reason": "missing_key",
        "source": "user-events/3/7",
        "replay": None,
        "key": None,
        "value": "\\xff",
    }
    assert shown.err == ""
