"""PyTorch and the exported graph agree for every encoder, which is one operator for any batch and steps."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.features import INPUTS
from models.graph import Signature, State, open_graph, run, zero_states
from models.options import ENCODERS

if TYPE_CHECKING:
    from models.network import Encoder

pytestmark = pytest.mark.torch

SIZES: dict[str, Any] = {"items": 40, "categories": 7, "types": 6, "text": 5, "dim": 12, "hidden": 20, "codes": 9}
ALL = tuple(name for name in INPUTS if name != "length")


def encoder_of(
    inputs: tuple[str, ...] = ALL, decays: tuple[float, ...] = (1.0, 0.6), encoder: str = "lstm"
) -> "Encoder":
    """A network with random weights, all of them large enough to be felt; half the items have attributes."""
    import torch

    from models.network import About, Encoder, Sizes

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        about = About.make(torch.randint(0, 7, (40,)), [[0, 2], [1], [], []] * 10, torch.randn(40, 5))
        network = Encoder(Sizes(inputs=inputs, decays=decays, encoder=encoder, **SIZES), about)
        for weight in network.parameters():
            weight.data += 0.3 * torch.randn_like(weight)
    return network.eval()


def inputs_of(batch: int, steps: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Random inputs of any length, with values that are none, 0, and on the edges of the gap's rows."""
    random = np.random.default_rng(seed)
    rows = {"item_index": 121, "category_index": 7, "event_type": 6}
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
    states = tuple(State(name, width) for name, width in encoder.states.items())
    return Signature(encoder.sizes.inputs, states, encoder.sizes.text if "text" in encoder.sizes.inputs else 0, 12)


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


EVERY = pytest.mark.parametrize("kind", ENCODERS)


@pytest.mark.parametrize("decays", [(), (1.0, 0.6)], ids=["no means", "two means"])
@pytest.mark.parametrize("steps", [1, 2, 50])
@pytest.mark.parametrize("batch", [1, 2, 7, 64])
@EVERY
def test_i01_parity_with_pytorch(kind: str, batch: int, steps: int, decays: tuple[float, ...]) -> None:
    """I01: one graph, any batch and steps, mixed lengths, carried states: within 1e-5 of PyTorch."""
    encoder = encoder_of(decays=decays, encoder=kind)
    random = np.random.default_rng(1)
    states = {
        name: np.abs(random.standard_normal((batch, width))).astype(np.float32) * 0.5
        for name, width in encoder.states.items()
    }
    for expected, got in both(encoder, inputs_of(batch, steps), states):
        np.testing.assert_allclose(got, expected, atol=1e-5 * max(1, np.abs(expected).max()))  # sums reach hundreds


@EVERY
def test_what_each_encoder_carries(kind: str) -> None:
    """The recurrent ones step; those that look at all events at once carry nothing: a worker runs them whole."""
    means = {"sum_0": 12, "weight_0": 1, "sum_1": 12, "weight_1": 1}
    own = {"lstm": {"hidden": 20, "cell": 20}, "gru": {"hidden": 20}, "rnn": {"hidden": 20}, "none": {}}
    assert (own[kind] | means if kind in own else {}) == encoder_of(encoder=kind).states


@pytest.mark.parametrize("left_out", ["category_index", "text", "price", "quantity", "rating"])
def test_a_model_may_do_without_an_input(left_out: str) -> None:
    """What a log does not tell is neither in the network nor in the graph, and both still agree."""
    encoder = encoder_of(tuple(name for name in ALL if name != left_out))
    states = zero_states(signature_of(encoder), 3)
    for expected, got in both(encoder, inputs_of(3, 4), states):
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_i03_one_lstm_and_free_axes(kind: str) -> None:
    """I03: the real operator with lengths and states, and neither batch nor steps is a number."""
    import onnx

    from models import export

    model = onnx.load_from_string(export.graph(encoder_of(decays=(), encoder=kind)))
    operators = [node for node in model.graph.node if node.op_type == kind.upper()]
    assert len(operators) == 1
    assert ["length", "hidden_1", "cell_1"][: 3 if kind == "lstm" else 2] == list(operators[0].input)[4:]
    assert not [node for node in model.graph.node if node.op_type in ("Loop", "Scan", "If")]
    for tensor in model.graph.input:
        shape = [axis.dim_param or axis.dim_value for axis in tensor.type.tensor_type.shape.dim]
        assert shape[0] == "batch", tensor.name
        if tensor.name not in ("length", "hidden", "cell"):
            assert shape[1] == "steps", tensor.name


@EVERY
def test_i04_padded_steps_do_not_matter(kind: str) -> None:
    """I04: other contents in padded steps leave vector and states as they are."""
    from models import export

    encoder = encoder_of(encoder=kind)
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


@EVERY
def test_i09_mixed_lengths_as_if_alone(kind: str) -> None:
    """I09: lengths 2 and 5 in one call give what each gives alone."""
    from models import export

    encoder = encoder_of(encoder=kind)
    signature = signature_of(encoder)
    graph, inputs = open_graph(export.graph(encoder), signature), inputs_of(2, 5)
    inputs["length"] = np.array([2, 5], np.int32)
    together, _ = run(graph, signature, inputs, zero_states(signature, 2))
    for row, length in enumerate((2, 5)):
        alone = {name: array[[row], :length] for name, array in inputs.items() if name != "length"}
        alone["length"] = np.array([length], np.int32)
        vector, _ = run(graph, signature, alone, zero_states(signature, 1))
        np.testing.assert_allclose(together[[row]], vector, atol=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn", "none"])
def test_p1_stepping_is_running_whole(kind: str) -> None:
    """P1: 50 events one at a time, states carried, end where the whole window does, within 1e-5."""
    from models import export

    encoder = encoder_of(encoder=kind)
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


@EVERY
def test_training_sees_what_serving_computes(kind: str) -> None:
    """The vectors that the loss sees at each position are those of the windows that end there."""
    import torch

    encoder, inputs = encoder_of(encoder=kind), inputs_of(3, 6)
    del inputs["length"]
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    zero = [torch.zeros(3, width) for width in encoder.states.values()]
    with torch.no_grad():
        positions = encoder.vectors(tensors)
        for step in range(6):
            vector, *_ = encoder(tensors, torch.full((3,), step + 1), *zero)
            np.testing.assert_allclose(positions[:, step].numpy(), vector.numpy(), atol=1e-5)


@EVERY
def test_i10_alone_or_among_many(kind: str) -> None:
    """I10: a window alone and the same among 64 agree within 1e-5; nothing claims the same bits."""
    from models import export

    encoder = encoder_of(encoder=kind)
    signature = signature_of(encoder)
    graph, inputs = open_graph(export.graph(encoder), signature), inputs_of(64, 9)
    many, _ = run(graph, signature, inputs, zero_states(signature, 64))
    for row in (0, 31, 63):
        alone, _ = run(
            graph, signature, {name: array[[row]] for name, array in inputs.items()}, zero_states(signature, 1)
        )
        np.testing.assert_allclose(alone[0], many[row], atol=1e-5)
