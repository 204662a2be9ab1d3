"""PyTorch and the exported graph agree, the graph is one LSTM for any batch and steps, and training learns."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from models import bundle as bundles
from models.bundle import Bundle, Windows
from models.features import INPUTS, Features
from models.graph import Signature, State, open_graph, run, zero_states
from stream.commands import run as interest
from tests.bundles import EVENT_TYPES
from tests.logs import event, shop_log, write_log

if TYPE_CHECKING:
    from models.network import Encoder

pytestmark = pytest.mark.torch

SIZES: dict[str, Any] = {"items": 40, "categories": 7, "types": 6, "text": 5, "dim": 12, "hidden": 20}
ALL = tuple(name for name in INPUTS if name != "length")


def encoder_of(inputs: tuple[str, ...] = ALL, decays: tuple[float, ...] = ()) -> "Encoder":
    """A network with random weights, all of them large enough to be felt."""
    import torch

    from models.network import Encoder, Sizes

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = Encoder(Sizes(inputs=inputs, decays=decays, **SIZES), torch.randint(0, 7, (40,)))
        for weight in encoder.parameters():
            weight.data += 0.3 * torch.randn_like(weight)
    return encoder.eval()


def inputs_of(batch: int, steps: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Random inputs of any length, with values that are none, 0, and on the edges of the gap's rows."""
    random = np.random.default_rng(seed)
    rows = {"item_index": 40, "category_index": 7, "event_type": 6}
    inputs: dict[str, NDArray[Any]] = {name: random.integers(0, count, (batch, steps)) for name, count in rows.items()}
    inputs["gap"] = random.choice([-1, 0, 0.999, 1, 3, 4, 7, 1000.5, 1e7], (batch, steps)).astype(np.float32)
    for name in ("price", "quantity"):
        inputs[name] = random.choice([-1, 0, 1.25, 8.5], (batch, steps)).astype(np.float32)
    inputs["rating"] = random.choice([0, 1, 4.5], (batch, steps)).astype(np.float32)
    inputs["text"] = random.standard_normal((batch, steps, 5)).astype(np.float32)
    inputs["length"] = random.integers(1, steps + 1, batch).astype(np.int32)
    return inputs


def signature_of(encoder: "Encoder") -> Signature:
    """What the exported graph must have."""
    sizes = encoder.sizes
    states = tuple(State(name, width) for name, width in sizes.states.items())
    return Signature(sizes.inputs, states, sizes.text if "text" in sizes.inputs else 0, sizes.dim)


def both(encoder: "Encoder", inputs: dict[str, NDArray[Any]], states: dict[str, NDArray[np.float32]]) -> list[Any]:
    """Vector and states of PyTorch and of the graph."""
    import torch

    from models import export

    inputs = {name: inputs[name] for name in (*encoder.sizes.inputs, "length")}
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    length = tensors.pop("length")
    with torch.no_grad():
        theirs = encoder(tensors, length, *(torch.from_numpy(array) for array in states.values()))
    signature = signature_of(encoder)
    vector, after = run(open_graph(export.graph(encoder), signature), signature, inputs, states)
    return list(zip([array.numpy() for array in theirs], [vector, *after.values()], strict=True))


MEANS = pytest.mark.parametrize("decays", [(), (1.0,), (1.0, 0.6)], ids=["no means", "one mean", "two means"])


@MEANS
@pytest.mark.parametrize("steps", [1, 2, 50])
@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_i01_parity_with_pytorch(batch: int, steps: int, decays: tuple[float, ...]) -> None:
    """I01: one graph, any batch and steps, mixed lengths, carried states: within 1e-5 of PyTorch."""
    encoder = encoder_of(decays=decays)
    random = np.random.default_rng(1)
    states = {
        name: np.abs(random.standard_normal((batch, width))).astype(np.float32) * 0.5
        for name, width in encoder.sizes.states.items()
    }
    for expected, got in both(encoder, inputs_of(batch, steps), states):
        np.testing.assert_allclose(got, expected, atol=1e-5 * max(1, np.abs(expected).max()))  # sums reach hundreds


@pytest.mark.parametrize("left_out", ["category_index", "text", "price", "quantity", "rating"])
def test_a_model_may_do_without_an_input(left_out: str) -> None:
    """What a log does not tell is neither in the network nor in the graph, and both still agree."""
    encoder = encoder_of(tuple(name for name in ALL if name != left_out))
    states = {name: np.zeros((3, 20), np.float32) for name in ("hidden", "cell")}
    for expected, got in both(encoder, inputs_of(3, 4), states):
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_i03_one_lstm_and_free_axes() -> None:
    """I03: the real LSTM operator with lengths and states, and neither batch nor steps is a number."""
    import onnx

    from models import export

    model = onnx.load_from_string(export.graph(encoder_of()))
    lstm = [node for node in model.graph.node if node.op_type == "LSTM"]
    assert len(lstm) == 1
    assert list(lstm[0].input)[4:7] == ["length", "hidden_1", "cell_1"]
    assert not [node for node in model.graph.node if node.op_type in ("Loop", "Scan", "If")]
    for tensor in model.graph.input:
        shape = [axis.dim_param or axis.dim_value for axis in tensor.type.tensor_type.shape.dim]
        assert shape[0] == "batch", tensor.name
        if tensor.name not in ("length", "hidden", "cell"):
            assert shape[1] == "steps", tensor.name


@MEANS
def test_i04_padded_steps_do_not_matter(decays: tuple[float, ...]) -> None:
    """I04: other contents in padded steps leave vector and states as they are."""
    from models import export

    encoder = encoder_of(decays=decays)
    signature = signature_of(encoder)
    graph, clean, soiled = open_graph(export.graph(encoder), signature), inputs_of(9, 8), inputs_of(9, 8, seed=5)
    padding = np.arange(8) >= clean["length"][:, None]
    for name, array in clean.items():
        if name != "length":
            mask = padding if array.ndim == 2 else padding[:, :, None]
            soiled[name] = np.where(mask, soiled[name], array)
    soiled["length"] = clean["length"]
    zero = zero_states(signature, 9)
    vector, after = run(graph, signature, clean, zero)
    other, other_after = run(graph, signature, soiled, zero)
    np.testing.assert_array_equal(other, vector)
    for name, array in after.items():
        np.testing.assert_array_equal(other_after[name], array)


@MEANS
def test_i09_mixed_lengths_as_if_alone(decays: tuple[float, ...]) -> None:
    """I09: lengths 2 and 5 in one call give what each gives alone."""
    from models import export

    encoder = encoder_of(decays=decays)
    signature = signature_of(encoder)
    graph, inputs = open_graph(export.graph(encoder), signature), inputs_of(2, 5)
    inputs["length"] = np.array([2, 5], np.int32)
    together, _ = run(graph, signature, inputs, zero_states(signature, 2))
    for row, length in enumerate((2, 5)):
        alone = {name: array[[row], :length] for name, array in inputs.items() if name != "length"}
        alone["length"] = np.array([length], np.int32)
        vector, _ = run(graph, signature, alone, zero_states(signature, 1))
        np.testing.assert_allclose(together[[row]], vector, atol=1e-5)


@MEANS
def test_p1_stepping_is_running_whole(decays: tuple[float, ...]) -> None:
    """P1: 50 events one at a time, states carried, end where the whole window does, within 1e-5."""
    from models import export

    encoder = encoder_of(decays=decays)
    signature = signature_of(encoder)
    graph, inputs = open_graph(export.graph(encoder), signature), inputs_of(4, 50)
    inputs["length"] = np.full(4, 50, np.int32)
    whole, _ = run(graph, signature, inputs, zero_states(signature, 4))
    states = zero_states(signature, 4)
    for step in range(50):
        one = {name: array[:, step : step + 1] for name, array in inputs.items() if name != "length"}
        one["length"] = np.ones(4, np.int32)
        vector, states = run(graph, signature, one, states)
    np.testing.assert_allclose(vector, whole, atol=1e-5)


@MEANS
def test_training_sees_what_serving_computes(decays: tuple[float, ...]) -> None:
    """The vectors that the loss sees at each position are those of the windows that end there."""
    import torch

    encoder, inputs = encoder_of(decays=decays), inputs_of(3, 6)
    del inputs["length"]
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    zero = [torch.zeros(3, width) for width in encoder.sizes.states.values()]
    with torch.no_grad():
        positions = encoder.vectors(tensors)
        for step in range(6):
            vector, *_ = encoder(tensors, torch.full((3,), step + 1), *zero)
            np.testing.assert_allclose(positions[:, step].numpy(), vector.numpy(), atol=1e-5)


def test_overfits_one_batch() -> None:
    """A dozen windows are learnt by heart: loss and gradients are right."""
    import torch

    from models.fit import next_item_loss

    encoder, inputs = encoder_of(), inputs_of(12, 6)
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items() if name != "length"}
    target = torch.from_numpy(np.random.default_rng(2).integers(1, 40, (12, 6)))
    optimizer = torch.optim.Adam(encoder.parameters(), lr=0.02)
    losses = []
    for _ in range(200):
        loss = next_item_loss(encoder, tensors, target)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.05 < 1 < losses[0]


def test_a_seen_item_is_not_a_wrong_answer() -> None:
    """Negatives leave out the target and what the window held: with nothing left to be wrong, the loss is 0."""
    import torch

    from models.fit import next_item_loss

    encoder, inputs = encoder_of(), inputs_of(1, 39)
    inputs["item_index"] = np.arange(1, 40)[None]
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items() if name != "length"}
    target = torch.zeros(1, 39, dtype=torch.int64)
    target[0, 38] = 7
    with torch.no_grad():
        assert float(next_item_loss(encoder, tensors, target)) == pytest.approx(0, abs=1e-6)
        target[0, 37], target[0, 38] = 39, 0
        assert float(next_item_loss(encoder, tensors, target)) == pytest.approx(0, abs=1e-6)
        target[0, 36], target[0, 37] = 39, 0
        assert float(next_item_loss(encoder, tensors, target)) > 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny model, end to end, by the command."""
    folder = tmp_path_factory.mktemp("trained")
    log = shop_log(folder / "log.jsonl", events=15_000, users=150)
    options = ["--output", str(folder / "bundle"), "--epochs=3", "--dim=16", "--hidden=16"]
    assert interest(["model", "train", str(log), *options]) == 0
    return bundles.load(folder / "bundle")


def test_a_small_model_beats_popularity(trained: Bundle) -> None:
    """A few seconds of training foresee the next new item better than what sells best."""
    figures = trained.metrics["next_new_item"]
    assert figures["model"]["hr@10"] > 2 * figures["popularity"]["hr@10"] > 0
    assert figures["model"]["ndcg@10"] > 2 * figures["popularity"]["ndcg@10"]
    assert trained.metrics["asked"] > 200
    assert trained.command.startswith("interest model train ")
    assert trained.inputs == ALL
    assert trained.event_types == EVENT_TYPES
    assert "Phones" in trained.catalog.category_names


def test_the_same_seed_is_the_same_bundle(trained: Bundle, tmp_path: Path) -> None:
    """Log, options and machine make the version, not the place nor the day; another seed makes another."""
    log = trained.folder.parent / "log.jsonl"
    options = ["--epochs=3", "--dim=16", "--hidden=16"]
    for seed, same in (("0", True), ("1", False)):
        output = tmp_path / seed
        assert interest(["model", "train", str(log), "--output", str(output), "--seed", seed, *options]) == 0
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
    options = ["--output", str(tmp_path / "b"), "--epochs=1", "--dim=8", "--catalog", str(catalog)]
    assert interest(["model", "train", str(log), *options]) == 0
    bundle = bundles.load(tmp_path / "b")
    rows = np.flatnonzero(np.char.startswith(bundle.catalog.item_ids, "new-"))
    assert len(rows) == 2
    np.testing.assert_allclose(bundle.items[rows[0]], bundle.items[rows[1]])
    assert np.linalg.norm(bundle.items[rows[0]]) == pytest.approx(1, abs=1e-5)


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
        (["--means=1.5"], "expected numbers above 0 up to 1"),
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
