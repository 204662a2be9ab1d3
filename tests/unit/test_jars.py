"""Java and Kafka's jars: found, fetched once, and named plainly when they cannot be had."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stream.errors import BrokerError
from stream.jars import fetch_jars, find_java, find_pom, kafka_version

# What Maven does as far as we see it: it makes the output folder and fills it.
MAVEN = """#!/bin/sh
for word in "$@"; do case "$word" in -DoutputDirectory=*) folder="${word#*=}";; esac; done
sleep 0.2
mkdir -p "$folder" && echo jar > "$folder/kafka.jar"
"""


def put(folder: Path, name: str, script: str) -> Path:
    """An executable script in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(script)
    path.chmod(0o755)
    return path


def java(version: str) -> str:
    """A Java that only tells its version."""
    return f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-01-01' >&2\n"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is first on PATH, an empty cache folder, no JAVA_HOME."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/bin")
    return tmp_path / "bin"


def only(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Nothing but `path` on PATH."""
    monkeypatch.setenv("PATH", str(path))


@pytest.mark.parametrize("version", ["17", "17.0.15", "21.0.2", "26-ea"])
def test_java_is_found(path: Path, version: str) -> None:
    """Java 17 and anything newer will do."""
    installed = put(path, "java", java(version))
    assert find_java() == str(installed)


def test_java_home_goes_first(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JAVA_HOME is preferred, and passed over if it is too old."""
    on_path = put(path, "java", java("21"))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    own = put(tmp_path / "home" / "bin", "java", java("17"))
    assert find_java() == str(own)
    put(tmp_path / "home" / "bin", "java", java("11.0.1"))
    assert find_java() == str(on_path)


def test_no_java(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Java, with an old one or a broken one: one line on what to install and what to do otherwise."""
    only(monkeypatch, path)
    told = (
        "the development broker needs Java 17 or newer, found {}; install one "
        "(Debian/Ubuntu: apt install openjdk-17-jre-headless), or name a broker that runs with --broker HOST:PORT"
    )
    with pytest.raises(BrokerError) as caught:
        find_java()
    assert str(caught.value) == told.format("none")

    put(path, "java", java("1.8.0_402"))
    with pytest.raises(BrokerError) as caught:
        find_java()
    assert str(caught.value) == told.format(f"{path}/java (version 8)")

    put(path, "java", "#!/bin/sh\nexit 1\n")
    with pytest.raises(BrokerError) as caught:
        find_java()
    assert str(caught.value) == told.format(f"{path}/java (broken)")


def test_jars_are_fetched_once(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call says that it downloads; later ones need no Maven and say nothing."""
    put(path, "mvn", MAVEN)
    version = kafka_version(find_pom())
    told: list[str] = []
    jars = fetch_jars(told.append)
    assert jars == tmp_path / "cache" / "interest-stream" / f"kafka-{version}"
    assert [file.name for file in jars.iterdir()] == ["kafka.jar"]
    assert told == [f"fetching Kafka {version} by Maven, once: about 44 MB"]

    only(monkeypatch, tmp_path)
    assert fetch_jars(told.append) == jars
    assert len(told) == 1


def test_two_fetch_at_once(path: Path, tmp_path: Path) -> None:
    """Processes that start together both get the jars; nothing else stays in the cache."""
    put(path, "mvn", MAVEN)
    script = "from stream.jars import fetch_jars; print(fetch_jars(lambda line: None))"
    both = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = {process.communicate(timeout=30)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert folders == {str(folder) for folder in (tmp_path / "cache" / "interest-stream").iterdir()}


def test_maven_fails(path: Path, tmp_path: Path) -> None:
    """What Maven said first is told, and nothing half done stays."""
    put(path, "mvn", "#!/bin/sh\necho '[ERROR] Unknown host repo.maven.apache.org'\necho '[ERROR] more'\nexit 1\n")
    with pytest.raises(BrokerError) as caught:
        fetch_jars(lambda _line: None)
    assert str(caught.value) == (
        "Maven could not bring Kafka (exit code 1): [ERROR] Unknown host repo.maven.apache.org"
    )
    assert list((tmp_path / "cache" / "interest-stream").iterdir()) == []


def test_no_maven(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Maven and without jars: what to install, and what to do otherwise."""
    only(monkeypatch, path)
    with pytest.raises(BrokerError, match=r"^Maven \(mvn\) is needed once, .* apt install maven\), or name a broker"):
        fetch_jars(lambda _line: None)


def test_cache_that_cannot_be_written(path: Path, tmp_path: Path) -> None:
    """A cache folder in the way is named."""
    put(path, "mvn", MAVEN)
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(BrokerError, match=r"^cannot keep Kafka's jars in .*/cache/interest-stream/kafka-.*: "):
        fetch_jars(lambda _line: None)
