"""`interest publish` on a real broker: what arrives, where, in what order; and what happens when it cannot."""

import gzip
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
import pytest

import stream.publisher
from stream.broker import Broker
from stream.commands import run
from stream.connect import admin
from stream.consume import read_all
from stream.errors import BrokerError, TopicError
from stream.eventfile import Record, Unfit
from stream.publish import publish
from stream.publisher import partition_of
from stream.security import Cluster
from tests.integration.conftest import Names


@pytest.fixture(autouse=True)
def environment(names: Names, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """This test's topics, made, and in the environment of the command."""
    for name, value in names.environment.items():
        monkeypatch.setenv(name, value)
    assert run(["topics", "create", "--partitions", "7"]) == 0
    capsys.readouterr()


def write_events(path: Path, users: Sequence[str], count: int) -> list[bytes]:
    """A file of events of the users in turn, a second apart. Returns its lines."""
    lines = [
        orjson.dumps({"user_id": users[i % len(users)], "type": "click", "item_id": str(i), "timestamp": 10**12 + i})
        for i in range(count)
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return lines


def test_arrives_as_it_is(names: Names, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every line arrives once, byte for byte, keyed by the raw user id, on Java's partition, in order, with the
    broker's time."""
    users = [f"user-{number}" for number in range(50)] + ["用户", '"u1"', ""]
    file = tmp_path / "events.json"
    lines = write_events(file, users, 30_000)
    before = time.time() * 1000

    assert run(["publish", str(file)]) == 0

    shown = capsys.readouterr()
    assert shown.out.startswith(f"published 30,000 events to {names.event_topic} in ")
    assert shown.err == ""
    by_user = defaultdict(list)
    for record in read_all(names.cluster, names.event_topic):
        assert record.partition == partition_of(record.key, 7)
        assert before <= record.timestamp <= time.time() * 1000
        assert record.timestamp_type == 1  # LogAppendTime
        by_user[record.key.decode()].append(record.value)
    assert by_user == {user: lines[number :: len(users)] for number, user in enumerate(users)}


def test_partition_is_that_of_kafka_python(names: Names) -> None:
    """Another client with Java's partitioner puts the same keys on the same partitions."""
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=names.broker)
    for number in range(200):
        key = f"user-{number}".encode()
        assert producer.send(names.event_topic, b"{}", key).get(10).partition == partition_of(key, 7)
    producer.close()


def test_lines_without_a_user_are_named(names: Names, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What has a user is sent, whatever else is wrong; other lines are named by number; the exit code is 1."""
    file = tmp_path / "mixed.json"
    file.write_bytes(b'{"user_id":"a"}\nhello\n\n{"user_id":7}\n{"user_id":"b","price":NaN}\n')

    assert run(["publish", str(file)]) == 1

    shown = capsys.readouterr()
    assert shown.out.startswith("published 2 events to ")
    assert shown.err.splitlines() == [
        f"{file}, line 2: expected a JSON object with a string user_id: Expecting value: line 1 column 1 (char 0)",
        f"{file}, line 4: expected a string user_id, got a number",
        "error: 2 of 4 lines were not sent",
    ]
    values = {record.value for record in read_all(names.cluster, names.event_topic)}
    assert values == {b'{"user_id":"a"}', b'{"user_id":"b","price":NaN}'}


def test_largest_record(names: Names, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line just as long as the topic takes is sent, a longer one is named; the lines behind them are sent."""
    room = 1048588 - 128 - len("a")
    file = tmp_path / "long.json"
    lines = [orjson.dumps({"user_id": "a", "text": "x" * (size - 25)}) for size in (room, room + 1, 100)]
    assert [len(line) for line in lines] == [room, room + 1, 100]
    file.write_bytes(b"\n".join(lines))

    assert run(["publish", str(file)]) == 1

    shown = capsys.readouterr().err
    assert f"{file}, line 2: 1048461 bytes, the topic takes at most 1048460 (its max.message.bytes)" in shown
    assert [record.value for record in read_all(names.cluster, names.event_topic)] == [lines[0], lines[2]]


def test_time_order(names: Names, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not in time order is sent, and a warning counts what is out of order and names the first."""
    file = tmp_path / "events.json"
    times = [5, 7, 7, 6, "x", "2000-01-01T00:00:00Z", 8]
    file.write_bytes(b"\n".join(orjson.dumps({"user_id": "a", "timestamp": time}) for time in times))

    assert run(["publish", str(file)]) == 0

    assert capsys.readouterr().err.startswith(
        "warning: not in time order: 2 of the events are older than one before them, the first in line 4; "
    )


@pytest.mark.parametrize("packed", [False, True])
def test_standard_input(names: Names, packed: bool) -> None:
    """`-` sends what is piped as it comes, before the end of input, and reads gzip too."""
    with subprocess.Popen(
        [sys.executable, "-c", "from stream.commands import main; main()", "publish", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=False,
    ) as process:
        assert process.stdin is not None
        if packed:
            process.stdin.write(gzip.compress(b'{"user_id":"a"}\n'))
        else:
            process.stdin.write(b'{"user_id":"a"}\n')
            process.stdin.flush()
            deadline = time.monotonic() + 20
            while not list(read_all(names.cluster, names.event_topic)):
                assert time.monotonic() < deadline
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out.startswith(b"published 1 event to ")
    assert [record.key for record in read_all(names.cluster, names.event_topic)] == [b"a"]


def test_rate(names: Names, tmp_path: Path) -> None:
    """`--rate` keeps the pace."""
    file = tmp_path / "events.json"
    write_events(file, ["a", "b"], 300)
    began = time.monotonic()
    assert run(["publish", str(file), "--rate", "200"]) == 0
    assert time.monotonic() - began >= 299 / 200
    times = [record.timestamp for record in read_all(names.cluster, names.event_topic)]
    assert max(times) - min(times) >= 1000


def test_taobao(names: Names, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows of the Tianchi file arrive whole and each user's in order, as events of the contract."""
    chance = random.Random(7)
    kinds = {"pv": "click", "cart": "cart", "fav": "favorite", "buy": "purchase"}
    rows = [
        (f"{chance.randrange(500)}", f"{chance.randrange(9999)}", f"{chance.randrange(99)}", chance.choice([*kinds]), i)
        for i in range(20_000)
    ]
    file = tmp_path / "rows.csv.gz"
    file.write_bytes(gzip.compress("\n".join(",".join(map(str, row)) for row in rows).encode()))

    assert run(["publish", "--format", "taobao", str(file)]) == 0

    assert "published 20,000 events" in capsys.readouterr().out
    seen, expected = defaultdict(list), defaultdict(list)
    for record in read_all(names.cluster, names.event_topic):
        event = orjson.loads(record.value)
        assert event["user_id"].encode() == record.key
        seen[event["user_id"]].append(event)
    for user, item, category, kind, seconds in rows:
        ids = {"user_id": user, "item_id": item, "category_id": category}
        expected[user].append({**ids, "type": kinds[kind], "timestamp": seconds * 1000})
    assert seen == expected


def test_missing_topic(names: Names, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A topic that is not there is not made by accident."""
    file = tmp_path / "events.json"
    write_events(file, ["a"], 1)
    assert run(["publish", str(file), "--topic", "no-such"]) == 1
    assert capsys.readouterr().err == (
        f"error: topic no-such is missing on {names.broker}; make what is missing with `interest topics create`\n"
    )
    with pytest.raises(TopicError):
        list(read_all(names.cluster, "no-such"))


def test_missing_file(capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is a wrong call."""
    assert run(["publish", "nothing.json"]) == 2
    assert capsys.readouterr().err == (
        "error: Invalid value for 'FILE': File 'nothing.json' does not exist; see `interest publish --help`\n"
    )


def test_broker_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not acknowledged is told: how many, and from which line on."""
    monkeypatch.setattr(stream.publisher, "DELIVERY_S", 2)
    with Broker() as broker:
        with admin(Cluster(broker.address)) as client:
            client.create_topics({"t": {"num_partitions": 3, "replication_factor": 1}}, wait_for_metadata=True)

        def chunks() -> Iterator[list[Record | Unfit]]:
            yield [Record(line, str(line % 9).encode(), b"{}", None) for line in range(1, 101)]
            broker.stop()
            yield [Record(line, str(line % 9).encode(), b"{}", None) for line in range(101, 151)]

        with pytest.raises(BrokerError) as caught:
            publish(chunks(), Cluster(broker.address), "t")
    assert str(caught.value).startswith(
        "50 of the events for t were not acknowledged, the first is line 101: no answer in 2 s"
    )
