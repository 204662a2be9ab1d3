"""A worker never imports the training stack: every module of `stream`, and the command, with torch blocked."""

import os
import subprocess
import sys

import pytest

#: What only training may import.
BLOCKED = ("torch", "onnx", "polars", "sklearn", "gensim", "jieba", "tensorboard")

BLOCK = f"""
import importlib.abc, sys

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise AssertionError("imports " + name)
        return None

sys.meta_path.insert(0, Block())
"""

EVERY_MODULE = """
import importlib, pkgutil, stream
names = [module.name for module in pkgutil.walk_packages(stream.__path__, "stream.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(*names)
"""


def python(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run code in an interpreter of its own, where the training stack cannot be imported."""
    return subprocess.run(
        [sys.executable, "-c", BLOCK + code, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_the_block_works() -> None:
    """An import of torch fails in such an interpreter, also where someone guards it against ImportError."""
    done = python("try:\n    import torch.nn\nexcept ImportError:\n    pass")

    assert done.returncode == 1
    assert "AssertionError: imports torch" in done.stderr


def test_no_module_of_stream_imports_training() -> None:
    """`stream` and every module in it, the commands too."""
    done = python(EVERY_MODULE)

    assert done.returncode == 0, done.stderr
    assert {"stream.worker", "stream.batch", "stream.commands.worker"} <= set(done.stdout.split())


@pytest.mark.parametrize("arguments", [["--help"], ["worker", "--help"]])
def test_help_imports_no_training(arguments: list[str]) -> None:
    """The command's help, and the worker's."""
    done = python("from stream.commands import main; main()", *arguments)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: ")


def test_what_a_worker_needs_of_models_imports_no_training() -> None:
    """The two modules of `models` that `stream` may import."""
    done = python("import models.bundle, models.features")

    assert done.returncode == 0, done.stderr


def test_telemetry_is_off_before_onnx_runtime_comes() -> None:
    """Whatever of ours is imported first, ONNX Runtime finds its telemetry switched off."""
    watch = """
import importlib, pkgutil, subprocess, sys
check = '''
import os, sys, importlib, importlib.abc
class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            assert os.environ.get("ORT_DISABLE_TELEMETRY") == "1", "telemetry is on"
        return None
sys.meta_path.insert(0, Watch())
importlib.import_module(sys.argv[1])
'''
for module in ("stream.worker", "stream.encode", "stream.look", "models.graph", "stream.demo.run"):
    subprocess.run([sys.executable, "-c", check, module], check=True)
"""
    env = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", watch], env=env, capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stderr
