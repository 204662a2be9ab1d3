"""Real events through a real broker: every user ends with the very window, and within 1e-5 the vector, of a reference.

The reference reads the CSV, builds windows in plain Python and runs the model over whole windows from zero state.
"""

from functools import partial
from pathlib import Path

import pytest

from tests.integration import taobao as data
from tests.integration.conftest import Names
from tests.integration.taobao import Name, Taobao, assert_exact
from tests.integration.workers import Feed, Topics, Worker, create_topics, publish, wait_for


@pytest.fixture(scope="module")
def taobao(tmp_path_factory: pytest.TempPathFactory) -> Taobao:
    """The model and the replays, made once."""
    return data.make(tmp_path_factory)


def test_reference_says_what_is_known(taobao: Taobao) -> None:
    """The reference itself, against figures counted apart from it: events, versions, windows, cuts and late events."""
    whole, histories, late = (taobao.replay(name).reference for name in ("slice", "histories", "late"))

    assert {"accepted": 96_168} == whole.outcomes
    assert 58_732 == len(whole.users)
    assert {"accepted": 84_475} == histories.outcomes
    assert 815 == len(histories.users)
    assert 28_002 == sum(len(user.events) for user in histories.users.values())
    assert 545 == sum(user.version > 50 for user in histories.users.values())
    assert {"accepted", "late"} == late.outcomes.keys()
    assert 84_475 == late.outcomes["accepted"] + late.outcomes["late"]
    assert late.outcomes["late"] > 100
    assert sum(bool(user.floor) for user in late.users.values()) > 500


@pytest.mark.parametrize("name", ["slice", "histories", "late"])
def test_one_worker(name: Name, names: Names, taobao: Taobao, tmp_path: Path) -> None:
    """One worker leaves what the reference says; the slice's line of time 15 is the one dead letter (P1, P2, P5)."""
    replay = taobao.replay(name)
    create_topics(names)

    with Worker(names, taobao.model.bundle.folder, tmp_path / "state") as worker, Topics(names) as topics:
        worker.wait_ready()
        publish(names, replay.file)
        topics.wait_done(worker)
        assert 0 == worker.stop()

    assert_exact(names, taobao, replay)


def test_second_worker_joins_midway(names: Names, taobao: Taobao, tmp_path: Path) -> None:
    """A second worker joins in the middle and takes half of the partitions; all counts once (P2, P3)."""
    replay = taobao.replay("late")
    model = taobao.model.bundle.folder
    create_topics(names)

    with Worker(names, model, tmp_path / "one") as one, Topics(names) as topics:
        one.wait_ready()
        with Feed(names, replay.file) as feed:
            wait_for(partial(topics.has_done, 5000), 60, [one])
            with Worker(names, model, tmp_path / "two") as two:
                two.wait_ready()
                before = topics.committed()
                feed.finish()
                topics.wait_done(one, two)
                assert [0, 1, 2, 3] == sorted(one.partitions() + two.partitions())
                assert 2 == len(two.partitions())
                after = topics.committed()
                assert all(after[partition] > before[partition] for partition in two.partitions())
                assert 0 == two.stop()
            assert 0 == one.stop()

    assert_exact(names, taobao, replay)
