"""New items without training: they stand near what stands beside them, and nothing else moves."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from models import bundle as bundles
from models.bundle import Bundle
from stream.commands import run as interest
from stream.contract import hash64
from tests.bundles import random_bundle
from tests.logs import END_MS, event, shop_log, write_log

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module", params=["0", "64"], ids=["no codes", "codes"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny model of a shop."""
    folder = tmp_path_factory.mktemp("refresh")
    log = shop_log(folder / "log.jsonl", events=10_000, users=120)
    options = ["--epochs=2", "--dim=16", "--hidden=12", "--compare=no", "--codes", request.param]
    assert 0 == interest(["model", "train", str(log), "--output", str(folder / "bundle"), *options])
    return bundles.load(folder / "bundle")


def refreshed(bundle: Bundle, folder: Path, events: list[dict[str, Any]], *options: str) -> Bundle:
    """The bundle with what these events add."""
    log = write_log(folder / "more", events)
    assert 0 == interest(["model", "refresh", str(bundle.folder), str(log), "--output", str(folder / "b"), *options])
    return bundles.load(folder / "b")


def test_a_new_item_stands_beside_its_neighbours(trained: Bundle, tmp_path: Path) -> None:
    """What is bought with phones and is a phone is near the phones; all that was there keeps row, vector and score."""
    names = trained.catalog.item_ids.tolist()
    phones = [name for name in names if name.startswith("phones-")][:5]
    shoes = [name for name in names if name.startswith("running-shoes-")][:5]
    assert 5 == len(phones) == len(shoes)
    events = [
        event(f"{kind}-{user}", item, END_MS + at, category_id=category)
        for user in range(30)
        for kind, category, beside in (("new-phone", "phones", phones), ("new-shoe", "running-shoes", shoes))
        for at, item in enumerate([beside[user % 5], kind, beside[(user + 1) % 5]])
    ]
    bundle = refreshed(trained, tmp_path, events)
    assert [*names, "new-phone", "new-shoe"] == bundle.catalog.item_ids.tolist()
    np.testing.assert_array_equal(trained.items, bundle.items[: len(names)])
    np.testing.assert_array_equal(trained.golden.vectors, bundle.golden.vectors)
    assert bundles.verify(bundle, bundles.session(bundle)) < 1e-5
    phone, shoe = bundle.items[-2:]
    near = {kind: trained.items[[names.index(name) for name in some]] for kind, some in (("p", phones), ("s", shoes))}
    assert (near["p"] @ phone).mean() > (near["s"] @ phone).mean() + 0.2
    assert (near["s"] @ shoe).mean() > (near["p"] @ shoe).mean() + 0.05
    came = bundle.metrics["refreshed"][-1]
    assert {"from": trained.version, "added": 2, "left_out": 0} == {key: came[key] for key in came if key != "by"}
    assert 2 == came["by"]["neighbours"]


def test_the_graph_knows_the_new_item(trained: Bundle, tmp_path: Path) -> None:
    """A window with it gives another vector than before, when the item was unknown; other windows give theirs."""
    phones = [name for name in trained.catalog.item_ids.tolist() if name.startswith("phones-")][:5]
    events = [
        event(f"u{user}", item, END_MS + at, category_id="phones")
        for user in range(30)
        for at, item in enumerate([phones[user % 5], "new", phones[(user + 1) % 5]])
    ]
    bundle = refreshed(trained, tmp_path, events)
    windows = bundle.golden.windows
    windows.events["item"][0, 0] = hash64("new")
    was = bundles.run(
        bundles.session(trained), trained.signature, windows.inputs(trained.features), zeros(trained, len(windows))
    )
    now = bundles.run(
        bundles.session(bundle), bundle.signature, windows.inputs(bundle.features), zeros(bundle, len(windows))
    )
    np.testing.assert_allclose(was[0][1:], now[0][1:], atol=1e-6)
    assert np.abs(now[0][0] - was[0][0]).max() > 0.01


def zeros(bundle: Bundle, count: int) -> Any:
    """States before any event."""
    return bundles.zero_states(bundle.signature, count)


def test_a_catalog_alone_adds_items_of_known_categories(trained: Bundle, tmp_path: Path) -> None:
    """An item without an event stands where its category does; one of which nothing is known stays out, and is told."""
    catalog = write_log(
        tmp_path / "catalog",
        [{"item_id": "a", "category_id": "phones"}, {"item_id": "z", "category_id": "never"}, {"item_id": "y"}],
    )
    bundle = refreshed(trained, tmp_path, [event("u", "a", END_MS)], "--catalog", str(catalog))
    came = bundle.metrics["refreshed"][-1]
    if len(trained.parts.codes):
        assert (3, 0) == (came["added"], came["left_out"])
    else:
        assert (1, 2) == (came["added"], came["left_out"])
        row = bundle.catalog.category_ids.tolist().index("phones")
        expected = trained.parts.categories[row] / np.linalg.norm(trained.parts.categories[row])
        np.testing.assert_allclose(bundle.items[-1], expected, atol=1e-6)


def test_attributes_say_where_an_item_stands(trained: Bundle, tmp_path: Path) -> None:
    """Learnt from the items that are known: a new one with the attribute of some stands nearer to these."""
    names = [name for name in trained.catalog.item_ids.tolist() if name]
    kinds = {name: name.rsplit("-", 1)[0] for name in names}
    told = {name: [kind] for name, kind in kinds.items()} | {"new": ["phones"]}
    (tmp_path / "attributes.json").write_bytes(orjson.dumps(told))
    events = [event("u", item, END_MS + at * 1000) for at, item in enumerate([*names, "new"])]
    bundle = refreshed(
        trained, tmp_path, events, "--attributes", str(tmp_path / "attributes.json"), "--minute-max=0", "--day-max=0"
    )
    assert 1 == bundle.metrics["refreshed"][-1]["by"]["text or attributes"]
    scores = bundle.items[1:-1] @ bundle.items[-1]
    phones = np.array([kind == "phones" for kind in kinds.values()], bool)
    assert scores[phones].mean() > scores[~phones].mean() + 0.05


def test_nothing_to_add_and_graphs_of_others(
    trained: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are told in a line, and nothing is written."""
    log = write_log(tmp_path / "log", [event("u", trained.catalog.item_ids.tolist()[3], END_MS)])
    assert 2 == interest(["model", "refresh", str(trained.folder), str(log), "--output", str(tmp_path / "b")])
    assert "expected items that the bundle lacks, in the log or in --catalog, got none" in capsys.readouterr().err
    other = random_bundle(tmp_path / "other", item_ids=["a"], item_categories=[""], hidden=8, dim=6)
    assert 2 == interest(["model", "refresh", str(other.folder), str(log), "--output", str(tmp_path / "b")])
    assert "expected a graph of `interest model train`" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
