"""Where a graph runs: ONNX Runtime's execution provider, the one that was asked for or none.

ONNX Runtime goes on with the CPU in three cases, each with a line of its log at most: a library of CUDA cannot be
loaded, a node has no CUDA kernel, a call fails on the device. Here each is an error that says what is missing.
"""

import ctypes
import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Final

import onnxruntime

from stream.errors import BundleError

CPU: Final = "CPUExecutionProvider"
#: What ONNX Runtime calls the providers, and their options.
PROVIDERS: Final[dict[str, tuple[str, dict[str, int]]]] = {
    "cpu": (CPU, {}),
    "cuda": ("CUDAExecutionProvider", {"use_tf32": 0}),  # TF32 keeps 10 bits: golden vectors would not be met
}
#: Users of one call. On a CPU more gain nothing (measured flat from 256 to 1,024, LSTM of 128) and take memory. A GPU
#: fills only with thousands of rows; 50 steps of hidden 1,024 take about 4 GiB of its memory so.
ROWS: Final = {"CPUExecutionProvider": 512, "CUDAExecutionProvider": 4096}
#: Where the work is: these must be on the provider; what computes shapes may stay on the CPU.
HEAVY: Final = frozenset({"LSTM", "GRU", "RNN", "MatMul", "Gemm", "Conv", "Attention"})

_AGAIN = "export the model again with `interest model train`"


def open_session(graph: bytes, provider: str, threads: int) -> onnxruntime.InferenceSession:
    """A session of `graph` on `provider`, a name of PROVIDERS, with so many threads of the CPU.

    Raises:
        BundleError: the graph cannot be read, or the provider is not to be had here; one line says what is missing.
    """
    if provider not in PROVIDERS:
        raise BundleError(f"provider expected {' or '.join(PROVIDERS)}, got {provider!r}")
    name, provider_options = PROVIDERS[provider]
    if name not in onnxruntime.get_available_providers():
        raise BundleError(_refusal(provider, "ONNX Runtime was built without it here", "onnxruntime-gpu"))
    if provider != "cpu":
        with redirect_stdout(io.StringIO()):  # it prints what is not there; the check below tells it in one line
            onnxruntime.preload_dlls()  # CUDA's libraries where pip put them
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised, in one line
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    onnxruntime.set_default_logger_severity(4)
    try:
        # enable_fallback: it would begin anew on the CPU, at the start as well as after a call that failed.
        session = onnxruntime.InferenceSession(graph, options, [(name, provider_options)], enable_fallback=0)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        what = "a graph that ONNX Runtime can open" + ("" if provider == "cpu" else f" on provider {provider}")
        raise BundleError(f"encoder.onnx: expected {what}, got: {reason}; {_AGAIN}") from error
    finally:
        onnxruntime.set_default_logger_severity(2)
    require(session, provider)
    return session


def require(session: onnxruntime.InferenceSession, provider: str) -> None:
    """Check that `session` runs where it was to run.

    Raises:
        BundleError: it does not, or a node that is heavy does not.
    """
    name, _ = PROVIDERS[provider]
    got = session.get_providers()[0]
    if got != name:
        raise BundleError(_refusal(provider, f"ONNX Runtime gave {got}: {_missing()}", "what is missing"))
    if name == CPU or not hasattr(session, "get_provider_graph_assignment_info"):  # older ones don't tell
        return
    elsewhere = {
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != name
        for node in part.get_nodes()
    }
    if HEAVY & elsewhere:
        raise BundleError(
            f"provider {provider} expected for the whole model, but ONNX Runtime has no kernel there for its "
            f"{', '.join(sorted(HEAVY & elsewhere))} and would run that on the CPU; change the model or run with "
            "provider cpu"
        )


def rows(session: onnxruntime.InferenceSession) -> int:
    """How many users one call of `session` should take at most."""
    return ROWS[session.get_providers()[0]]


def _refusal(provider: str, reason: str, install: str) -> str:
    return f"provider {provider} expected, but {reason}; install {install} or run with provider cpu"


def _missing() -> str:
    """The first library that CUDA's provider lacks here, as the loader names it."""
    built = Path(onnxruntime.__file__).parent / "capi"
    for library, what in (
        ("libcuda.so.1", "the NVIDIA driver"),
        (str(built / "libonnxruntime_providers_shared.so"), "ONNX Runtime"),
        (str(built / "libonnxruntime_providers_cuda.so"), "CUDA or cuDNN, for which ONNX Runtime was built"),
    ):
        try:
            ctypes.CDLL(library, ctypes.RTLD_GLOBAL)
        except OSError as error:
            return f"{what} is missing ({error})"
    return "driver and libraries are there, but no device that can be used"
