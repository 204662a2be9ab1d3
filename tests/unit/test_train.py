"""Training, end to end by the command: it learns, can be repeated and resumed, and the bundle says how it was made."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from models import bundle as bundles
from models.bundle import Bundle, Windows
from models.features import INPUTS, Features
from models.options import ENCODERS
from stream.commands import run as interest
from stream.contract import hash32
from tests.bundles import EVENT_TYPES
from tests.logs import END_MS, event, shop_log, write_log

pytestmark = pytest.mark.torch

ALL = tuple(name for name in INPUTS if name != "length")
TINY = ["--epochs=3", "--dim=16", "--hidden=16", "--unseen"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny model, end to end, by the command."""
    folder = tmp_path_factory.mktemp("trained")
    log = shop_log(folder / "log.jsonl", events=15_000, users=150)
    options = ["--output", str(folder / "bundle"), *TINY]
    assert interest(["model", "train", str(log), *options]) == 0
    return bundles.load(folder / "bundle")


def test_a_small_model_beats_popularity(trained: Bundle) -> None:
    """A few seconds of training foresee the next new item better than what sells best; what it is worth is told."""
    found = trained.metrics["validation"]
    figures = found["systems"]
    assert {"lstm", "none", "popularity", "category"} == set(figures)
    assert figures["lstm"]["hr@10"] > 2 * figures["popularity"]["hr@10"] > 0
    assert figures["lstm"]["ndcg@10"] > 2 * figures["popularity"]["ndcg@10"]
    assert 200 < found["asked"] <= found["held_out"]
    assert trained.metrics["options"]["unseen"] is True
    assert [1, 2, 3] == [epoch["epoch"] for epoch in trained.metrics["training"]]
    assert trained.command.startswith("interest model train ")
    assert trained.inputs == ALL
    assert trained.event_types == EVENT_TYPES
    assert "Phones" in trained.catalog.category_names


def test_the_same_seed_is_the_same_bundle(trained: Bundle, tmp_path: Path) -> None:
    """Log, options and machine make the version, not the place nor the day; another seed makes another."""
    log = trained.folder.parent / "log.jsonl"
    for seed, same in (("0", True), ("1", False)):
        output = tmp_path / seed
        assert interest(["model", "train", str(log), "--output", str(output), "--seed", seed, *TINY]) == 0
        assert (bundles.load(output).version == trained.version) == same


def test_verify_prints_what_a_bundle_is(trained: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """Version, dimensions, inputs, states and the deviation."""
    assert interest(["model", "verify", str(trained.folder)]) == 0
    said = capsys.readouterr().out
    for part in (
        trained.version,
        "16 numbers",
        f"{trained.catalog.items - 1} items, 12 categories",
        "hidden 16, cell 16",
        "6 windows, deviation",
    ):
        assert part in said


def test_a_log_without_extras(tmp_path: Path) -> None:
    """Clicks on items alone, without category, price or text, make a model that uses items, types and gaps."""
    random = np.random.default_rng(0)
    events: list[dict[str, Any] | bytes] = [
        event(f"u{user}", f"i{random.integers(0, 30)}", 1_700_000_000_000 + 1000 * at)
        for at, user in enumerate(random.integers(0, 20, 600))
    ]
    log = write_log(tmp_path / "log", events)
    assert interest(["model", "train", str(log), "--output", str(tmp_path / "b"), "--epochs=1", "--dim=8"]) == 0
    bundle = bundles.load(tmp_path / "b")
    assert bundle.inputs == ("item_index", "event_type", "gap")
    assert bundles.verify(bundle, bundles.session(bundle)) < 1e-5


def test_an_item_never_seen_is_what_its_category_is(trained: Bundle, tmp_path: Path) -> None:
    """An item of the catalog file without an event gets its category's own vector, and can be recommended."""
    catalog = write_log(tmp_path / "catalog", [{"item_id": f"new-{at}", "category_id": "phones"} for at in range(2)])
    log = trained.folder.parent / "log.jsonl"
    options = ["--output", str(tmp_path / "b"), "--epochs=1", "--dim=8", "--codes=0", "--catalog", str(catalog)]
    assert interest(["model", "train", str(log), *options]) == 0
    bundle = bundles.load(tmp_path / "b")
    rows = np.flatnonzero(np.char.startswith(bundle.catalog.item_ids, "new-"))
    assert len(rows) == 2
    np.testing.assert_allclose(bundle.items[rows[0]], bundle.items[rows[1]])
    assert np.linalg.norm(bundle.items[rows[0]]) == pytest.approx(1, abs=1e-5)
    never = bundle.vectors(np.array([7], np.uint64), np.array([hash32("phones")], np.uint32))
    np.testing.assert_allclose(never[0], bundle.items[rows[0]], atol=1e-5)


def test_a_log_of_ones_own(trained: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table with columns of its own, and limits, from the command line: the bundle says what was left out and how."""
    lines = (trained.folder.parent / "log.jsonl").read_bytes().splitlines()
    rows = [f"{e['user_id']};{e['item_id']};{e['timestamp']};{e['type']}" for e in map(orjson.loads, lines)]
    table = tmp_path / "log.csv"
    table.write_text("\n".join(["customer;item_id;timestamp;what", *rows, *rows[:3], "a;b;c"]))
    form = ["--format=csv", "--column=user_id=customer", "--column=type=what", "--separator=;", "--user-min=2"]
    options = ["--output", str(tmp_path / "b"), "--epochs=1", "--dim=8", "--minute-max=0", "--means=", *form]

    assert interest(["model", "train", str(table), *options]) == 0

    said = capsys.readouterr().out
    assert f"1 of {len(rows) + 4} lines refused (first: line {len(rows) + 5}: expected 4 columns, got 3)" in said
    assert "left out: 3 events repeated" in said
    bundle = bundles.load(tmp_path / "b")
    assert all(f"'{word}'" in bundle.command or word in bundle.command for word in form)
    assert "--minute-max=0" in bundle.command
    assert ["hidden", "cell"] == [state.name for state in bundle.states]
    assert not any(option in bundle.command for option in ("--day-max", "--since", "--until"))
    assert 3 == bundle.metrics["left_out"]["repeated: same user, item, type and time"]["events"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format=xml"], "expected a format of csv"),
        (["--format=csv", "--column=user_id"], "expected NAME=VALUE, got 'user_id'"),
        (["--format=csv", "--separator="], "expected one character, got ''"),
        (["--means=1,x"], "expected numbers above 0 up to 1, comma between, got '1,x'"),
        (["--means=1.5"], "decays expected above 0 up to 1"),
        (["--encoder=transformer"], "encoder expected among lstm, gru, rnn, cnn, dnn, none, got 'transformer'"),
        (["--dropout-in=1"], "dropout_in expected from 0 to 0.95, got 1"),
        (["--device=tpu"], "device expected among cpu, cuda, got 'tpu'"),
        (["--without=gap"], "without expected inputs among category_index"),
        (["--patience=2", "--held-out=0"], "patience expected with something held out"),
        (["--compare=gru,best"], "expected among lstm, gru, rnn, cnn, dnn, none, got 'best'"),
        (["--until=2001-01-01"], "expected events that are within the limits, got none"),
    ],
)
def test_options_of_a_log_that_make_no_sense(
    options: list[str], message: str, trained: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each gets a line, and no bundle is written."""
    log = trained.folder.parent / "log.jsonl"
    assert interest(["model", "train", str(log), "--output", str(tmp_path / "b"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_the_output_is_checked_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of something else is refused before the log is read; so is a log that is not there."""
    (tmp_path / "notes.txt").write_text("mine")
    assert interest(["model", "train", str(tmp_path / "none"), "--output", str(tmp_path)]) == 2
    assert "expected a new or empty folder" in capsys.readouterr().err
    assert interest(["model", "train", str(tmp_path / "none"), "--output", str(tmp_path / "b")]) == 2
    assert "none: expected a file of JSON Lines: No such file" in capsys.readouterr().err


def test_windows_of_training_go_through_the_same_features(trained: Bundle) -> None:
    """The bundle's features, built of its files alone, give golden windows' inputs in the contract's types."""
    golden: Windows = trained.golden.windows
    features: Features = trained.features
    got = golden.inputs(features)
    assert {name: str(array.dtype) for name, array in got.items()} == {
        name: {"float": "float32"}.get(INPUTS[name][0], INPUTS[name][0]) for name in (*ALL, "length")
    }
    assert (got["item_index"].max(axis=1) > 0).all()


@pytest.mark.parametrize("kind", ENCODERS)
def test_every_encoder_trains_and_is_served(kind: str, trained: Bundle, tmp_path: Path) -> None:
    """Each is written as a bundle whose golden windows are reproduced."""
    log = trained.folder.parent / "log.jsonl"
    options = ["--output", str(tmp_path / "b"), "--epochs=1", "--dim=8", "--hidden=9", "--compare=no"]
    assert interest(["model", "train", str(log), "--encoder", kind, "--codes=32", "--item-min=50", *options]) == 0
    bundle = bundles.load(tmp_path / "b")
    assert bundles.verify(bundle, bundles.session(bundle)) < 1e-5
    assert (kind in ("cnn", "dnn")) == (bundle.states == ())
    assert {kind, "popularity", "category"} == set(bundle.metrics["validation"]["systems"])
    assert (64, 8) == bundle.parts.codes.shape


def test_items_without_a_row_have_a_code(trained: Bundle, tmp_path: Path) -> None:
    """Where there are codes, two new items of a category stand apart, near it, and are always the same."""
    log = trained.folder.parent / "log.jsonl"
    options = ["--output", str(tmp_path / "b"), "--epochs=1", "--dim=16", "--hidden=9", "--compare=no", "--codes=512"]
    assert interest(["model", "train", str(log), *options]) == 0
    bundle = bundles.load(tmp_path / "b")
    phones = np.full(2, hash32("phones"), np.uint32)
    one, other = bundle.vectors(np.array([1001, 1002], np.uint64), phones)
    assert 0.2 < one @ other < 0.95
    (again,) = bundle.vectors(np.array([1001 + 512**2], np.uint64), phones[:1])
    np.testing.assert_array_equal(again, one)
    known = bundle.features.items.keys[1:3]
    np.testing.assert_array_equal(bundle.vectors(known, phones), bundle.items[bundle.features.items.rows[1:3]])


class Killed(BaseException):
    """The process's end, for a test."""


@pytest.mark.parametrize("more", [[], ["--patience=2", "--shuffle=0.5", "--crop=0.3", "--recency=0.2"]])
def test_a_training_that_was_killed_goes_on(
    more: list[str],
    trained: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Killed in the second epoch and started again, it ends with the bundle that it would have had."""
    from models import fit

    log = trained.folder.parent / "log.jsonl"
    given = ["model", "train", str(log), *TINY, "--compare=no", *more]
    assert interest([*given, "--output", str(tmp_path / "whole")]) == 0
    step, taken = fit.Fit._step, 0

    def killed(self: fit.Fit, chunks: Any) -> Any:
        nonlocal taken
        taken += 1
        if self.epoch == 1 and taken > 6:
            raise Killed
        return step(self, chunks)

    monkeypatch.setattr(fit.Fit, "_step", killed)
    with pytest.raises(Killed):
        interest([*given, "--output", str(tmp_path / "cut")])
    monkeypatch.undo()
    assert not (tmp_path / "cut").exists()
    capsys.readouterr()

    assert interest([*given, "--output", str(tmp_path / "cut")]) == 0

    assert "goes on after epoch 1" in capsys.readouterr().out
    assert bundles.load(tmp_path / "whole").version == bundles.load(tmp_path / "cut").version
    assert ["cut", "whole"] == sorted(path.name for path in tmp_path.iterdir())


def test_a_checkpoint_of_something_else_is_refused(
    trained: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged one, or one of other options, is named and left alone."""
    checkpoint = tmp_path / ".b.lstm.checkpoint"
    checkpoint.write_bytes(b"PK not a checkpoint")
    given = ["model", "train", str(trained.folder.parent / "log.jsonl"), "--output", str(tmp_path / "b"), "--epochs=1"]
    assert interest(given) == 2
    assert ".b.lstm.checkpoint: expected a checkpoint, got:" in capsys.readouterr().err
    assert checkpoint.exists()


def test_a_model_begins_with_a_former_one(trained: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--init`: items are found by their ids, and the first epoch begins near where the former one ended."""
    log = trained.folder.parent / "log.jsonl"
    given = ["model", "train", str(log), "--dim=16", "--hidden=16", "--unseen", "--epochs=1", "--rate=1e-6"]
    given += ["--compare=no", "--output", str(tmp_path / "b"), "--init", str(trained.folder)]
    assert interest(given) == 0
    count = trained.catalog.items - 1
    assert f"{count} of {count} items found in it" in capsys.readouterr().out
    bundle = bundles.load(tmp_path / "b")
    assert ((bundle.items * trained.items).sum(axis=1)[1:] > 0.999).all()
    theirs, ours = trained.golden.vectors, bundle.golden.vectors
    assert ((theirs * ours).sum(axis=1) > 0.999).all()
    assert trained.metrics["validation"]["systems"]["lstm"]["hr@10"] == pytest.approx(
        bundle.metrics["validation"]["systems"]["lstm"]["hr@10"], abs=0.01
    )


def test_attributes_and_text_are_added_up_in_the_graph(tmp_path: Path) -> None:
    """Items of which a file tells attributes: those alike stand near each other, and the bundle needs no such file."""
    random = np.random.default_rng(0)
    events = [
        event(f"u{user}", f"i{(user % 2) + 2 * random.integers(0, 20)}", 1_700_000_000_000 + 1000 * at)
        for at, user in enumerate(random.integers(0, 40, 1500).tolist())
    ]
    log = write_log(tmp_path / "log", events)
    told = {f"i{number}": [number % 2] for number in range(40)} | {"elsewhere": [1]}
    (tmp_path / "attributes.json").write_bytes(orjson.dumps(told))
    given = ["model", "train", str(log), "--dim=8", "--epochs=2", "--batch=4", "--output", str(tmp_path / "b")]
    assert interest([*given, "--attributes", str(tmp_path / "attributes.json")]) == 0
    bundle = bundles.load(tmp_path / "b")
    assert 41 == bundle.catalog.items
    odd = np.array([int(name[1:]) % 2 for name in bundle.catalog.item_ids[1:].tolist()], bool)
    near = bundle.items[1:] @ bundle.items[1:].T
    assert near[odd][:, odd].mean() > near[odd][:, ~odd].mean() + 0.3


@pytest.mark.parametrize(
    ("told", "message"),
    [(b"[1]", "expected one JSON object of item id to list"), (b'{"a": 1}', "expected attributes as a list of texts")],
)
def test_attributes_that_are_none(
    told: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said in one line, with the file's name."""
    log = write_log(tmp_path / "log", [event("u", "a", 1_700_000_000_000)])
    (tmp_path / "told.json").write_bytes(told)
    given = ["model", "train", str(log), "--output", str(tmp_path / "b"), "--attributes", str(tmp_path / "told.json")]
    assert interest(given) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "told.json" in error


def test_curves_for_tensorboard(trained: Bundle, tmp_path: Path) -> None:
    """Loss and HR@10 of every epoch can be read back from the folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    given = ["model", "train", str(trained.folder.parent / "log.jsonl"), *TINY, "--compare=no"]
    assert interest([*given, "--output", str(tmp_path / "b"), "--tensorboard", str(tmp_path / "curves")]) == 0
    curves = EventAccumulator(str(tmp_path / "curves" / "lstm"))
    curves.Reload()
    history = bundles.load(tmp_path / "b").metrics["training"]
    for name, key in (("loss", "loss"), ("hr@10", "hr@10")):
        read = [(point.step, point.value) for point in curves.Scalars(name)]
        assert [(epoch["epoch"], pytest.approx(epoch[key], abs=1e-4)) for epoch in history] == read


def test_two_processes_train_as_one(trained: Bundle, tmp_path: Path) -> None:
    """torchrun: each sees half of every batch, gradients are added up; the model is that of one process, within 1e-3.

    Without dropout, which draws other random numbers in each process.
    """
    log = trained.folder.parent / "log.jsonl"
    still = ["--dropout-in=0", "--dropout-out=0", "--item-dropout=0", "--shuffle=0.5", "--compare=no", *TINY]
    given = ["model", "train", str(log), *still]
    assert interest([*given, "--output", str(tmp_path / "one")]) == 0
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "stream"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*run, *given, "--output", str(tmp_path / "two")], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("written and verified") == 1
    one, two = bundles.load(tmp_path / "one"), bundles.load(tmp_path / "two")
    np.testing.assert_allclose(two.items, one.items, atol=1e-3)
    np.testing.assert_allclose(two.golden.vectors, one.golden.vectors, atol=1e-3)
    losses = [[epoch["loss"] for epoch in bundle.metrics["training"]] for bundle in (one, two)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)


@pytest.mark.parametrize("how", [["--text=word2vec"], ["--text=glove"], ["--text-width=8", "--sentiment"]])
def test_text_by_any_method(how: list[str], trained: Bundle, tmp_path: Path) -> None:
    """Each gives word vectors of its width, with sentiment one number more, and a bundle that is reproduced."""
    log = trained.folder.parent / "log.jsonl"
    options = ["--output", str(tmp_path / "b"), "--epochs=1", "--dim=8", "--hidden=9", "--compare=no", *how]
    assert interest(["model", "train", str(log), *options]) == 0
    bundle = bundles.load(tmp_path / "b")
    assert (9 if "--sentiment" in how else 16) == bundle.text_width
    assert bundles.verify(bundle, bundles.session(bundle)) < 1e-5


def test_nothing_held_out_is_read_for_its_words(tmp_path: Path) -> None:
    """E02: words that only held-out reviews have are in no word vector."""
    events = [
        event(
            f"u{at % 20}", f"i{at % 9}", END_MS + at * 1000, type="review", text=f"common words of review {at // 180}"
        )
        for at in range(200)
    ]
    log = write_log(tmp_path / "log", events)
    for held_out, there in (("0.1", False), ("0", True)):
        options = ["--output", str(tmp_path / held_out), "--epochs=1", "--dim=8", "--compare=no", "--text-width=2"]
        assert interest(["model", "train", str(log), "--held-out", held_out, *options]) == 0
        hashes = set(bundles.load(tmp_path / held_out).text.hashes.tolist())
        assert hash32("common") in hashes
        assert (hash32("1") in hashes) == there


def test_shuffled_labels_give_chance(trained: Bundle, tmp_path: Path) -> None:
    """Items dealt out anew among all events: nothing can be foreseen, and no figure says otherwise."""
    lines = [orjson.loads(line) for line in (trained.folder.parent / "log.jsonl").read_bytes().splitlines()]
    dealt = np.random.default_rng(0).permutation(len(lines))
    for line, other in zip(lines, [lines[number]["item_id"] for number in dealt], strict=True):
        line["item_id"] = other
        for name in ("category_id", "category_name", "item_name", "price", "text"):
            line.pop(name, None)
    log = write_log(tmp_path / "log", lines)
    assert interest(["model", "train", str(log), *TINY, "--compare=no", "--output", str(tmp_path / "b")]) == 0
    figures = bundles.load(tmp_path / "b").metrics["validation"]["systems"]
    assert figures["lstm"]["hr@10"] < 0.05 < trained.metrics["validation"]["systems"]["lstm"]["hr@10"] / 2
    assert figures["lstm"]["hr@10"] < figures["popularity"]["hr@10"] + 0.03


def test_training_ends_when_it_gets_no_better(trained: Bundle, tmp_path: Path) -> None:
    """`--patience`: after so many epochs without a better HR@10 it ends, and the best epoch's weights are kept."""
    log = trained.folder.parent / "log.jsonl"
    options = ["--dim=16", "--hidden=16", "--unseen", "--compare=no", "--epochs=40", "--rate=0.05", "--patience=2"]
    assert interest(["model", "train", str(log), "--output", str(tmp_path / "b"), *options]) == 0
    metrics = bundles.load(tmp_path / "b").metrics
    hits = [epoch["hr@10"] for epoch in metrics["training"]]
    best = hits.index(max(hits))
    assert best + 2 == len(hits) - 1 < 39
    assert metrics["validation"]["systems"]["lstm"]["hr@10"] == pytest.approx(max(hits), abs=0.002)


def test_no_gpu_is_told(trained: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A device that is not there ends the training before anything is read."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is here: --device cuda would train on it")
    given = ["model", "train", str(trained.folder.parent / "log.jsonl"), "--output", str(tmp_path / "b")]
    assert interest([*given, "--device=cuda"]) == 2
    assert "device cuda expected, but PyTorch finds no GPU here" in capsys.readouterr().err
