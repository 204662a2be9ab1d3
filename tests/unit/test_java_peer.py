"""The Kafka Streams peer: built once for each state of its sources, and told the rows as the model has them."""

import os
from pathlib import Path

import pytest

from models.bundle import Bundle
from stream.errors import InterestError, UsageError
from tests.benchmarks import java_peer
from tests.benchmarks.load import Event
from tests.bundles import random_bundle

# What Maven does as far as we see it: the jar beside the pom, and the others in the output folder.
MAVEN = """#!/bin/sh
while [ $# -gt 0 ]; do
  case "$1" in -f) pom="$2";; -DoutputDirectory=*) lib="${1#*=}";; esac
  shift
done
mkdir -p "$lib" && echo jar > "$lib/kafka-streams.jar" && echo jar > "$(dirname "$pom")/target/peer.jar"
echo built >> "$MAVEN_LOG"
"""


@pytest.fixture
def maven_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, a Maven of ours that notes each build in this file, and sources that may be changed."""
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "pom.xml").write_text("<project/>")
    (sources / "Peer.java").write_text("class Peer {}")
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    maven.write_text(MAVEN)
    maven.chmod(0o755)
    monkeypatch.setattr(java_peer, "SOURCES", sources)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{maven.parent}{os.pathsep}/bin")
    monkeypatch.setenv("MAVEN_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small model; item b is of no category."""
    folder = tmp_path_factory.mktemp("bundle")
    return random_bundle(folder, item_ids=["a", "b"], item_categories=["shoes", ""], hidden=4, dim=3)


def test_built_once_until_a_source_changes(maven_log: Path) -> None:
    """The jars are kept; another source is built anew beside them."""
    jars = java_peer.build()
    assert ["kafka-streams.jar", "peer.jar"] == sorted(file.name for file in jars.iterdir())
    assert jars == java_peer.build()
    assert 1 == maven_log.read_text().count("built")
    (java_peer.SOURCES / "Peer.java").write_text("class Peer { int more; }")
    assert jars != java_peer.build()
    assert 2 == maven_log.read_text().count("built")


def test_what_is_missing_or_fails_is_named(maven_log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line each: a build that fails with what Maven said first, and no Maven at all; nothing is kept."""
    maven = tmp_path / "bin" / "mvn"
    maven.write_text("#!/bin/sh\necho '[ERROR] no such version'\nexit 1\n")
    with pytest.raises(InterestError, match=r"^Maven could not build .* \(exit code 1\): \[ERROR\] no such version$"):
        java_peer.build()
    assert [] == list((tmp_path / "cache" / "interest-stream").iterdir())
    assert not maven_log.exists()
    maven.unlink()
    monkeypatch.setenv("PATH", str(maven.parent))
    with pytest.raises(UsageError, match=r"^Maven \(mvn\) is needed once"):
        java_peer.build()


def test_catalog_holds_rows_as_the_model_has_them(bundle: Bundle, tmp_path: Path) -> None:
    """Types in their order, states with widths, items with their rows and their categories' rows."""
    java_peer.write_catalog(bundle, tmp_path / "given")
    lines = [line.split("\t") for line in (tmp_path / "given" / "catalog.tsv").read_text().splitlines()]
    found = {kind: [cells for name, *cells in lines if name == kind] for kind in {line[0] for line in lines}}
    assert [[bundle.version]] == found["model"]
    assert [["hidden", "4"], ["cell", "4"]] == found["state"]
    assert [[name] for name in bundle.event_types] == found["type"]
    assert [[name] for name in bundle.inputs] == found["input"]
    assert [["shoes", "1"]] == found["category"]
    assert [["a", "1", "1"], ["b", "2", "0"]] == found["item"]
    assert bundle.encoder == (tmp_path / "given" / "encoder.onnx").read_bytes()


def test_deviation_sees_a_wrong_vector_and_a_missing_update(bundle: Bundle) -> None:
    """The check of the peer's updates can fail: by a vector, by what is missing, by what is there twice."""
    event: Event = {"user_id": "u", "type": "click", "item_id": "a", "timestamp": 1_511_658_000_000}
    update = {"user_id": "u", "version": 1, "events": 1, "timestamp": event["timestamp"], "vector": [0.0, 0.0, 0.0]}
    assert java_peer.deviation(bundle, [event], [update]) > 0.1
    with pytest.raises(InterestError, match="versions 1 to 2 expected"):
        java_peer.deviation(bundle, [event, event], [update])
    with pytest.raises(InterestError, match="two updates of version 1"):
        java_peer.deviation(bundle, [event], [update, dict(update)])
