"""A bundle is written whole, and served only if every byte is what its description says."""

import json
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models import bundle as bundles
from models.bundle import Bundle, Catalog, State, Windows
from models.folder import FILES
from models.graph import Signature, open_graph
from stream import contract
from stream.errors import BundleError, UsageError
from tests.bundles import EVENT_TYPES, INPUTS, random_bundle, random_windows

ITEMS = ["a", "b", "c"]
CATEGORIES = ["x", "x", ""]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good bundle's folder, not to be touched."""
    folder: Path = tmp_path_factory.mktemp("bundles") / "good"
    random_bundle(folder, item_ids=ITEMS, item_categories=CATEGORIES, item_names=["A", "B", "C"])
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "bundle"))


Tensors = dict[str, tuple[int, list[str | int | None]] | None]


def graph_bytes(inputs: Tensors, outputs: Tensors) -> bytes:
    """The smallest graph that fits `Signature(("item_index",), (), 0, 4)`, some tensors changed (None: left out)."""
    takes: Tensors = {"item_index": (TensorProto.INT64, ["batch", "steps"]), "length": (TensorProto.INT32, ["batch"])}
    takes |= inputs
    gives: Tensors = {"vector": (TensorProto.FLOAT, ["batch", 4])}
    gives |= outputs
    one = {name: helper.make_tensor("v", tensor[0], [1], [1]) for name, tensor in gives.items() if tensor}
    graph = helper.make_graph(
        [
            helper.make_node("Shape", ["length"], ["rows"]),
            helper.make_node("Concat", ["rows", "four"], ["shape"], axis=0),
            *(helper.make_node("ConstantOfShape", ["shape"], [name], value=value) for name, value in one.items()),
        ],
        "graph",
        [helper.make_tensor_value_info(name, *tensor) for name, tensor in takes.items() if tensor],
        [helper.make_tensor_value_info(name, *tensor) for name, tensor in gives.items() if tensor],
        [helper.make_tensor("four", TensorProto.INT64, [1], [4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def test_round_trip(whole: Path) -> None:
    """What was written is what is loaded, and the golden vectors are reproduced, whole and stepped."""
    bundle = bundles.load(whole)
    assert ["", *ITEMS] == bundle.catalog.item_ids.tolist()
    assert bundle.catalog.item_names.tolist() == ["", "A", "B", "C"]
    assert ["", "x"] == bundle.catalog.category_ids.tolist() == bundle.catalog.category_names.tolist()
    assert bundle.catalog.item_category.tolist() == [0, 1, 1, 0]
    assert [0, *map(contract.hash64, ITEMS)] == bundle.catalog.item_hashes.tolist()
    assert bundle.event_types == EVENT_TYPES
    assert (State("hidden", 32), State("cell", 32)) == bundle.states
    assert bundle.inputs == INPUTS
    assert (bundle.contract, bundle.dim, bundle.text_width) == (1, 16, 8)
    assert re.fullmatch("[0-9a-f]{16}", bundle.version)
    assert bundles.verify(bundle, bundles.session(bundle)) < 1e-5


def test_category_vectors_are_means_of_unit_length(whole: Path) -> None:
    """Category x is the mean direction of a and b; row 0 is zeros, whatever items without category there are."""
    bundle = bundles.load(whole)
    mean = bundle.items[1] + bundle.items[2]
    np.testing.assert_allclose(mean / np.linalg.norm(mean), bundle.category_vectors[1], rtol=1e-6)
    assert np.abs(bundle.category_vectors[0]).max() == 0


def test_version_is_the_digest_of_content(tmp_path: Path) -> None:
    """The same parts give the same version, wherever they are written; another weight gives another."""
    versions = [
        random_bundle(tmp_path / name, item_ids=ITEMS, item_categories=CATEGORIES, seed=seed).version
        for name, seed in (("one", 0), ("two", 0), ("three", 1))
    ]
    assert versions[0] == versions[1] != versions[2]


def test_every_input_moves_the_vector(whole: Path) -> None:
    """A random bundle feels each input, and the order of events: a test that mixes them up cannot pass."""
    bundle = bundles.load(whole)
    graph = bundles.session(bundle)
    windows = random_windows(ITEMS, CATEGORIES, lengths=[12], random=np.random.default_rng(3))
    zero = bundles.zero_states(bundle.signature, 1)
    inputs = windows.inputs(bundle.features)
    vector, _ = bundles.run(graph, bundle.signature, inputs, zero)
    for name in bundle.inputs:
        changed = {**inputs, name: np.roll(inputs[name], 1, axis=1)}
        other, _ = bundles.run(graph, bundle.signature, changed, zero)
        assert np.abs(other - vector).max() > 1e-3, name


def test_numpy_reads_it_without_pickle(whole: Path) -> None:
    """A consumer ranks with numpy alone."""
    items = np.load(whole / "items.npy")
    with np.load(whole / "catalog.npz") as catalog:
        assert catalog["item_names"][1:].tolist() == ["A", "B", "C"]
    assert items.shape == (4, 16)
    np.testing.assert_allclose(np.linalg.norm(items[1:], axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("name", ["bundle.json", *FILES])
def test_missing_file(folder: Path, name: str) -> None:
    """Each missing file is named, with what to do."""
    (folder / name).unlink()
    with pytest.raises(
        BundleError, match=rf"{re.escape(name)}: expected a file of the bundle, got none .*copy the whole"
    ):
        bundles.load(folder)


def test_no_folder(tmp_path: Path) -> None:
    """A path without a bundle says how one is made."""
    with pytest.raises(BundleError, match="expected the folder of a model bundle, got none; `interest model train`"):
        bundles.load(tmp_path / "nothing")


@pytest.mark.parametrize("percent", [0, 1, 50, 99])
@pytest.mark.parametrize("name", ["bundle.json", *FILES])
def test_m05_cut_file(folder: Path, name: str, percent: int) -> None:
    """M05: each file cut at 0, 1, 50 and 99 % is refused in one line that names it."""
    path = folder / name
    blob = path.read_bytes()
    path.write_bytes(blob[: min(len(blob) * percent // 100, len(blob) - 2)])
    with pytest.raises(BundleError, match=rf"^[^\n]*{re.escape(name)}: expected [^\n]*copy the (whole )?bundle again$"):
        bundles.load(folder)


@pytest.mark.parametrize("name", ["bundle.json", *FILES])
def test_m05_git_lfs_pointer(folder: Path, name: str) -> None:
    """M05: a Git LFS pointer in place of a file is called that."""
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 10\n")
    with pytest.raises(BundleError, match=rf"{re.escape(name)}: .*Git LFS pointer.*git lfs pull"):
        bundles.load(folder)


@pytest.mark.parametrize("name", ["bundle.json", "encoder.onnx", "items.npy", "golden.npz"])
def test_m07_files_of_two_bundles(folder: Path, tmp_path: Path, name: str) -> None:
    """M07: a file of another good bundle does not pass for this one's."""
    other = random_bundle(tmp_path / "other", item_ids=ITEMS, item_categories=CATEGORIES, seed=1)
    shutil.copy(other.folder / name, folder / name)
    with pytest.raises(BundleError, match=r"expected sha256 \w{16}… as bundle.json says, got .*another bundle's"):
        bundles.load(folder)


def described(folder: Path, **changes: object) -> None:
    """Change bundle.json by hand."""
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_other_contract_version(folder: Path) -> None:
    """A bundle of a later contract is not guessed at."""
    described(folder, contract=2)
    with pytest.raises(BundleError, match="contract version expected 1, got 2; take a bundle made for this release"):
        bundles.load(folder)


def test_description_changed_by_hand(folder: Path) -> None:
    """The version covers the description too."""
    described(folder, inputs=["item_index"])
    with pytest.raises(BundleError, match=r"bundle version expected \w{16} by its content, got '\w{16}'"):
        bundles.load(folder)


@pytest.mark.parametrize("text", ["[]", "{}", "null", '{"version": 1, "contract": 1, "files": 3}', "\ud7ff"])
def test_description_of_another_kind(folder: Path, text: str) -> None:
    """JSON of another shape is refused like none."""
    (folder / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=r"bundle\.json: expected a JSON object with version, contract and files"):
        bundles.load(folder)


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        (
            {"item_index": (TensorProto.FLOAT, ["batch"])},
            {},
            "input 'item_index' expected int64 [batch, steps], got float [batch]",
        ),
        (
            {"item_index": (TensorProto.INT64, [1, 50])},
            {},
            "input 'item_index' expected int64 [batch, steps], got int64 [1, 50]",
        ),
        ({"length": (TensorProto.INT64, ["batch"])}, {}, "input 'length' expected int32 [batch], got int64 [batch]"),
        (
            {"item_index": None},
            {},
            "input 'item_index' expected int64 [batch, steps], got none of that name but length",
        ),
        ({"mood": (TensorProto.FLOAT, ["batch"])}, {}, "input 'mood' is not in bundle.json"),
        (
            {},
            {"vector": (TensorProto.INT64, ["batch", 4])},
            "output 'vector' expected float [batch, 4], got int64 [batch, 4]",
        ),
        (
            {},
            {"vector": None, "mood": (TensorProto.FLOAT, ["batch", 4])},
            "output 'vector' expected float [batch, 4], got none of that name but mood",
        ),
    ],
)
def test_i12_graph_of_another_contract(inputs: Tensors, outputs: Tensors, said: str) -> None:
    """I12: a wrong dtype, rank, size or name is named when the graph is opened."""
    with pytest.raises(BundleError, match=re.escape(f"encoder.onnx: {said}; export the model again")):
        open_graph(graph_bytes(inputs, outputs), Signature(("item_index",), (), 0, 4))


def test_i12_the_right_graph_passes() -> None:
    """I12: the same graph unchanged is accepted, so the refusals are not for another reason."""
    assert open_graph(graph_bytes({}, {}), Signature(("item_index",), (), 0, 4))


def test_damaged_graph(whole: Path) -> None:
    """Bytes that are no graph, under a right digest, are a BundleError of one line."""
    bundle = bundles.load(whole)
    with pytest.raises(BundleError, match=r"^encoder.onnx: expected a graph that ONNX Runtime can open, got: [^\n]*$"):
        open_graph(bundle.encoder[:1000], bundle.signature)


def test_provider_is_never_another(whole: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Where there is no GPU, `cuda` is refused with one line, and nothing but that line is said."""
    bundle = bundles.load(whole)
    with pytest.raises(BundleError, match="provider expected cpu or cuda, got 'tpu'"):
        bundles.session(bundle, provider="tpu")
    with suppress(BundleError):
        assert bundles.session(bundle, provider="cuda").get_providers()[0] == "CUDAExecutionProvider"
    assert capfd.readouterr() == ("", "")


def test_verify_names_the_window(whole: Path) -> None:
    """A vector that is not reproduced fails with window and deviation; so does one that is not finite."""
    bundle = bundles.load(whole)
    graph = bundles.session(bundle)
    for wrong in (1e-3, np.nan):
        vectors = bundle.golden.vectors.copy()
        vectors[2, 5] += wrong
        bent = Bundle(**{**vars(bundle), "golden": bundles.Golden(bundle.golden.windows, vectors)})
        with pytest.raises(
            BundleError, match=r"golden window 2 \(3 events, run whole\) expected its stored vector within"
        ):
            bundles.verify(bent, graph)


def test_write_replaces_a_bundle_and_keeps_its_readme(folder: Path) -> None:
    """A newer model takes the folder's place at once; a README stays; nothing is left beside it."""
    old = bundles.load(folder).version
    (folder / "README.md").write_text("words")
    new = random_bundle(folder, item_ids=ITEMS, item_categories=CATEGORIES, seed=5).version
    assert old != new == bundles.load(folder).version
    assert (folder / "README.md").read_text() == "words"
    assert [folder.name] == [path.name for path in folder.parent.iterdir()]


def test_write_refuses_a_folder_of_something_else(tmp_path: Path) -> None:
    """What is not a bundle is not deleted."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="expected a new or empty folder, or a bundle to replace, got something else"):
        random_bundle(tmp_path, item_ids=ITEMS, item_categories=CATEGORIES)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_write_leaves_no_half(whole: Path, tmp_path: Path) -> None:
    """Parts that do not fit leave no folder, not even a hidden one."""
    good = bundles.load(whole)
    parts: dict[str, Any] = {
        "encoder": good.encoder,
        "catalog": good.catalog,
        "items": good.items,
        "golden_windows": good.golden.windows,
        "event_types": good.event_types,
        "states": good.states,
        "inputs": tuple(name for name in good.inputs if name != "text"),
    }
    for changes, said in (
        ({}, "input 'text' is not in bundle.json"),
        ({"items": good.items[:2]}, "items expected float32 [4, dim], got float32 [2, 16]"),
        ({"items": good.items * 2}, "item vectors expected of unit length, got length 2 in row 1"),
        ({"items": good.items * np.float32(np.nan)}, "item vectors expected of unit length, got length nan"),
        ({"event_types": ("click",)}, "event types expected to differ and to begin with 'other', got ['click']"),
        ({"inputs": ("mood",)}, "inputs expected among item_index"),
        ({"inputs": good.inputs}, "text vectors expected if and only if the graph reads text, got width 0"),
    ):
        with pytest.raises(BundleError, match=re.escape(said)):
            bundles.write(tmp_path / "new", **{**parts, **changes})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"item_ids": ["a", "b", "a"]}, "catalog: item ids must differ, got 'a' twice"),
        ({"item_ids": ["a", "b", ""]}, "catalog: item ids must not be empty nor hold a NUL, got ''"),
        ({"category_ids": ["x", "y\0"]}, r"catalog: category ids must not be empty nor hold a NUL, got 'y\x00'"),
        ({"category_ids": ["y"]}, "catalog: an item's category expected among the 1 listed, got 'x'"),
    ],
)
def test_catalog_of_bad_ids(changes: dict[str, Any], said: str) -> None:
    """Ids are distinct and not empty, and every item's category is listed."""
    parts: dict[str, Any] = {"item_ids": ITEMS, "item_categories": CATEGORIES, "category_ids": ["x"]}
    with pytest.raises(BundleError, match=f"^{re.escape(said)}$"):
        Catalog.build(**{**parts, **changes})


def test_pack_pads_to_the_longest() -> None:
    """Windows of 1 and 3 events, one text."""
    events = np.zeros(3, contract.EVENT_DTYPE)
    events["timestamp"] = 1, 2, 3
    packed = Windows.pack([(events[:1], [None]), (events, [None, [7, 9], None])])
    assert packed.events["timestamp"].tolist() == [[1, 0, 0], [1, 2, 3]]
    assert packed.text_row.tolist() == [[-1, -1, -1], [-1, 0, -1]]
    assert packed.tokens[0, :3].tolist() == [7, 9, 0]
    assert packed.length.tolist() == [1, 3]


def test_random_bundle_passes_the_checker(whole: Path) -> None:
    """The graph that tests use is one that ONNX itself accepts, with the real LSTM operator."""
    model = onnx.load(whole / "encoder.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert "LSTM" in [node.op_type for node in model.graph.node]
