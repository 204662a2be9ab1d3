"""`interest watch` on a real broker: updates as people and as programs want them."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from kafka import KafkaProducer

from models.bundle import Bundle
from stream.broker import Broker
from stream.commands import run
from stream.connect import admin
from stream.security import Cluster
from stream.update import UpdateFormat, encode_updates
from tests.bundles import random_bundle
from tests.integration.conftest import Names

INTEREST = [sys.executable, "-c", "from stream.commands import main; main()"]
NEWEST_MS = 1511658000123


@pytest.fixture(autouse=True)
def environment(names: Names, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """This test's topics, made, and in the environment of the command, in a zone of its own."""
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    for name, value in names.environment.items():
        monkeypatch.setenv(name, value)
    assert run(["topics", "create", "--partitions", "1"]) == 0
    capsys.readouterr()


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A model of three items in two categories with names."""
    return random_bundle(
        tmp_path / "bundle",
        item_ids=["a", "b", "c"],
        item_categories=["c1", "c2", "c2"],
        category_names=["phones", "kitchen"],
    )


def updates(bundle: Bundle, form: UpdateFormat, *users: str) -> dict[str, bytes]:
    """An update of each user, version 17, whose vector is that of the bundle's first category."""
    count = len(users)
    vectors = np.repeat(bundle.category_vectors[1][np.newaxis], count, axis=0)
    seventeen = np.full(count, 17, np.int64)
    newest_ms = np.full(count, NEWEST_MS, np.int64)
    keys = [user.encode() for user in users]
    return dict(zip(users, encode_updates(bundle, keys, seventeen, newest_ms, seventeen, vectors, form), strict=True))


def send(names: Names, *records: tuple[str, bytes | None]) -> None:
    """Updates (None: a tombstone) onto the update topic."""
    producer = KafkaProducer(bootstrap_servers=names.broker)
    sent = [producer.send(names.update_topic, value, user.encode()) for user, value in records]
    for future in sent:
        future.get(10)
    producer.close()


@pytest.mark.parametrize("form", [UpdateFormat("json"), UpdateFormat("float32")])
def test_lines_for_people(names: Names, bundle: Bundle, form: UpdateFormat, capsys: pytest.CaptureFixture[str]) -> None:
    """Time, user, version, events, what the vector leans to by name, first numbers; a tombstone is told."""
    send(names, *updates(bundle, form, "u1").items(), ("u2\x1b[2J", None))

    assert run(["watch", "--from-beginning", "--limit", "2", "--model", str(bundle.folder)]) == 0

    first, second = capsys.readouterr().out.splitlines()
    vector = bundle.category_vectors[1]
    near = bundle.category_vectors[2] @ vector
    numbers = ", ".join(f"{number:+.3f}" for number in vector[:4])
    assert first == (
        f"2017-11-26 09:00:00  u1  version 17  17 events  phones 1.00, kitchen {near:.2f}  [{numbers}, … {bundle.dim}]"
    )
    assert second.endswith("  u2\\x1b[2J  forgotten")


def test_categories_as_the_worker_names_them(names: Names, bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a model the update's own categories are shown; without these, none."""
    send(names, *updates(bundle, UpdateFormat(categories=1), "u1").items())
    send(names, *updates(bundle, UpdateFormat(), "u2").items())
    assert run(["watch", "--from-beginning", "--limit", "2"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "  17 events  c1 1.00  [" in first
    assert "  17 events  [" in second


def test_update_of_another_model(names: Names, bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """A vector of another model is not compared with this one's categories."""
    update = orjson.loads(updates(bundle, UpdateFormat(), "u1")["u1"])
    send(names, ("u1", orjson.dumps(update | {"model": "feedfeed"})))
    assert run(["watch", "--from-beginning", "--limit", "1", "--model", str(bundle.folder)]) == 0
    assert f"  (of model feedfeed, not {bundle.version})  [" in capsys.readouterr().out


def test_json(names: Names, bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json each line is the update as it is; a forgotten user is an object too; --user picks one."""
    made = updates(bundle, UpdateFormat(), "u1", "u2")
    send(names, *made.items(), ("u1", None))

    assert run(["watch", "--json", "--from-beginning", "--user", "u1", "--limit", "2"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].encode() == made["u1"]
    assert orjson.loads(lines[1]) == {"user_id": "u1", "forgotten": True}


def test_what_is_no_update(names: Names, bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """Foreign records on the topic are named, and nothing ends."""
    junk: list[tuple[str, bytes | None]] = [
        ("u1", b"\xff\x00"),
        ("u1", b"[1]"),
        ("u1", b'{"vector": [0.5, "x"], "user_id": "u1", "timestamp": 1}'),
        ("u1", b'{"vector": [0.5], "user_id": "u1", "timestamp": 1e300, "version": 1, "events": 1}'),
    ]
    send(names, *junk, *updates(bundle, UpdateFormat(), "u1").items())
    assert run(["watch", "--from-beginning", "--limit", "1"]) == 0
    shown = capsys.readouterr()
    assert "  u1  version 17  " in shown.out
    assert f"warning: {names.update_topic}/0/0 is no update: \\xff\\x00" in shown.err
    assert shown.err.count("is no update") == 4


def test_only_what_comes_from_now_on(names: Names, bundle: Bundle) -> None:
    """Without --from-beginning old updates are not shown, and from the line `watching` on every new one is; Ctrl-C
    ends it quietly."""
    made = updates(bundle, UpdateFormat(), "old", "new")
    send(names, ("old", made["old"]))
    with subprocess.Popen([*INTEREST, "watch"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.readline() == f"watching {names.update_topic}\n"
        send(names, ("new", made["new"]))
        assert "  new  version 17  " in process.stdout.readline()
        process.send_signal(2)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err.strip()) == (130, "", "")


def test_closed_pipe(names: Names, bundle: Bundle) -> None:
    """`interest watch | head -1` ends without a word."""
    send(names, *[("u1", value) for value in updates(bundle, UpdateFormat(), "u1").values()] * 2000)
    piped = f"{sys.executable} -c 'from stream.commands import main; main()' watch --from-beginning | head -1"
    ended = subprocess.run(piped, shell=True, capture_output=True, text=True, timeout=30, check=True)
    assert "  u1  version 17  " in ended.stdout
    assert ended.stderr == f"watching {names.update_topic}\n"


def test_broker_goes_away() -> None:
    """Who watches is told when the broker is gone, instead of waiting for ever."""
    with Broker() as broker:
        with admin(Cluster(broker.address)) as client:
            client.create_topics({"t": {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
        with subprocess.Popen(
            [*INTEREST, "watch", "--broker", broker.address, "--update-topic", "t"], stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            assert process.stderr.readline() == "watching t\n"
            broker.stop()
            _, told = process.communicate(timeout=20)
    assert process.returncode == 1
    assert told.startswith("error: no broker answers at 127.0.0.1:")
    assert told.count("\n") == 1


def test_missing_topic(names: Names, capsys: pytest.CaptureFixture[str]) -> None:
    """A topic that is not there, and a broker that is not, are one line."""
    arguments: list[Any] = ["watch", "--update-topic", "no-such"]
    assert run(arguments) == 1
    assert capsys.readouterr().err == f"error: topic no-such is missing on {names.broker}\n"
    assert run([*arguments, "--broker", "127.0.0.1:1"]) == 1
    assert capsys.readouterr().err.startswith("error: no broker answers at 127.0.0.1:1; ")
