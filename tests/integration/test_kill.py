"""Workers that end in the middle of a replay: after a restart all is as if nothing had happened.

With local state on disk, and with several workers, it is tested beside all other faults (test_faults).
"""

import signal
from functools import partial
from pathlib import Path

import pytest

from tests.integration import taobao as data
from tests.integration.conftest import Names
from tests.integration.taobao import Taobao, assert_exact
from tests.integration.workers import Topics, Worker, create_topics, publish, wait_for

# Small batches and frequent commits, so that a kill falls between any two steps of the work.
SETTINGS = {"batch_max_events": 500, "commit_interval_s": 0.2, "session_timeout_s": 4, "heartbeat_s": 1}


@pytest.fixture(scope="module")
def taobao(tmp_path_factory: pytest.TempPathFactory) -> Taobao:
    """The model and the replays, made once."""
    return data.make(tmp_path_factory)


def test_killed_and_restarted(names: Names, taobao: Taobao, tmp_path: Path) -> None:
    """kill -9 again and again in the middle of a replay, the table in memory: still exact (P2, P3, P4, W06, L03)."""
    replay, model = taobao.replay("late"), taobao.model.bundle.folder
    create_topics(names)
    publish(names, replay.file)

    with Topics(names) as topics:
        for _ in range(3):
            kill_when_it_writes(names, topics, model, tmp_path / "state", store="memory")
        with Worker(names, model, tmp_path / "state", store="memory", **SETTINGS) as worker:
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


def test_stopped_midway(names: Names, taobao: Taobao, tmp_path: Path) -> None:
    """SIGINT ends a worker with code 0 in the middle of its work, all it did committed; the next goes on (P2, P3)."""
    replay, model = taobao.replay("histories"), taobao.model.bundle.folder
    create_topics(names)
    publish(names, replay.file)

    with Topics(names) as topics:
        with Worker(names, model, tmp_path / "one", **SETTINGS) as worker:
            wait_for(partial(topics.has_updates, 1), 60, [worker])
            assert 0 == worker.stop(signal.SIGINT)
            assert "Traceback" not in worker.said
        assert 0 < topics.lag() < 84_475, "the replay was over before the signal"
        with Worker(names, model, tmp_path / "one", **SETTINGS) as worker:
            topics.wait_done(worker)
            assert 0 == worker.stop(signal.SIGINT)

    assert_exact(names, taobao, replay)
