"""Deploy, rollback and fetch, as they are called."""

from pathlib import Path

import pytest

from models.bundle import Bundle
from stream.commands import run
from tests.bundles import random_bundle, small_bundles


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Two models."""
    return small_bundles(tmp_path_factory.mktemp("models"), 2)


def test_there_and_back(models: list[Bundle], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each says what is to be served now, and in place of what."""
    place, (a, b) = str(tmp_path / "place"), models
    for line, *arguments in (
        (f"{place}: {a.version} is to be served", "deploy", a.folder, place),
        (f"{place}: {b.version} is to be served, in place of {a.version}", "deploy", b.folder, place),
        (f"{place}: {a.version} is to be served again, in place of {b.version}", "rollback", place),
        (f"{tmp_path / 'got'}: {a.version} of {place}", "fetch", place, tmp_path / "got"),
        (
            f"{tmp_path / 'got'}: {b.version} of {place}",
            "fetch",
            place,
            tmp_path / "got",
            "--bundle-version",
            b.version,
        ),
    ):
        assert 0 == run(["model", *map(str, arguments)])
        assert f"{line}\n" == capsys.readouterr().out


@pytest.mark.parametrize("file", ["encoder.onnx", "golden.npz"])
def test_damaged_bundle_is_not_deployed(
    file: str, models: list[Bundle], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not whole does not get to where workers look (M05)."""
    folder = random_bundle(tmp_path / "bundle", item_ids=["x"], item_categories=["k"], hidden=2, dim=2).folder
    (folder / file).write_bytes(b"")
    assert 1 == run(["model", "deploy", str(folder), str(tmp_path / "place")])
    assert f"{file}: expected sha256" in capsys.readouterr().err
    assert not (tmp_path / "place").exists()


def test_nothing_to_go_back_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A rollback where nothing was deployed is one line."""
    assert 1 == run(["model", "rollback", str(tmp_path)])
    assert "expected a place of `interest model deploy`, got no current.json" in capsys.readouterr().err
