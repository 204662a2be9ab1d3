"""A search for options: within its budget, on later events only, the same again, and what it finds can be run."""

import shlex
from pathlib import Path

import numpy as np
import orjson
import pytest

from models import bundle as bundles
from models.options import Options
from stream.commands import run as interest
from stream.rules import Rules
from tests.logs import END_MS, event, shop_log, write_log

pytestmark = pytest.mark.torch

RULES = Rules(max_events=50, keep_events=25, max_age_ms=30 * 86_400_000, idle_ttl_ms=90 * 86_400_000)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small shop's."""
    return shop_log(tmp_path_factory.mktemp("tune") / "log.jsonl", events=3_000, users=60)


def test_what_is_found_is_a_command(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last line trains a bundle; the file holds what was tried, the options as they were first."""
    output = tmp_path / "tried.json"
    given = ["model", "tune", str(log), "--minutes=9", "--trials=2", "--epochs=2", "--unseen", "--output", str(output)]
    assert 0 == interest(given)
    lines = capsys.readouterr().out.splitlines()
    tried = orjson.loads(output.read_bytes())
    assert 2 >= len(tried["tried"]) >= 1
    assert (48, 64, 2) == tuple(tried["tried"][0][name] for name in ("dim", "hidden", "epochs"))
    assert tried["hr@10"] == pytest.approx(max(one["hr@10"] for one in tried["tried"]))
    assert {"category_index", "price", "quantity", "rating"} == set(tried["without"])
    words = shlex.split(lines[-1].replace("FOLDER", str(tmp_path / "b")))
    assert ["interest", "model", "train"] == words[:3]
    assert "--unseen" in words
    assert 0 == interest([*words[1:], "--compare=no"])
    assert tried["options"] == bundles.load(tmp_path / "b").metrics["options"]


def test_the_same_seed_searches_the_same(log: Path) -> None:
    """Proposals and scores are those of the first time; another seed proposes others."""
    from models.prepare import Source
    from models.tune import tune

    tried = [
        tune(Source(log), Options(epochs=2, text="none", seed=seed), RULES, seconds=600, trials=2).tried
        for seed in (1, 1, 2)
    ]
    assert tried[0] == tried[1] != tried[2]


def test_folds_learn_from_what_is_earlier(log: Path) -> None:
    """In each fold everything asked is later than everything learnt, and the second fold asks later events."""
    from models.log import read
    from models.sequences import LEARNT, VALIDATION
    from models.tune import FOLDS, _fold

    whole = read(log)
    asked = []
    for number in range(FOLDS):
        fold = _fold(whole, Options(), RULES, number, "log")
        times = fold.split.log.events["timestamp"]
        assert times[fold.split.role == LEARNT].max() < times[fold.split.role == VALIDATION].min()
        assert 0.08 < (fold.split.role == VALIDATION).sum() / len(whole.events) < 0.12
        asked.append(times[fold.split.role == VALIDATION])
    assert asked[0].max() <= asked[1].min() < asked[1].max()


def test_the_budget_is_kept(log: Path) -> None:
    """Without any time there is one trial, and no input is left out any more."""
    from models.prepare import Source
    from models.tune import tune

    found = tune(Source(log), Options(epochs=2), RULES, seconds=0.001)
    assert 1 == len(found.tried)
    assert {} == found.without
    assert np.isfinite(found.hr)


def test_a_log_of_one_moment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be cut in time is told."""
    events = [event(f"u{user}", f"i{at}", END_MS) for user in range(30) for at in range(3)]
    assert 2 == interest(["model", "tune", str(write_log(tmp_path / "log", events)), "--minutes=1"])
    assert "log: expected a log that can be cut in time, got 90 events at one time" in capsys.readouterr().err
