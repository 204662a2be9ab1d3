"""A model runs where it was told to, or not at all: ONNX Runtime would go on elsewhere without a word."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import onnxruntime
import pytest

from models import bundle as bundles
from models import provider as providers
from models.bundle import Bundle
from models.provider import CPU, open_session, require, rows
from stream.errors import BundleError
from stream.settings import Settings
from tests.bundles import random_bundle

CUDA = "CUDAExecutionProvider"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Any model."""
    return random_bundle(tmp_path_factory.mktemp("bundles") / "b", item_ids=["a"], item_categories=["x"])


def fake(names: list[str], nodes: dict[str, str] | None = None) -> Any:
    """A session on the providers `names`, with nodes by operator and the provider that each is on."""
    parts = [
        SimpleNamespace(ep_name=name, get_nodes=lambda op=op: [SimpleNamespace(op_type=op)])
        for op, name in (nodes or {}).items()
    ]
    return SimpleNamespace(get_providers=lambda: names, get_provider_graph_assignment_info=lambda: parts)


def lacking(monkeypatch: pytest.MonkeyPatch, *parts: str) -> None:
    """Let the loader find all libraries but those whose names hold one of `parts`."""

    def load(name: str, mode: int = 0) -> None:
        if any(part in name for part in parts):
            raise OSError(f"{Path(name).name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", load)


def opening(monkeypatch: pytest.MonkeyPatch, session: Callable[..., Any]) -> None:
    """Put `session` in the place of ONNX Runtime's, of a build with CUDA."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("not there"))  # noqa: T201 - as it does
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)


def test_cuda_is_opened_without_tf32_and_without_fallback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Only CUDA is asked for, in full float32, and a call that fails there is not tried on the CPU (P1)."""
    asked: list[Any] = []

    def session(_graph: bytes, options: Any, wanted: Any, **more: Any) -> Any:
        asked.append((wanted, options.intra_op_num_threads, more))
        return fake([CUDA, CPU], {"LSTM": CUDA, "MatMul": CUDA, "Unsqueeze": CPU})

    opening(monkeypatch, session)
    open_session(b"", "cuda", 2)
    assert [([(CUDA, {"use_tf32": 0})], 2, {"enable_fallback": 0})] == asked
    assert ("", "") == capfd.readouterr()


def test_cpu_is_opened_as_asked(bundle: Bundle) -> None:
    """The CPU needs nothing, computes, and takes 512 users a call."""
    session = open_session(bundle.encoder, "cpu", 2)
    assert [CPU] == session.get_providers()
    assert 2 == session.get_session_options().intra_op_num_threads
    assert 512 == rows(session)
    assert bundles.verify(bundle, session) < bundles.GOLDEN_TOLERANCE


def test_a_gpu_gets_more_users_a_call() -> None:
    """A GPU that gets as few as a CPU would idle."""
    assert 4096 == rows(fake([CUDA, CPU]))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (["libcuda.so.1", "libcublas"], r"the NVIDIA driver is missing \(libcuda\.so\.1: cannot open [a-z ]*\)"),
        (["providers_cuda"], r"CUDA or cuDNN, for which ONNX Runtime was built is missing \([^)]*: cannot [a-z ]*\)"),
        (["nothing"], "driver and libraries are there, but no device that can be used"),
    ],
)
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, parts: list[str], said: str) -> None:
    """ONNX Runtime that came back on the CPU is refused in one line: driver, library or device."""
    lacking(monkeypatch, *parts)
    opening(monkeypatch, lambda *_args, **_more: fake([CPU]))
    with pytest.raises(
        BundleError,
        match=rf"^provider cuda expected, but ONNX Runtime gave {CPU}: {said}; "
        "install what is missing or run with provider cpu$",
    ):
        open_session(b"", "cuda", 1)


def test_a_build_for_cpus_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package of ONNX Runtime without CUDA is refused before anything is opened."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["AzureExecutionProvider", CPU])
    with pytest.raises(
        BundleError,
        match=r"^provider cuda expected, but ONNX Runtime was built without it here; "
        "install onnxruntime-gpu or run with provider cpu$",
    ):
        open_session(b"", "cuda", 1)


def test_a_device_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What CUDA says at the start is passed on in one line."""

    def session(*_args: Any, **_more: Any) -> Any:
        raise RuntimeError("CUDA failure 2: out of memory ;\n GPU=0")

    opening(monkeypatch, session)
    with pytest.raises(BundleError, match=r"can open on provider cuda, got: CUDA failure 2: out of memory ; GPU=0; "):
        open_session(b"", "cuda", 1)


def test_heavy_nodes_on_the_cpu_are_refused() -> None:
    """A model whose LSTM has no kernel on the GPU runs on the CPU while the provider is said to be CUDA: refused."""
    require(fake([CUDA, CPU], {"LSTM": CUDA, "Shape": CPU}), "cuda")
    with pytest.raises(
        BundleError,
        match=re.escape(
            "provider cuda expected for the whole model, but ONNX Runtime has no kernel there for its LSTM, MatMul and "
            "would run that on the CPU; change the model or run with provider cpu"
        ),
    ):
        require(fake([CUDA, CPU], {"MatMul": CPU, "LSTM": CPU, "Shape": CPU, "Gemm": CUDA}), "cuda")


def test_onnx_runtime_tells_who_computes(bundle: Bundle) -> None:
    """The check rests on what ONNX Runtime says of each node; it does, and knows the heavy ones by these names."""
    session = open_session(bundle.encoder, "cpu", 1)
    told = {
        (part.ep_name, node.op_type)
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    }
    assert {(CPU, "LSTM"), (CPU, "MatMul")} <= told


def test_a_call_that_fails_is_not_tried_elsewhere(bundle: Bundle) -> None:
    """A session goes on where it is after an error: the next call is right, on the same provider."""
    session = bundles.session(bundle)
    assert not session._enable_fallback
    zero = bundles.zero_states(bundle.signature, len(bundle.golden.vectors))
    with pytest.raises(ValueError, match="missing"):
        session.run(["vector"], {"length": np.ones(1, np.int32)})
    inputs = bundle.golden.windows.inputs(bundle.features)
    vectors, _ = bundles.run(session, bundle.signature, inputs, zero)
    np.testing.assert_allclose(vectors, bundle.golden.vectors, atol=bundles.GOLDEN_TOLERANCE)
    assert [CPU] == session.get_providers()


def test_settings_and_providers_have_the_same_names() -> None:
    """Each provider that can be set can be opened."""
    assert tuple(providers.PROVIDERS) == get_args(Settings.model_fields["provider"].annotation)
