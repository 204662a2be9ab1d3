"""Models that are swapped, taken back, tried in the shadow and given to all users while a fleet works."""

import json
import re
from functools import partial
from operator import ne
from pathlib import Path

import pytest

from models.place import Place
from tests.bundles import random_bundle
from tests.integration import taobao as data
from tests.integration.conftest import Names
from tests.integration.taobao import Taobao, assert_exact, newest_updates
from tests.integration.workers import (
    Feed,
    Topics,
    Worker,
    create_topics,
    environment,
    interest,
    publish,
    read,
    wait_for,
)
from tests.reference import Model

SWAPS = 20
#: Growth of the worker's memory from the 8th swap to the 20th; a bundle here takes 7 MB, a leak of each would be 84.
GROWTH_MAX_MB = 30


@pytest.fixture(scope="module")
def taobao(tmp_path_factory: pytest.TempPathFactory) -> Taobao:
    """The model and the replays, made once."""
    return data.make(tmp_path_factory)


@pytest.fixture(scope="module")
def other(taobao: Taobao, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A second model, of other dimensions."""
    catalog = taobao.model.bundle.catalog
    ids = [str(one) for one in catalog.item_ids[1:]]
    categories = [str(one) for one in catalog.category_ids[catalog.item_category[1:]]]
    folder = tmp_path_factory.mktemp("other") / "bundle"
    return Model(random_bundle(folder, item_ids=ids, item_categories=categories, hidden=48, dim=24, seed=7))


class SlowFeed(Feed):
    """Lasts for all the swaps, on a slow machine too."""

    PACE_S = 0.5


def resident_mb(worker: Worker) -> float:
    """Memory of the process, MB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{worker.process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1000


def test_swaps_under_load(names: Names, taobao: Taobao, other: Model, tmp_path: Path) -> None:
    """Twenty swaps while events flow: none is lost, no vector is wrong, and memory levels off (M01, P1, P3, P9)."""
    replay, place = taobao.replay("late"), Place(str(tmp_path / "place"))
    models = (taobao.model.bundle, other.bundle)
    place.deploy(models[0].folder)
    create_topics(names)
    resident: list[float] = []

    with (
        Topics(names) as topics,
        Worker(names, tmp_path / "place", tmp_path / "state", model_check_s=0.1, batch_max_events=500) as worker,
    ):
        worker.wait_ready()
        with SlowFeed(names, replay.file) as feed:
            wait_for(partial(topics.has_updates, 100), 60, [worker])
            for swap in range(1, SWAPS + 1):
                place.deploy(models[swap % 2].folder)
                wait_for(lambda: worker.said.count("takes over from") == swap, 60, [worker])  # noqa: B023
                # What was in hand is acknowledged: the next update is the new model's.
                wait_for(partial(topics.has_updates, topics.updates() + 1), 60, [worker])
                resident.append(resident_mb(worker))
            feed.finish()
        topics.wait_done(worker)
        assert 0 == worker.stop()

    assert_exact(names, taobao, replay, other)
    in_time = sorted(read(names.broker, names.update_topic), key=lambda record: record.timestamp)
    served = [json.loads(record.value)["model"] for record in in_time]
    assert sum(map(ne, served, served[1:])) >= SWAPS, "a model has served without an update"
    assert resident[-1] - resident[7] < GROWTH_MAX_MB, resident


def test_refused_rolled_back_and_republished(names: Names, taobao: Taobao, other: Model, tmp_path: Path) -> None:
    """A bad bundle never serves; a good one does, is taken back by one command, and all users follow (P9, M05)."""
    replay, where = taobao.replay("histories"), tmp_path / "place"
    env = environment(names, model=where)
    assert 0 == interest("model", "deploy", taobao.model.bundle.folder, where, env=env).returncode
    create_topics(names)
    publish(names, replay.file)

    with Topics(names) as topics, Worker(names, where, tmp_path / "state", model_check_s=0.1) as worker:
        topics.wait_done(worker)

        spoilt = where / other.bundle.version
        Place(str(where)).deploy(other.bundle.folder)
        wait_for(lambda: "takes over from" in worker.said, 30, [worker])
        (spoilt / "encoder.onnx").write_bytes(b"")
        wait_for(lambda: "new serving model refused" in worker.said, 30, [worker])

        done = interest("republish", "--rate", "500", env=env | {"INTEREST_MODEL": str(other.bundle.folder)})
        assert 0 == done.returncode, done.stderr
        users = len(replay.keys)
        assert f"{users:,} users, {users:,} with a vector of another model" in done.stdout
        assert f"{users:,} have one of it now, 0 whom no worker knows" in done.stdout
        latest = newest_updates(read(names.broker, names.update_topic))
        assert {other.bundle.version} == {update["model"] for update in latest.values()}
        assert_exact(names, taobao, replay, other)

        back = interest("model", "rollback", where, env=env)
        assert f"{taobao.model.bundle.version} is to be served again" in back.stdout, back.stderr
        wait_for(lambda: worker.said.count("takes over from") == 2, 30, [worker])
        assert 0 == interest("republish", "--rate", "20000", env=env).returncode
        assert_exact(names, taobao, replay)

        wrong = interest("republish", "--model-version", "0123456789abcdef", "--rate", "20000", env=env)
        assert 1 == wrong.returncode
        assert f"workers still answer with {taobao.model.bundle.version}" in wrong.stderr
        assert 0 == worker.stop()


def test_shadow(names: Names, taobao: Taobao, other: Model, tmp_path: Path) -> None:
    """A second model runs over its share of the users, into a topic of its own, and the first one is as without it."""
    replay = taobao.replay("histories")
    topic = f"{names.update_topic}-shadow"
    settings = {"shadow_model": other.bundle.folder, "shadow_topic": topic, "shadow_share": 0.5}
    done = interest("topics", "create", env=environment(names, **settings))
    assert f"created {topic}: 4 partitions" in done.stdout, done.stderr
    publish(names, replay.file)

    with (
        Topics(names) as topics,
        Worker(names, taobao.model.bundle.folder, tmp_path / "state", batch_max_events=3000, **settings) as worker,
    ):
        topics.wait_done(worker)
        assert 0 == worker.stop()

    assert_exact(names, taobao, replay)
    shadow = newest_updates(read(names.broker, topic))
    assert 0.4 < len(shadow) / len(replay.keys) < 0.6
    keys = sorted(shadow)
    expected = other.vectors([replay.reference.users[key].events for key in keys])
    for row, key in enumerate(keys):
        update = shadow[key]
        assert (other.bundle.version, replay.reference.users[key].version) == (update["model"], update["version"])
        assert expected[row].tolist() == pytest.approx(update["vector"], abs=data.TOLERANCE)
