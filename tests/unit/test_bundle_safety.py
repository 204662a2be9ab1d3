"""A bundle is data: to load one runs nothing, reads nothing outside of its folder, and takes bounded memory."""

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models import arrays, bundle, folder
from models.external import has_external_data
from stream.errors import BundleError
from tests.bundles import random_bundle


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that can be served."""
    place = tmp_path_factory.mktemp("good") / "bundle"
    random_bundle(place, item_ids=["i1", "i2"], item_categories=["c1", "c1"])
    return place


@pytest.fixture
def place(good: Path, tmp_path: Path) -> Path:
    """A copy of it, to change."""
    return Path(shutil.copytree(good, tmp_path / "bundle"))


def replace(place: Path, name: str, blob: bytes) -> None:
    """Put another file in, with digests that are right, as somebody who means harm would."""
    described = json.loads((place / "bundle.json").read_text())
    for key in ("version", "command", "contract", "files"):
        described.pop(key)
    blobs = {one: (place / one).read_bytes() for one in folder.FILES}
    folder.put(place, described, blobs | {name: blob}, command="")


def describe(place: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change bundle.json, with a version that is right."""
    described = json.loads((place / "bundle.json").read_text())
    change(described)
    described["version"] = folder._version(described)
    (place / "bundle.json").write_text(json.dumps(described))


class Harm:
    """What unpickling would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("harm"),)  # type: ignore[return-value]


def header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    """The beginning of an .npy file."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"shape": shape, "fortran_order": False, "descr": descr})
    return stream.getvalue()


def test_objects_are_refused(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array of objects, a bare pickle, and either within an .npz: refused, and nothing of it is run."""
    monkeypatch.chdir(tmp_path)
    objects = io.BytesIO()
    np.save(objects, np.array([[Harm()]], object), allow_pickle=True)
    for blob in (objects.getvalue(), pickle.dumps(Harm()), header((1, 1), "|O") + pickle.dumps(Harm())):
        replace(place, "items.npy", blob)
        with pytest.raises(BundleError, match=r"items\.npy: expected an array without pickle"):
            bundle.load(place)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as file:
            for name in arrays.PARTS_ARRAYS:
                file.writestr(f"{name}.npy", blob)
        with pytest.raises(BundleError, match=r"without pickle"):
            arrays.read_npz(Path("parts.npz"), packed.getvalue(), arrays.PARTS_ARRAYS, {})
    assert not Path("harm").exists()


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret", "sub/file", "..", "", "items.npy/../../secret"])
def test_foreign_names(place: Path, name: str) -> None:
    """bundle.json can name no file but those of a bundle: whoever copies what it lists stays in the folder."""
    describe(place, lambda described: described["files"].update({name: "0" * 64}))
    with pytest.raises(BundleError) as caught:
        bundle.load(place)
    assert f"a bundle has no file {name!r}" in str(caught.value)


def test_links(place: Path, tmp_path: Path) -> None:
    """A link out of the folder is refused; one within it, and one to the folder, are followed."""
    (tmp_path / "outside.npy").write_bytes((place / "items.npy").read_bytes())
    (place / "items.npy").unlink()
    for target in (tmp_path / "outside.npy", Path("..") / "outside.npy"):
        (place / "items.npy").symlink_to(target)
        with pytest.raises(BundleError, match=r"items\.npy: expected a file in the bundle's folder, got "):
            bundle.load(place)
        (place / "items.npy").unlink()
    (place / "..data").mkdir()  # as Kubernetes mounts it
    shutil.move(tmp_path / "outside.npy", place / "..data" / "items.npy")
    (place / "items.npy").symlink_to(Path("..data") / "items.npy")
    (tmp_path / "current").symlink_to(place)
    assert 16 == bundle.load(tmp_path / "current").dim


def test_no_file(place: Path) -> None:
    """What is no file, a pipe or a folder, is refused and not waited for."""
    (place / "items.npy").unlink()
    os.mkfifo(place / "items.npy")
    with pytest.raises(BundleError, match=r"expected a file in the bundle's folder"):
        bundle.load(place)
    (place / "items.npy").unlink()
    (place / "items.npy").mkdir()
    with pytest.raises(BundleError, match=r"expected a file in the bundle's folder"):
        bundle.load(place)


def test_sizes(place: Path) -> None:
    """Files that are too large, alone or together, are refused before they are read."""
    with (place / "encoder.onnx").open("r+b") as file:
        file.truncate(folder.TOTAL_MAX_BYTES)  # a hole, which takes no room
    with pytest.raises(BundleError, match=r"expected 8,589,934,592 bytes at most, got 8,589,"):
        bundle.load(place)
    with (place / "bundle.json").open("r+b") as file:
        file.truncate(folder.DESCRIPTION_MAX_BYTES + 1)
    with pytest.raises(BundleError, match=r"bundle\.json: expected 16,777,216 bytes at most, got 16,777,217"):
        bundle.load(place)


def test_deep_description(place: Path) -> None:
    """A description of brackets only."""
    (place / "bundle.json").write_text("[" * 1_000_000)
    with pytest.raises(BundleError, match=r"expected a JSON object with version, contract and files"):
        bundle.load(place)


@pytest.mark.parametrize("shape", [(1 << 40, 16), (1 << 62, 1 << 62), (3, 15), (-1, 16)])
def test_promised_sizes(place: Path, shape: tuple[int, int]) -> None:
    """An array whose header promises other than what follows is refused before memory is taken for it."""
    blob = header(shape) + bytes(3 * 16 * 4)
    replace(place, "items.npy", blob)
    with pytest.raises(BundleError, match=r"bytes is promised, 192 follow"):
        bundle.load(place)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("codes.npy", blob)
        file.writestr("categories.npy", header((1, 16)) + bytes(64))
    with pytest.raises(BundleError, match=r"bytes is promised, 192 follow"):
        arrays.read_npz(Path("parts.npz"), packed.getvalue(), arrays.PARTS_ARRAYS, {})


def test_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    """An .npz that unpacks to more than it may, and one that says more than it can hold."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name in arrays.PARTS_ARRAYS:
            file.writestr(f"{name}.npy", header((1 << 14, 16)) + bytes(1 << 20))
    blob = packed.getvalue()
    assert len(blob) < 10_000
    monkeypatch.setattr(arrays, "UNPACKED_MAX_BYTES", 1 << 20)
    with pytest.raises(BundleError, match=r"2,097,\d+ bytes unpacked, expected 1,048,576 at most"):
        arrays.read_npz(Path("parts.npz"), blob, arrays.PARTS_ARRAYS, {})
    monkeypatch.undo()
    with zipfile.ZipFile(io.BytesIO(blob)) as file:
        size = file.getinfo("codes.npy").file_size
    told = blob.replace(size.to_bytes(4, "little"), (1 << 30).to_bytes(4, "little"))
    with pytest.raises(BundleError, match=r"codes\.npy says 1,073,741,824 bytes, more than it can hold"):
        arrays.read_npz(Path("parts.npz"), told, arrays.PARTS_ARRAYS, {})


def graph(*nodes: onnx.NodeProto, tensors: tuple[onnx.TensorProto, ...] = ()) -> onnx.GraphProto:
    """A graph of these."""
    output = helper.make_tensor_value_info("vector", TensorProto.FLOAT, [1])
    return helper.make_graph(list(nodes), "graph", [], [output], list(tensors))


def outside(location: str = "/etc/passwd") -> onnx.TensorProto:
    """A tensor whose data are in another file."""
    tensor = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def models() -> dict[str, onnx.ModelProto]:
    """Models with external data, wherever a tensor can be."""
    constant = helper.make_node("Constant", [], ["vector"], value=outside())
    sparse = onnx.SparseTensorProto(values=outside(), dims=[1])
    branch = helper.make_node("If", ["condition"], ["vector"], then_branch=graph(constant), else_branch=graph(constant))
    function = onnx.FunctionProto(name="f", domain="d", output=["vector"], node=[constant])
    whole = helper.make_model
    in_sparse = graph()
    in_sparse.sparse_initializer.append(sparse)
    located = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    return {
        "initializer": whole(graph(tensors=(outside(),))),
        "relative": whole(graph(tensors=(outside("../../secret"),))),
        "location only": whole(graph(tensors=(located,))),
        "constant": whole(graph(constant)),
        "branch": whole(graph(branch)),
        "sparse": whole(in_sparse),
        "function": whole(graph(), functions=[function]),
    }


@pytest.mark.parametrize("where", models())
def test_external_data(place: Path, where: str) -> None:
    """A graph that names other files for its data is refused, wherever in it the tensor is."""
    replace(place, "encoder.onnx", models()[where].SerializeToString())
    with pytest.raises(
        BundleError, match=r"encoder\.onnx: expected a graph with all its data in it, got one that names"
    ):
        bundle.session(bundle.load(place))


def test_data_within(good: Path) -> None:
    """A graph with its data in it passes; so does one with fields that this release does not know."""
    encoder = (good / "encoder.onnx").read_bytes()
    assert not has_external_data(encoder)
    assert not has_external_data(encoder + b"\xf8\x07\x01" + b"\xfa\x07\x02ab" + b"\xfd\x07abcd" + b"\xf9\x07abcdefgh")


@pytest.mark.parametrize("blob", [b"\x3a\xff", b"\x3a\x05ab", b"\x0b", b"\xff" * 12, b"\x08", b"version https"])
def test_no_graph(place: Path, blob: bytes) -> None:
    """Bytes that are no message are an error of the bundle, in one line."""
    replace(place, "encoder.onnx", blob)
    with pytest.raises(BundleError, match=r"^encoder\.onnx: expected a graph that ONNX Runtime can open, got: [^\n]*$"):
        bundle.session(bundle.load(place))


def test_deep_graph() -> None:
    """Graphs in graphs without end do not end the process."""
    inner = b""
    for _ in range(500):
        inner = _wrapped(1, _wrapped(5, _wrapped(6, inner)))  # a node's attribute that is a graph
    with pytest.raises(ValueError, match="more than 100 deep"):
        has_external_data(_wrapped(7, inner))


def _wrapped(number: int, content: bytes) -> bytes:
    size, length = len(content), b""
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content
