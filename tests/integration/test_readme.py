"""The README's programs, as they stand there, against a real broker."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest
from kafka import KafkaProducer

from models.bundle import Bundle
from stream.commands import run
from stream.consume import read_all
from stream.update import UpdateFormat, encode_updates
from tests.bundles import random_bundle
from tests.integration.conftest import Names

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(autouse=True)
def environment(names: Names, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """This test's topics, made, and in the environment of the programs."""
    for variable, setting in names.environment.items():
        monkeypatch.setenv(variable, setting)
    assert run(["topics", "create"]) == 0
    capsys.readouterr()


def program(name: str, folder: Path) -> Path:
    """The README's block of Python that begins with `# name`, as a file."""
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    (block,) = [block for block in blocks if block.startswith(f"# {name}\n")]
    path = folder / name
    path.write_text(block)
    return path


def test_publisher(names: Names, tmp_path: Path) -> None:
    """What it sends is what the contract says: a click, a purchase, a review, keyed by the bare user id."""
    subprocess.run([sys.executable, program("publisher.py", tmp_path)], check=True, timeout=60)
    records = list(read_all(names.cluster, names.event_topic))
    events = [orjson.loads(record.value) for record in records]
    assert {record.key for record in records} == {b"u1"}
    assert {record.partition for record in records} == {records[0].partition}
    assert [event["type"] for event in events] == ["click", "purchase", "review"]
    assert all(abs(event["timestamp"] - time.time() * 1000) < 60_000 for event in events)


def test_publisher_without_a_topic(names: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure is not passed over."""
    monkeypatch.setenv("INTEREST_EVENT_TOPICS", "no-such-topic")
    source = program("publisher.py", tmp_path)
    source.write_text(source.read_text().replace('acks="all"', 'acks="all", max_block_ms=1000'))
    ended = subprocess.run([sys.executable, source], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert "Error" in ended.stderr


class Shop:
    """Bundles in the folder that the consumer reads, and updates of their models."""

    def __init__(self, names: Names, folder: Path) -> None:
        self.folder = folder
        self.topic = names.update_topic
        self.producer = KafkaProducer(bootstrap_servers=names.broker)
        self.bundle = self.install(seed=0)

    def install(self, seed: int) -> Bundle:
        """Put another model in the folder's place."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.bundle = random_bundle(
            self.folder,
            item_ids=[f"i{number}" for number in range(30)],
            item_names=[f"item {number}" for number in range(30)],
            item_categories=["c"] * 30,
            seed=seed,
        )
        return self.bundle

    def update(self, row: int, timestamp: int, version: int, bundle: Bundle | None = None) -> str:
        """Send an update of u1 whose vector is that of an item. Returns what the consumer must print."""
        bundle = bundle or self.bundle
        vector = bundle.items[row]
        count, newest_ms = np.array([version], np.int64), np.array([timestamp], np.int64)
        (value,) = encode_updates(bundle, [b"u1"], count, newest_ms, count, vector[np.newaxis], UpdateFormat())
        self.send(value)
        scored = sorted(range(1, len(bundle.items)), key=lambda item: -float(bundle.items[item] @ vector))
        return "\t".join(["u1", *(str(bundle.catalog.item_names[item]) for item in scored[:10])])

    def send(self, value: bytes | None) -> None:
        """A record of u1."""
        self.producer.send(self.topic, value, b"u1").get(10)


@pytest.fixture
def shop(names: Names, tmp_path: Path) -> Iterator[Shop]:
    """A shop whose producer is closed at the end."""
    shop = Shop(names, tmp_path / "bundle")
    yield shop
    shop.producer.close()


def test_consumer(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ranks by the newest update, whatever comes late; forgets; and waits for a model that is not there yet."""
    monkeypatch.setenv("INTEREST_MODEL", str(shop.folder))
    with subprocess.Popen(
        [sys.executable, program("consumer.py", tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            first = shop.update(row=3, timestamp=1000, version=2)
            assert first.startswith("u1\titem 2\t")
            assert process.stdout.readline().rstrip("\n") == first

            shop.update(row=4, timestamp=999, version=3)
            shop.update(row=4, timestamp=1000, version=1)
            again = shop.update(row=5, timestamp=1000, version=3)
            assert process.stdout.readline().rstrip("\n") == again

            shop.send(None)
            assert process.stdout.readline() == "u1 forgotten\n"
            fresh = shop.update(row=6, timestamp=500, version=1)
            assert process.stdout.readline().rstrip("\n") == fresh

            old = shop.bundle
            new = random_bundle(
                tmp_path / "new", item_ids=["x", "y"], item_categories=["c", "c"], category_ids=["c"], seed=7
            )
            shop.update(row=1, timestamp=2000, version=2, bundle=new)
            last = shop.update(row=7, timestamp=1500, version=2, bundle=old)
            assert process.stdout.readline().rstrip("\n") == last

            shop.install(seed=1)
            changed = shop.update(row=9, timestamp=3000, version=5)
            assert process.stdout.readline().rstrip("\n") == changed
            shop.update(row=8, timestamp=3000, version=6, bundle=old)
            changed = shop.update(row=10, timestamp=3000, version=6)
            assert process.stdout.readline().rstrip("\n") == changed
        finally:
            process.kill()
