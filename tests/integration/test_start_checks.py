"""What keeps a worker from starting: one plain line that says what to do, and the right exit code, by real starts."""

import re
import shutil
import socket
from pathlib import Path

import pytest

from models.bundle import Bundle
from stream.connect import admin
from stream.security import Cluster
from stream.topics import describe
from tests.bundles import random_bundle
from tests.integration.conftest import Names
from tests.integration.workers import Worker, create_topics, environment, interest


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small model that works."""
    return random_bundle(tmp_path_factory.mktemp("model") / "bundle", item_ids=["a"], item_categories=["c"])


def failure(names: Names, code: int, *arguments: str, **settings: object) -> str:
    """The one line that a worker says when it cannot start; all else that it prints are lines of its log."""
    done = interest("worker", *arguments, env=environment(names, **settings), timeout_s=30)
    lines = done.stderr.splitlines()
    assert code == done.returncode, done.stderr
    assert done.stdout == ""
    assert [lines[-1]] == [line for line in lines if not re.match(r"\d{4}-\d\d-\d\d ", line)], done.stderr
    assert lines[-1].startswith("error: ")
    return lines[-1].removeprefix("error: ")


def make_topic(broker: str, name: str, partitions: int) -> None:
    """A topic as somebody else may have made it."""
    with admin(Cluster(broker)) as client:
        client.create_topics({name: {"num_partitions": partitions, "replication_factor": 1}})
        client.wait_for_topics([name])


def test_no_topics(names: Names, bundle: Bundle, tmp_path: Path) -> None:
    """All four topics are missing: all are named, and the command that makes them."""
    line = failure(names, 1, model=bundle.folder, data_dir=tmp_path)

    for topic in (names.event_topic, names.update_topic, names.deadletter_topic, names.changelog_topic):
        assert topic in line
    assert "`interest topics create`" in line


@pytest.mark.parametrize("which", ["event_topic", "update_topic", "deadletter_topic", "changelog_topic"])
def test_one_topic_is_missing(which: str, names: Names, bundle: Bundle, tmp_path: Path) -> None:
    """Each topic is looked for; only the one that is missing is named, and nothing makes it by itself."""
    for topic in ("event_topic", "update_topic", "deadletter_topic", "changelog_topic"):
        if topic != which:
            make_topic(names.broker, getattr(names, topic), 4)

    line = failure(names, 1, model=bundle.folder, data_dir=tmp_path)

    assert re.findall(r"(?:app|events|updates|dead)-[\w-]+", line) == [getattr(names, which)]
    assert "`interest topics create`" in line
    assert list(describe(names.cluster, [getattr(names, which)])) == []


@pytest.mark.parametrize("which", ["event_topic", "update_topic", "changelog_topic"])
def test_partition_counts_differ(which: str, names: Names, bundle: Bundle, tmp_path: Path) -> None:
    """Events, updates and changelog must have equal counts: both numbers and the topics are named (K09)."""
    for topic in ("event_topic", "update_topic", "deadletter_topic", "changelog_topic"):
        make_topic(names.broker, getattr(names, topic), 5 if topic == which else 8)

    line = failure(names, 1, model=bundle.folder, data_dir=tmp_path)

    assert f"{getattr(names, which)} has 5" in line
    assert "has 8" in line
    assert "`interest topics create`" in line


def test_dead_letters_may_have_other_counts(names: Names, bundle: Bundle, tmp_path: Path) -> None:
    """Only events, updates and changelog must agree; a worker starts with one partition for dead letters, and stops."""
    for topic in ("event_topic", "update_topic", "changelog_topic"):
        make_topic(names.broker, getattr(names, topic), 3)
    make_topic(names.broker, names.deadletter_topic, 1)

    with Worker(names, bundle.folder, tmp_path / "state") as worker:
        worker.wait_ready()
        assert worker.partitions() == [0, 1, 2]
        assert worker.stop() == 0


def test_no_model(names: Names, tmp_path: Path) -> None:
    """A worker without a model says how to name one; a folder that is not there is named."""
    assert "INTEREST_MODEL" in failure(names, 2, data_dir=tmp_path)
    assert str(tmp_path / "nowhere") in failure(names, 1, model=tmp_path / "nowhere", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "share"), [("encoder.onnx", 0), ("encoder.onnx", 0.99), ("items.npy", 0.5), ("bundle.json", 0.5)]
)
def test_bundle_is_cut(name: str, share: float, names: Names, bundle: Bundle, tmp_path: Path) -> None:
    """A file of the bundle that is cut is named (M05)."""
    folder = tmp_path / "bundle"
    shutil.copytree(bundle.folder, folder)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(len(whole) * share)])

    assert name in failure(names, 1, model=folder, data_dir=tmp_path / "state")


def test_bundle_is_not_what_it_says(names: Names, bundle: Bundle, tmp_path: Path) -> None:
    """A file that is missing, of another bundle, or a Git LFS pointer is named (M05, M07)."""
    other = random_bundle(tmp_path / "other", item_ids=["a"], item_categories=["c"], seed=1)
    for number, change in enumerate(("missing", "other", "pointer")):
        folder = tmp_path / f"bundle-{number}"
        shutil.copytree(bundle.folder, folder)
        encoder = folder / "encoder.onnx"
        if change == "missing":
            encoder.unlink()
        elif change == "other":
            shutil.copy(other.folder / "encoder.onnx", encoder)
        else:
            encoder.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
        line = failure(names, 1, model=folder, data_dir=tmp_path / "state")
        assert "encoder.onnx" in line
        assert ("git lfs pull" in line) == (change == "pointer")


def test_wrong_settings(names: Names, bundle: Bundle, tmp_path: Path) -> None:
    """Several wrong settings are told in one line: unknown names with the one meant, values with what was expected."""
    line = failure(
        names,
        2,
        model=bundle.folder,
        data_dir=tmp_path,
        window_max_event=50,
        batch_max_events="many",
        store="disk",
        commit_interval_s=-1,
    )

    assert "INTEREST_WINDOW_MAX_EVENT: no such setting, did you mean INTEREST_WINDOW_MAX_EVENTS?" in line
    for name, value in (("BATCH_MAX_EVENTS", "'many'"), ("STORE", "'disk'"), ("COMMIT_INTERVAL_S", "'-1'")):
        assert re.search(rf"INTEREST_{name}: [^|]*{value}", line)


def test_settings_that_contradict(names: Names, bundle: Bundle, tmp_path: Path) -> None:
    """Settings that are right alone and wrong together are told with both values."""
    line = failure(names, 2, model=bundle.folder, data_dir=tmp_path, window_keep_events=50, heartbeat_s=9)

    assert "window_keep_events" in line
    assert "50" in line
    assert "heartbeat_s" in line
    assert "got 9" in line


def test_option_goes_before_the_environment(names: Names, bundle: Bundle, tmp_path: Path) -> None:
    """A wrong option is told as the setting is, whatever the environment says."""
    line = failure(names, 2, "--batch-max-events", "none", model=bundle.folder, data_dir=tmp_path, batch_max_events=5)

    assert "INTEREST_BATCH_MAX_EVENTS" in line
    assert "'none'" in line


def test_dead_broker(names: Names, bundle: Bundle, tmp_path: Path) -> None:
    """No broker at the address, and an address that is none: named, with what to do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        line = failure(names, 1, model=bundle.folder, data_dir=tmp_path, broker=address)
    assert address in line
    assert "--broker" in line

    line = failure(names, 2, model=bundle.folder, data_dir=tmp_path, broker="nonsense")
    assert "'nonsense'" in line
    assert "HOST:PORT" in line


def test_something_else_answers(names: Names, bundle: Bundle, tmp_path: Path) -> None:
    """A port where something listens that is no broker is told like a dead one, within seconds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert address in failure(names, 1, model=bundle.folder, data_dir=tmp_path, broker=address)


def test_data_folder_cannot_be_made(names: Names, bundle: Bundle, tmp_path: Path) -> None:
    """A data folder that is a file ends the start with a line that names it."""
    create_topics(names)
    (tmp_path / "file").write_text("")

    assert str(tmp_path / "file") in failure(names, 1, model=bundle.folder, data_dir=tmp_path / "file")


def test_data_folder_is_made(names: Names, bundle: Bundle, tmp_path: Path) -> None:
    """A data folder is made with the folders above it."""
    create_topics(names)

    with Worker(names, bundle.folder, tmp_path / "some" / "where" / "else") as worker:
        worker.wait_ready()
        assert worker.stop() == 0


def test_data_folder_of_another_worker(names: Names, bundle: Bundle, tmp_path: Path) -> None:
    """Two workers cannot share a data folder: the second is told so, and the first is not disturbed."""
    create_topics(names)

    with Worker(names, bundle.folder, tmp_path / "state") as worker:
        worker.wait_ready()
        assert str(tmp_path / "state") in failure(names, 1, model=bundle.folder, data_dir=tmp_path / "state")
        assert worker.partitions() == [0, 1, 2, 3]
        assert worker.said.count("ready: ") == 1
