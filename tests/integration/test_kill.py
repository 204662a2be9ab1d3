"""Workers that are killed in the middle of a replay: after a restart all is as if nothing had happened."""

import signal
from functools import partial
from pathlib import Path

import pytest

from tests.integration import taobao as data
from tests.integration.conftest import Names
from tests.integration.taobao import Taobao, assert_exact
from tests.integration.workers import Feed, Topics, Worker, create_topics, publish, wait_for

# Small batches and frequent commits, so that a kill falls between any two steps of the work.
SETTINGS = {"batch_max_events": 500, "commit_interval_s": 0.2, "session_timeout_s": 4, "heartbeat_s": 1}


@pytest.fixture(scope="module")
def taobao(tmp_path_factory: pytest.TempPathFactory) -> Taobao:
    """The model and the replays, made once."""
    return data.make(tmp_path_factory)


@pytest.mark.parametrize("store", ["rocksdb", "memory"])
def test_killed_and_restarted(store: str, names: Names, taobao: Taobao, tmp_path: Path) -> None:
    """kill -9 again and again in the middle of a replay, each time started anew: still exact (P2, P3, P4, W06, L03)."""
    replay, model = taobao.replay("late"), taobao.model.bundle.folder
    create_topics(names)
    publish(names, replay.file)

    with Topics(names) as topics:
        for _ in range(3):
            kill_when_it_writes(names, topics, model, tmp_path / "state", store=store)
        with Worker(names, model, tmp_path / "state", store=store, **SETTINGS) as worker:
            topics.wait_done(worker)
            assert 0 == worker.stop()

    assert_exact(names, taobao, replay)


def test_state_is_lost(names: Names, taobao: Taobao, tmp_path: Path) -> None:
    """Killed, and started anew elsewhere, without the local state: the changelog gives it back (P2, P4)."""
    replay, model = taobao.replay("slice"), taobao.model.bundle.folder
    create_topics(names)
    publish(names, replay.file)

    with Topics(names) as topics:
        kill_when_it_writes(names, topics, model, tmp_path / "one")
        with Worker(names, model, tmp_path / "two", **SETTINGS) as worker:
            topics.wait_done(worker)
            assert 0 == worker.stop()

    assert_exact(names, taobao, replay)


def kill_when_it_writes(names: Names, topics: Topics, model: Path, state: Path, **settings: object) -> None:
    """Start a worker and kill it once new updates are there: before or after it writes its table, and commits."""
    before = topics.updates()
    with Worker(names, model, state, **SETTINGS, **settings) as worker:
        wait_for(partial(topics.has_updates, before + 1), 60, [worker])
        worker.kill()
    assert topics.lag() > 0, "the replay was over before the kill"


def test_one_of_two_is_killed(names: Names, taobao: Taobao, tmp_path: Path) -> None:
    """Two workers, one is killed in the middle: the other takes over its partitions, still exact (P2, P3, P4)."""
    replay, model = taobao.replay("late"), taobao.model.bundle.folder
    create_topics(names)

    with (
        Topics(names) as topics,
        Worker(names, model, tmp_path / "one", **SETTINGS) as one,
        Worker(names, model, tmp_path / "two", **SETTINGS) as two,
    ):
        wait_for(lambda: len(one.partitions()) == len(two.partitions()) == 2, 60, [one, two])
        with Feed(names, replay.file) as feed:
            wait_for(partial(topics.has_done, 10_000), 60, [one, two])
            two.kill()
            feed.finish()
        topics.wait_done(one)
        assert 4 == len(one.partitions())
        assert 0 == one.stop()

    assert_exact(names, taobao, replay)


def test_one_of_two_hangs(names: Names, taobao: Taobao, tmp_path: Path) -> None:
    """A worker that hangs beyond its session and wakes when another has its partitions spoils nothing (P2, P3)."""
    replay, model = taobao.replay("late"), taobao.model.bundle.folder
    create_topics(names)

    with (
        Topics(names) as topics,
        Worker(names, model, tmp_path / "one", **SETTINGS) as one,
        Worker(names, model, tmp_path / "two", **SETTINGS) as two,
    ):
        wait_for(lambda: len(one.partitions()) == len(two.partitions()) == 2, 60, [one, two])
        with Feed(names, replay.file) as feed:
            wait_for(partial(topics.has_done, 10_000), 60, [one, two])
            two.process.send_signal(signal.SIGSTOP)
            wait_for(lambda: len(one.partitions()) == 4, 60, [one])
            two.process.send_signal(signal.SIGCONT)
            feed.finish()
        topics.wait_done(one)
        assert one.stop() == 0

    assert_exact(names, taobao, replay)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_midway(number: signal.Signals, names: Names, taobao: Taobao, tmp_path: Path) -> None:
    """A signal ends a worker with code 0 in the middle of its work, all it did committed; the next goes on (P2, P3)."""
    replay, model = taobao.replay("histories"), taobao.model.bundle.folder
    create_topics(names)
    publish(names, replay.file)

    with Topics(names) as topics:
        with Worker(names, model, tmp_path / "one", **SETTINGS) as worker:
            wait_for(partial(topics.has_updates, 1), 60, [worker])
            assert 0 == worker.stop(number)
            assert "Traceback" not in worker.said
        assert 0 < topics.lag() < 84_475, "the replay was over before the signal"
        with Worker(names, model, tmp_path / "one", **SETTINGS) as worker:
            topics.wait_done(worker)
            assert 0 == worker.stop(number)

    assert_exact(names, taobao, replay)
