"""`interest deadletters replay` on a real broker: each record once, whatever happens in between."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer

import stream.replay
from stream.commands import run
from stream.consume import read_all
from stream.publisher import partition_of
from stream.topics import describe
from tests.bundles import random_bundle
from tests.integration.conftest import Names
from tests.integration.workers import Topics, Worker, environment, last_values, wait_for

Headers = list[tuple[str, bytes | None]]
#: Key, value and headers of a letter.
Letter = tuple[bytes | None, bytes | None, Headers]

PARTITIONS = 3
#: Ends the process the second time that a chunk was handed over, before or after it is committed.
CRASH = """
import os, sys
import stream.replay as replay
from stream.commands import run

replay.CHUNK_LETTERS = 2
hand_over = replay._Sender._hand_over
transact = replay._Sender._transact
calls = 0

async def crash_before(self, chunk):
    global calls
    await hand_over(self, chunk)
    calls += 1
    if calls == 2:
        os._exit(9)

async def crash_after(self, chunk):
    global calls
    await transact(self, chunk)
    calls += 1
    if calls == 2:
        os._exit(9)

if sys.argv[1] == "before":
    replay._Sender._hand_over = crash_before
else:
    replay._Sender._transact = crash_after
run(["deadletters", "replay", "--send"])
"""


def letter(topic: str, offset: int, reason: str, key: bytes | None, value: bytes | None, *own: Any) -> Letter:
    """A letter as a worker writes it of a record of partition 0."""
    source = f"{topic}/0/{offset}".encode()
    return key, value, [*own, ("interest-reason", reason.encode()), ("interest-source", source)]


def write(names: Names, letters: Sequence[Letter], partition: int = 0) -> None:
    """Put letters on the dead-letter topic, in order, each in a record batch of its own."""

    async def put() -> None:
        async with AIOKafkaProducer(bootstrap_servers=names.broker) as producer:
            for key, value, headers in letters:
                batch = producer.create_batch()
                batch.append(timestamp=None, key=key, value=value, headers=headers)
                await (await producer.send_batch(batch, names.deadletter_topic, partition=partition))

    asyncio.run(put())


def events(names: Names) -> list[Any]:
    """What is on the event topic, committed."""
    return list(read_all(names.cluster, names.event_topic))


def attempts(names: Names) -> list[tuple[bytes, bytes]]:
    """Value and replay header of each event, in order."""
    return sorted((record.value, dict(record.headers)["interest-replay"]) for record in events(names))


@pytest.fixture(autouse=True)
def topics(names: Names, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Empty topics, and the environment that names them."""
    for variable, setting in names.environment.items():
        monkeypatch.setenv(variable, setting)
    assert 0 == run(["topics", "create", "--partitions", str(PARTITIONS)])
    capsys.readouterr()


def replay(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """Run the command well; the lines that it printed."""
    code = run(["deadletters", "replay", *arguments])
    shown = capsys.readouterr()
    assert 0 == code, shown.err
    return shown.out.splitlines()


def test_each_once(names: Names, capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run sends nothing; --send sends each source once, as it was; a second run none (P5, K03, K05, D12)."""
    topic = names.event_topic
    assert [f"nothing to send: no letter of {names.deadletter_topic} is left that fits"] == replay(capsys, "--send")
    twice = letter(topic, 0, "unknown_type", b"TT0124", b"one", ("trace", b"\xff"), ("none", None))
    write(
        names,
        [
            twice,
            letter(topic, 1, "not_json", b'"u1"', b"two"),
            twice,
            letter(topic, 2, "missing_key", None, None),
            letter(topic, 3, "too_large", b"u1", b"x" * 600_000),
            (b"k", b"foreign", []),
            letter(names.update_topic, 4, "not_json", b"u1", b"never"),
        ],
    )
    told = ["left out: 2 without the source that a worker writes"]
    chosen = [f"  1 {reason} to {topic}" for reason in ("unknown_type", "not_json", "missing_key", "too_large")]

    assert ["would send 4 dead letters:", *chosen, *told, "nothing was sent: --send does it"] == replay(capsys)
    assert [] == events(names)

    assert ["sent 4 dead letters:", *chosen, *told] == replay(capsys, "--send")
    sent = {record.value: record for record in events(names)}
    assert 4 == len(events(names))
    assert [("trace", b"\xff"), ("none", None), ("interest-replay", f"{topic}/0/0 1".encode())] == sent[b"one"].headers
    for value, key in ((b"one", b"TT0124"), (b"two", b'"u1"'), (b"x" * 600_000, b"u1")):
        assert (key, partition_of(key, PARTITIONS)) == (sent[value].key, sent[value].partition)
    assert (None, 0) == (sent[None].key, sent[None].partition)
    assert (
        "compact"
        == describe(names.cluster, [f"{names.deadletter_topic}-replayed"]).popitem()[1].configs["cleanup.policy"]
    )

    again = ["left out: 4 sent before, 2 without the source that a worker writes"]
    nothing = f"nothing to send: no letter of {names.deadletter_topic} is left that fits"
    assert [nothing, *again] == replay(capsys, "--send", "--again")
    assert 4 == len(events(names))


def test_filters(names: Names, capsys: pytest.CaptureFixture[str]) -> None:
    """Reason, time and limit pick; what they left is sent later, each once."""
    topic = names.event_topic
    write(names, [letter(topic, n, "not_json", b"u%d" % n, b"v%d" % n) for n in range(3)])
    time.sleep(0.01)
    write(names, [letter(topic, 3, "empty", b"u3", b"v3")], partition=1)
    last_ms = max(record.timestamp for record in read_all(names.cluster, names.deadletter_topic))
    last = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(last_ms // 1000))}.{last_ms % 1000:03d}Z"

    assert "would send 1 dead letter:" == replay(capsys, "--since", last)[0]
    assert "would send 3 dead letters:" == replay(capsys, "--until", last)[0]
    assert f"  1 empty to {topic}" == replay(capsys, "--reason", "empty")[1]
    assert replay(capsys, "--topic", "another")[0].startswith("nothing to send")
    replay(capsys, "--send", "--limit", "2")
    assert [b"v0", b"v1"] == [value for value, _ in attempts(names)]
    replay(capsys, "--send", "--until", last)
    assert [b"v0", b"v1", b"v2"] == [value for value, _ in attempts(names)]
    replay(capsys, "--send")
    assert [b"v0", b"v1", b"v2", b"v3"] == [value for value, _ in attempts(names)]


def test_what_cannot_be_sent(names: Names, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A topic that is gone and a record that its topic does not take are named in a line; the others can be sent."""
    write(names, [letter("gone-topic", 0, "empty", b"u1", b"a"), letter(names.event_topic, 1, "not_json", b"u2", b"b")])
    assert 1 == run(["deadletters", "replay", "--send"])
    assert capsys.readouterr().err == (
        f"error: topic gone-topic is missing on {names.broker}, 1 of the letters came from it; make it, "
        "or send those of another with --topic\n"
    )
    assert [] == events(names)
    assert "sent 1 dead letter:" == replay(capsys, "--send", "--topic", names.event_topic)[0]

    monkeypatch.setattr(stream.replay, "_fits", lambda event, limit: len(event.value) < 1000)
    write(names, [letter(names.event_topic, n, "empty", b"u", value) for n, value in ((2, b"x" * 1000), (3, b"c"))])
    assert 1 == run(["deadletters", "replay", "--send", "--topic", names.event_topic])
    shown = capsys.readouterr()
    assert "sent 1 dead letter:" == shown.out.splitlines()[0]
    assert shown.err.splitlines()[0].startswith(f"{names.event_topic}/0/2: larger than the ")
    assert "error: 1 of 2 letters were not sent" == shown.err.splitlines()[1]

    monkeypatch.setenv("INTEREST_DEADLETTER_TOPIC", "no-letters")
    assert 1 == run(["deadletters", "replay"])
    assert capsys.readouterr().err.startswith(f"error: topic no-letters is missing on {names.broker}; ")


@pytest.mark.parametrize("when", ["before", "after"])
def test_crash_in_between(names: Names, when: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed before or after a chunk is committed: run again, and every record was sent exactly once."""
    write(names, [letter(names.event_topic, n, "not_json", b"u%d" % n, b"v%d" % n) for n in range(7)])
    crashed = subprocess.run([sys.executable, "-c", CRASH, when], env=environment(names), timeout=60, check=False)
    assert 9 == crashed.returncode
    rest = 5 if when == "before" else 3
    assert f"sent {rest} dead letters:" == replay(capsys, "--send")[0]
    first = f"{names.event_topic}/0/".encode()
    assert [(b"v%d" % n, first + b"%d 1" % n) for n in range(7)] == attempts(names)


def test_two_at_once(names: Names, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A replay that another has overtaken ends with a plain line and sends nothing twice."""
    write(names, [letter(names.event_topic, n, "not_json", b"u%d" % n, b"v%d" % n) for n in range(3)])
    plan = stream.replay.plan

    def overtaken(*arguments: Any, **options: Any) -> Any:
        planned = plan(*arguments, **options)
        monkeypatch.setattr(stream.replay, "plan", plan)
        assert "sent 3 dead letters:" == replay(capsys, "--send")[0]
        return planned

    monkeypatch.setattr(stream.replay, "plan", overtaken)
    assert 1 == run(["deadletters", "replay", "--send"])
    assert "error: another replay has begun; this one ended after 0 letters\n" == capsys.readouterr().err
    assert [b"v0", b"v1", b"v2"] == [value for value, _ in attempts(names)]


def test_through_a_worker(names: Names, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is good now counts once; what is refused again is marked, shown, and sent again only if asked (P3, P5)."""
    random_bundle(tmp_path / "model", item_ids=["i1"], item_categories=["c1"])
    good = {"user_id": "u1", "type": "click", "item_id": "i1", "timestamp": int(time.time() * 1000)}
    good_letter = letter(names.event_topic, 990, "unknown_type", b"u1", orjson.dumps(good))
    bad_letter = letter(names.event_topic, 991, "not_json", b"u2", b"hello")
    write(names, [good_letter, bad_letter, good_letter])
    replay(capsys, "--send")
    with Worker(names, tmp_path / "model", tmp_path / "state") as worker, Topics(names) as topics:

        def letters() -> list[bytes]:
            """The replay headers of all letters that have one."""
            headers = [dict(record.headers) for record in read_all(names.cluster, names.deadletter_topic)]
            return [header["interest-replay"] for header in headers if "interest-replay" in header]

        first = f"{names.event_topic}/0/991".encode()
        wait_for(lambda: letters() == [first + b" 1"], 60, [worker])
        assert 0 == run(["deadletters", "list", "--reason", "not_json"])
        assert f"  replay of {first.decode()} 1  key u2  " in capsys.readouterr().out

        lines = replay(capsys, "--send")
        assert lines[0].startswith("nothing to send")
        assert "left out: 1 sent before, 1 sent before and refused again (--again sends them)" == lines[1]
        assert "sent 1 dead letter:" == replay(capsys, "--send", "--again")[0]
        wait_for(lambda: letters() == [first + b" 1", first + b" 2"], 60, [worker])
        topics.wait_done(worker)
        assert 0 == worker.stop()
    update = orjson.loads(last_values(list(read_all(names.cluster, names.update_topic)))[b"u1"].value)
    assert (1, 1) == (update["version"], update["events"])
    assert 3 == len(events(names))
