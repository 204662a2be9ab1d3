"""Where a fleet takes its model from: deployed, found, fetched and taken back, in a folder and in a store."""

import json
import os
import shutil
from pathlib import Path
from unittest.mock import patch

import fsspec
import pytest

from models import folder
from models.bundle import Bundle
from models.place import Place, PlaceError, load
from stream.errors import BundleError, UsageError
from tests.bundles import small_bundles


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Three models."""
    return small_bundles(tmp_path_factory.mktemp("bundles"), 3)


@pytest.fixture(params=["folder", "store"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place that does not exist yet, of this machine and of another."""
    return str(tmp_path / "place") if request.param == "folder" else f"memory://{tmp_path.name}/{request.node.name}"


def test_deploy_and_roll_back(where: str, bundles: list[Bundle], tmp_path: Path) -> None:
    """What was deployed last is served; each rollback goes one further back, and a deploy begins from there."""
    place, (a, b, c) = Place(where), bundles

    told = [place.deploy(one.folder) for one in (a, b, c)]
    assert [(a.version, None), (b.version, a.version), (c.version, b.version)] == told
    assert (c.version, b.version) == place.roll_back()
    assert b.version == place.current() == load(where).version
    assert (b.version, a.version) == place.roll_back()
    with pytest.raises(PlaceError, match=f"nothing was served before {a.version}"):
        place.roll_back()
    assert (c.version, a.version) == place.deploy(c.folder)
    assert (c.version, a.version) == place.roll_back()


def test_version(where: str, bundles: list[Bundle], tmp_path: Path) -> None:
    """A place and a bundle say their version without being read whole; what says none is named."""
    place = Place(where)
    with pytest.raises(PlaceError, match="expected a model bundle or a place with some, got none"):
        place.version()
    place.deploy(bundles[0].folder)
    assert bundles[0].version == place.version() == Place(str(bundles[0].folder)).version()
    (tmp_path / "bundle.json").write_text('{"version": "../x"}')
    with pytest.raises(PlaceError, match=r"bundle\.json: expected a bundle version, 16 hex digits"):
        Place(str(tmp_path)).version()


def test_same_bundle_again(where: str, bundles: list[Bundle]) -> None:
    """To deploy what is served already changes nothing of what a rollback goes back to."""
    place = Place(where)
    for one in (bundles[0], bundles[1], bundles[1]):
        place.deploy(one.folder)
    assert (bundles[1].version, bundles[0].version) == place.roll_back()


def test_mark_differs_when_something_is_new(where: str, bundles: list[Bundle]) -> None:
    """Looks are the same while the same is to be served; a deploy or a changed file shows, and a rollback goes back."""
    place = Place(where)
    place.deploy(bundles[0].folder)
    first = place.mark()
    assert first == place.mark()
    place.deploy(bundles[1].folder)
    second = place.mark()
    place.roll_back()
    assert first == place.mark() != second
    fs, root = fsspec.core.url_to_fs(where)
    fs.pipe_file(f"{root}/{bundles[0].version}/items.npy", b"cut")
    assert first != place.mark()


def test_fetch(where: str, bundles: list[Bundle], tmp_path: Path) -> None:
    """A bundle is copied whole, the one to be served or the one that is named; another in the folder is replaced."""
    place = Place(where)
    for one in bundles[:2]:
        place.deploy(one.folder)

    assert bundles[1].version == place.fetch(tmp_path / "got")
    assert bundles[0].version == place.fetch(tmp_path / "got", bundles[0].version)
    assert bundles[0].version == load(str(tmp_path / "got")).version
    assert ["got"] == [path.name for path in tmp_path.iterdir() if path.name != "place"]


def test_fetch_of_a_bundle(bundles: list[Bundle], tmp_path: Path) -> None:
    """A bundle that lies in no place is fetched too, and compared with the version that is asked for."""
    place = Place(str(bundles[0].folder))
    assert bundles[0].version == place.fetch(tmp_path / "got", bundles[0].version)
    with pytest.raises(BundleError, match=f"expected bundle {bundles[1].version}, got {bundles[0].version}"):
        place.fetch(tmp_path / "other", bundles[1].version)
    assert not (tmp_path / "other").exists()


def test_damaged_in_the_store(where: str, bundles: list[Bundle], tmp_path: Path) -> None:
    """A file that does not fit its digest leaves nothing behind; what is in the folder stays (M05, M07)."""
    place = Place(where)
    place.deploy(bundles[0].folder)
    place.fetch(tmp_path / "got")
    fs, root = fsspec.core.url_to_fs(where)
    fs.pipe_file(f"{root}/{bundles[0].version}/items.npy", (bundles[1].folder / "items.npy").read_bytes())

    with pytest.raises(BundleError, match=r"items\.npy: expected sha256"):
        place.fetch(tmp_path / "got")
    assert bundles[0].version == load(str(tmp_path / "got")).version
    assert {"got", "place"} >= {path.name for path in tmp_path.iterdir()}


def test_bundle_beyond_all_bounds(where: str, bundles: list[Bundle], tmp_path: Path) -> None:
    """What is larger than a bundle may be is not fetched: a disk is not filled by a wrong file."""
    place = Place(where)
    place.deploy(bundles[0].folder)
    with (
        patch.object(folder, "TOTAL_MAX_BYTES", 1000),
        pytest.raises(BundleError, match="expected 1,000 bytes at most"),
    ):
        place.fetch(tmp_path / "got")
    assert not (tmp_path / "got").exists()


def test_killed_amid_a_fetch(where: str, bundles: list[Bundle], tmp_path: Path) -> None:
    """What a process left that was killed is in nobody's way, though the next one has its number, as in a container."""
    place = Place(where)
    place.deploy(bundles[0].folder)
    place.fetch(tmp_path / "got")
    for kind in ("new", "old"):
        (tmp_path / f".got.{kind}-{os.getpid()}").mkdir()
        (tmp_path / f".got.{kind}-{os.getpid()}" / "items.npy").write_bytes(b"half")
    assert bundles[0].version == place.fetch(tmp_path / "got")
    assert {"got", "place"} >= {path.name for path in tmp_path.iterdir()}


def test_obtain_from_a_store_keeps_what_is_whole(bundles: list[Bundle], tmp_path: Path) -> None:
    """A version that lies in the cache is not fetched again; a broken copy is."""
    where = f"memory://{tmp_path.name}"
    place = Place(where)
    place.deploy(bundles[0].folder)
    cache = tmp_path / "cache"
    kept = place.obtain(cache)
    before = (kept / "items.npy").stat().st_ino
    assert before == (place.obtain(cache) / "items.npy").stat().st_ino
    (kept / "items.npy").write_bytes(b"cut")
    assert (bundles[0].folder / "items.npy").read_bytes() == (place.obtain(cache) / "items.npy").read_bytes()


def test_obtain_of_a_bundle_in_a_store(bundles: list[Bundle], tmp_path: Path) -> None:
    """A URL may name a bundle itself."""
    fs = fsspec.filesystem("memory")
    fs.put(str(bundles[0].folder), f"/{tmp_path.name}", recursive=True)
    assert bundles[0].version == load(f"memory://{tmp_path.name}").version


@pytest.mark.parametrize(
    "said", [b"{", b"[]", b'{"version": "../../etc", "before": []}', b'{"version": 1, "before": []}']
)
def test_current_that_says_nothing(said: bytes, where: str, bundles: list[Bundle], tmp_path: Path) -> None:
    """A version is 16 hex digits, so that no path leads out of the place."""
    Place(where).deploy(bundles[0].folder)
    fs, root = fsspec.core.url_to_fs(where)
    fs.pipe_file(f"{root}/current.json", said)
    with pytest.raises(PlaceError, match=r"current\.json: expected"):
        load(where)


def test_former_bundle_is_gone(tmp_path: Path, bundles: list[Bundle]) -> None:
    """A rollback to what somebody has deleted is refused, and what is served stays."""
    place = Place(str(tmp_path))
    for one in bundles[:2]:
        place.deploy(one.folder)
    shutil.rmtree(tmp_path / bundles[0].version)
    with pytest.raises(PlaceError, match="no longer there"):
        place.roll_back()
    assert bundles[1].version == json.loads((tmp_path / "current.json").read_text())["version"]


def test_nowhere_to_fetch_into(tmp_path: Path, bundles: list[Bundle]) -> None:
    """Where nothing can be written the folder is named, as in a container whose root is read-only."""
    where = f"memory://{tmp_path.name}"
    Place(where).deploy(bundles[0].folder)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BundleError, match="file/got: the bundle cannot be written"):
        Place(where).fetch(tmp_path / "file" / "got")
    missing = FileNotFoundError(2, "No usable temporary directory found")
    with patch("tempfile.TemporaryDirectory", side_effect=missing), pytest.raises(PlaceError, match="TMPDIR"):
        load(where)


def test_not_a_place(tmp_path: Path, bundles: list[Bundle]) -> None:
    """A bundle's own folder takes no other bundles, and nothing can be rolled back there."""
    with pytest.raises(PlaceError, match="expected a place for bundles, got a bundle"):
        Place(str(bundles[0].folder)).deploy(bundles[1].folder)
    with pytest.raises(PlaceError, match=r"got no current\.json"):
        Place(str(bundles[0].folder)).roll_back()
    with pytest.raises(PlaceError, match="expected a model bundle or a place with some, got none"):
        load(str(tmp_path / "nowhere"))


def test_wrong_urls() -> None:
    """What fsspec does not know is a wrong call; no password is shown."""
    with pytest.raises(UsageError, match="nosuch://bucket/x: expected a folder or a URL"):
        Place("nosuch://bucket/x")
    with pytest.raises(UsageError, match="gcsfs") as found:
        Place("gs://key:hidden@bucket/x")
    assert "hidden" not in str(found.value)
