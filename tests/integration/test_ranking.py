"""What evaluation says of a bundle is what a consumer of its updates would have seen."""

import time
from pathlib import Path

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from models import bundle as bundles
from models.log import read as read_log
from models.measure import Question, measure
from models.prequential import go_through
from models.simulator import Shop, simulate
from stream.contract import hash64
from stream.rules import Rules
from tests.integration.conftest import Names
from tests.integration.workers import Topics, Worker, create_topics, environment, interest, last_values, read
from tests.logs import write_log

DAY_MS = 86_400_000
RULES = Rules(max_events=50, keep_events=25, max_age_ms=30 * DAY_MS, idle_ttl_ms=90 * DAY_MS)
SHOP = Path(__file__).parents[2] / "models" / "shop"


def test_updates_rank_as_evaluation_says(names: Names, tmp_path: Path) -> None:
    """A worker on a real broker: before each user's last event, the update's vector is evaluation's, and so is HR@k.

    The worker takes all events but each user's last; what it published then is ranked here by a consumer's dot product.
    """
    end_ms = int(time.time() * 1000) - 60_000
    events = list(simulate(Shop(), users=300, events=6_000, end_ms=end_ms, seed=11))
    last = {event["user_id"]: number for number, event in enumerate(events)}
    asked = set(last.values())
    whole = write_log(tmp_path / "whole.jsonl", events)
    before = write_log(tmp_path / "before.jsonl", [one for number, one in enumerate(events) if number not in asked])
    create_topics(names)

    with Worker(names, SHOP, tmp_path / "state") as worker, Topics(names) as topics:
        worker.wait_ready()
        done = interest("publish", before, env=environment(names))
        assert 0 == done.returncode, done.stderr
        topics.wait_done(worker)
        assert 0 == worker.stop()
    updates = {
        key.decode(): np.array(orjson.loads(record.value)["vector"], np.float32)
        for key, record in last_values(read(names.broker, names.update_topic)).items()
    }

    bundle = bundles.load(SHOP)
    log = read_log(whole)
    told = measure(log, bundle, RULES, Question(last=True))
    assert len(last) == told["asked"]
    theirs = go_through(log, bundle, RULES, np.isin(np.arange(len(log.events)), log.starts[1:] - 1))
    target = np.array([hash64(events[number]["item_id"]) for number in last.values()], np.uint64)
    rows = bundle.features.items.find(target)
    places = []
    for user, row in zip(last, rows.tolist(), strict=True):
        vector: NDArray[np.float32] = updates.get(user, np.zeros(bundle.dim, np.float32))
        score = bundle.items[1:] @ vector
        places.append(int((score >= score[row - 1]).sum()) - 1 if vector.any() else bundle.catalog.items)
        if vector.any():
            assert np.abs(theirs.vectors - vector).max(axis=1).min() <= 1e-5
    assert len(updates) == int((theirs.held > 0).sum()) > 150
    for top in (5, 10, 20):
        hr = float(np.mean(np.array(places) < top))
        assert hr == pytest.approx(told["systems"]["model"]["item"]["hr"][str(top)], abs=1e-4)
    assert told["systems"]["model"]["item"]["hr"]["10"] > 0.3
