"""`interest simulate` on a real broker: a worker takes what it sends for a shop's events of now."""

import time
from collections import Counter

import pytest

from stream.commands import run
from stream.consume import read_all
from stream.decode import decode
from stream.publisher import partition_of
from stream.security import Cluster
from tests.integration.conftest import Names

EVENTS = 2_010


def test_events_of_now(names: Names, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As many as asked for, on Java's partitions, with times at now; one of 200 is refused, of several users."""
    for name, value in names.environment.items():
        monkeypatch.setenv(name, value)
    assert run(["topics", "create", "--partitions", "4"]) == 0
    capsys.readouterr()
    before_ms = time.time_ns() // 1_000_000

    assert run(["simulate", "--rate", "100000", "--events", str(EVENTS), "--users", "50"]) == 0

    shown = capsys.readouterr().out.splitlines()
    assert f"sending 100000 events a second to {names.event_topic}" == shown[0]
    assert f"published 2,010 events to {names.event_topic}" == shown[1]
    records = list(read_all(Cluster(names.broker), names.event_topic))
    assert len(records) == EVENTS
    assert all(partition_of(record.key, 4) == record.partition for record in records)
    assert 40 < len(Counter(record.key for record in records)) <= 50
    decoded = decode(records)
    assert EVENTS // 200 == len(decoded.refused)
    times = decoded.events["timestamp"]
    assert before_ms - 60_000 <= times.min() <= times.max() <= time.time_ns() // 1_000_000


@pytest.mark.parametrize("option", [["--rate", "0.5"], ["--events", "0"], ["--users", "0"]])
def test_wrong_call(option: list[str]) -> None:
    """A pace below one event a second, and nothing or nobody at all, are wrong calls."""
    assert run(["simulate", *option]) == 2
