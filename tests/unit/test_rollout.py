"""A new model is noticed, proved and handed over; a bad one is refused and counted, and the old one stays."""

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import fsspec
import pytest

from models import bundle as bundles
from models.bundle import Bundle
from models.place import Place, PlaceError
from stream.encode import Encoder
from stream.errors import BundleError
from stream.metrics import Totals
from stream.rollout import Rollout
from tests.bundles import small_bundles


def prepare(bundle: Bundle) -> Encoder:
    """Proved, as the worker does it."""
    session = bundles.session(bundle)
    bundles.verify(bundle, session)
    return Encoder(bundle, session, 10)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Two models."""
    return small_bundles(tmp_path_factory.mktemp("models"), 2)


@pytest.fixture
def totals() -> Totals:
    """Counters."""
    return Totals()


def copied(bundle: Bundle, folder: Path) -> Path:
    """The bundle's files in `folder`."""
    return Path(shutil.copytree(bundle.folder, folder, dirs_exist_ok=True))


def served(encoder: Encoder | None) -> str | None:
    """The version that takes over."""
    return None if encoder is None else encoder.bundle.version


def test_folder_that_changes(models: list[Bundle], tmp_path: Path, totals: Totals) -> None:
    """A bundle that is put in place of another takes over, once."""
    a, b = models
    rollout = Rollout(str(copied(a, tmp_path / "model")), tmp_path / "cache", prepare, totals)
    assert a.version == served(rollout.start())
    assert None is rollout.look()
    copied(b, tmp_path / "model")
    assert b.version == served(rollout.look())
    assert None is rollout.look()
    assert 0 == totals.models_refused


def test_place(models: list[Bundle], tmp_path: Path, totals: Totals) -> None:
    """In a place the last deployed is served; after a rollback the one of before, at the next look."""
    place = Place(str(tmp_path))
    place.deploy(models[0].folder)
    rollout = Rollout(str(tmp_path), tmp_path / "cache", prepare, totals)
    assert models[0].version == served(rollout.start())
    place.deploy(models[1].folder)
    assert models[1].version == served(rollout.look())
    place.roll_back()
    assert models[0].version == served(rollout.look())


def test_touched_without_a_change(models: list[Bundle], tmp_path: Path, totals: Totals) -> None:
    """Files that are written again as they were are not another model."""
    folder = copied(models[0], tmp_path / "model")
    rollout = Rollout(str(folder), tmp_path / "cache", prepare, totals)
    rollout.start()
    shutil.rmtree(folder)
    copied(models[0], folder)
    with patch.object(Rollout, "_take", side_effect=AssertionError("nothing new")):
        assert None is rollout.look()
    assert 0 == totals.models_refused


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "0 %": lambda _blob: b"",
    "1 %": lambda blob: blob[: len(blob) // 100],
    "50 %": lambda blob: blob[: len(blob) // 2],
    "99 %": lambda blob: blob[: len(blob) * 99 // 100],
    "pointer": lambda _blob: POINTER,
}


@pytest.mark.parametrize("file", ["encoder.onnx", "items.npy", "bundle.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_cut_file(
    file: str, damage: str, models: list[Bundle], tmp_path: Path, totals: Totals, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is cut, or a Git LFS pointer, is refused once and counted; the old model stays (M05)."""
    a, b = models
    folder = copied(a, tmp_path / "model")
    rollout = Rollout(str(folder), tmp_path / "cache", prepare, totals)
    rollout.start()

    copied(b, folder)
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(DAMAGES[damage](whole))
    with caplog.at_level(logging.ERROR):
        assert [None, None] == [rollout.look(), rollout.look()]
    assert 1 == totals.models_refused
    assert [1, True] == [len(caplog.messages), f"new serving model refused, {a.version} stays: " in caplog.messages[0]]

    (folder / file).write_bytes(whole)
    assert b.version == served(rollout.look())


def test_cut_file_at_the_start(models: list[Bundle], tmp_path: Path, totals: Totals) -> None:
    """At the start there is no old model: a clear error names the file (M05)."""
    folder = copied(models[0], tmp_path / "model")
    (folder / "encoder.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match=r"encoder\.onnx: expected sha256"):
        Rollout(str(folder), tmp_path / "cache", prepare, totals).start()


def test_shadow_cannot_keep_a_worker_from_starting(
    models: list[Bundle], tmp_path: Path, totals: Totals, caplog: pytest.LogCaptureFixture
) -> None:
    """A second model that is cut at the start, or not there, is refused and counted; mended, it takes over (M05)."""
    missing = Rollout(str(tmp_path / "nowhere"), tmp_path / "cache", prepare, totals, "shadow")
    assert None is missing.try_to_start()
    folder = copied(models[0], tmp_path / "model")
    whole = (folder / "encoder.onnx").read_bytes()
    (folder / "encoder.onnx").write_bytes(b"")
    cut = Rollout(str(folder), tmp_path / "cache", prepare, totals, "shadow")
    assert [None, None] == [cut.try_to_start(), cut.look()]
    assert 2 == totals.models_refused
    assert all("new shadow model refused, none stays: " in message for message in caplog.messages)

    (folder / "encoder.onnx").write_bytes(whole)
    copied(models[0], tmp_path / "nowhere")
    assert [models[0].version] * 2 == [served(cut.look()), served(missing.look())]


def test_files_of_two_bundles(models: list[Bundle], tmp_path: Path, totals: Totals) -> None:
    """A folder with files of both is refused by the digests, whichever are mixed (M07)."""
    a, b = models
    folder = copied(a, tmp_path / "model")
    rollout = Rollout(str(folder), tmp_path / "cache", prepare, totals)
    rollout.start()
    for count, name in enumerate(("encoder.onnx", "items.npy", "golden.npz"), start=1):
        copied(a, folder)
        (folder / name).write_bytes((b.folder / name).read_bytes())
        assert None is rollout.look()
        assert count == totals.models_refused


def test_golden_vectors_that_are_not_met(models: list[Bundle], tmp_path: Path, totals: Totals) -> None:
    """A whole bundle that gives other vectors here than where it was made never serves (P9)."""
    a, b = models
    folder = copied(a, tmp_path / "model")
    rollout = Rollout(str(folder), tmp_path / "cache", prepare, totals)
    rollout.start()
    copied(b, folder)
    with patch("models.bundle.verify", side_effect=BundleError("golden window 3: off by 0.2")):
        assert None is rollout.look()
    assert 1 == totals.models_refused


def test_unforeseen_failure(models: list[Bundle], tmp_path: Path, totals: Totals) -> None:
    """Whatever a new bundle brings along, a look at it does not end the worker."""
    folder = copied(models[0], tmp_path / "model")
    rollout = Rollout(str(folder), tmp_path / "cache", prepare, totals)
    rollout.start()
    copied(models[1], folder)
    with patch("models.bundle.load", side_effect=MemoryError):
        assert None is rollout.look()
    assert 1 == totals.models_refused


def test_store_out_of_reach(
    models: list[Bundle], tmp_path: Path, totals: Totals, caplog: pytest.LogCaptureFixture
) -> None:
    """While a store does not answer the model serves on, told once; a worker begins with what it fetched last."""
    where, cache = f"memory://{tmp_path.name}", tmp_path / "cache"
    Place(where).deploy(models[0].folder)
    rollout = Rollout(where, cache, prepare, totals)
    rollout.start()
    fs = fsspec.filesystem("memory")

    with patch.object(type(fs), "cat_file", side_effect=ConnectionError("refused")):
        assert [None, None] == [rollout.look(), rollout.look()]
        again = Rollout(where, cache, prepare, totals)
        assert models[0].version == served(again.start())
        shutil.rmtree(cache)
        with pytest.raises(PlaceError, match="cannot be reached: ConnectionError: refused"):
            Rollout(where, cache, prepare, totals).start()
    assert (2, 0) == (totals.model_checks_failed, totals.models_refused)
    assert 2 == len(caplog.messages)

    Place(where).deploy(models[1].folder)
    assert models[1].version == served(again.look())
    assert [models[1].version] == [path.name for path in cache.iterdir()]


def test_folder_that_is_gone(models: list[Bundle], tmp_path: Path, totals: Totals) -> None:
    """Between two renames a folder is not there: nothing is refused, and the next look finds it."""
    folder = copied(models[0], tmp_path / "model")
    rollout = Rollout(str(folder), tmp_path / "cache", prepare, totals)
    rollout.start()
    shutil.rmtree(folder)
    assert None is rollout.look()
    copied(models[1], folder)
    assert models[1].version == served(rollout.look())
    assert 0 == totals.models_refused


def test_follow(models: list[Bundle], tmp_path: Path, totals: Totals) -> None:
    """It looks again and again, and hands over what takes over with its role."""
    folder = copied(models[0], tmp_path / "model")
    rollout = Rollout(str(folder), tmp_path / "cache", prepare, totals, "shadow")
    rollout.start()

    async def follow() -> tuple[Encoder, str]:
        handed: asyncio.Future[tuple[Encoder, str]] = asyncio.get_running_loop().create_future()

        async def hand_over(encoder: Encoder, role: str) -> None:
            handed.set_result((encoder, role))

        task = asyncio.create_task(rollout.follow(0.01, hand_over))
        copied(models[1], folder)
        try:
            return await asyncio.wait_for(handed, 30)
        finally:
            task.cancel()

    encoder, role = asyncio.run(follow())
    assert (models[1].version, "shadow") == (encoder.bundle.version, role)
