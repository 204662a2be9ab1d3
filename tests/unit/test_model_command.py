"""`interest model` without PyTorch."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stream.commands import run
from tests.bundles import random_bundle


def test_training_without_pytorch(tmp_path: Path) -> None:
    """One line says what to install."""
    call = ["model", "train", str(tmp_path / "log"), "--output", str(tmp_path / "b")]
    code = f"import sys; sys.modules['torch'] = None; from stream.commands import run; sys.exit(run({call}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: training needs PyTorch: pip install 'interest-stream[train]'\n"


def test_verify_a_damaged_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 and one line for a bundle that is not whole; 0 for one that is."""
    good = random_bundle(tmp_path / "good", item_ids=["a"], item_categories=["x"]).folder
    assert run(["model", "verify", str(good)]) == 0
    assert "golden   4 windows, deviation at most" in capsys.readouterr().out
    bad = shutil.copytree(good, tmp_path / "bad")
    (bad / "items.npy").write_bytes(b"")
    assert run(["model", "verify", str(bad)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {bad / 'items.npy'}: expected sha256")
    assert said.count("\n") == 1


def test_serving_imports_nothing_of_training() -> None:
    """Bundle, features and simulator load where PyTorch, onnx and polars are not to be had."""
    block = "import sys; sys.modules.update(torch=None, onnx=None, polars=None); import models.bundle, models.simulator"
    subprocess.run([sys.executable, "-c", block], check=True)
