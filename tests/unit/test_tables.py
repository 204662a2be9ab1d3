"""Item vectors in fewer bytes: how far they are off, and that what it costs is told."""

from pathlib import Path

import numpy as np
import orjson

from models.tables import as_stored, int8
from stream.commands import run as interest
from tests.bundles import random_bundle
from tests.logs import END_MS, event, write_log


def test_how_far_they_are_off() -> None:
    """int8 is within half a step of each item's largest number, float16 within its 11 bits; zeros stay zeros."""
    items = np.random.default_rng(0).standard_normal((50, 64)).astype(np.float32)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    items[0] = 0
    rows, scale = int8(items)
    assert ("int8", "float32", 127) == (str(rows.dtype), str(scale.dtype), np.abs(rows[1:]).max(axis=1).min())
    assert (np.abs(as_stored(items, "int8") - items) <= scale[:, None] * 0.501).all()
    assert (np.abs(as_stored(items, "float16") - items) <= np.abs(items) * 2**-11 + 2**-24).all()
    assert not as_stored(items, "int8")[0].any()


def test_what_they_cost_is_told(tmp_path: Path) -> None:
    """`--tables` adds both as systems, near the model's own figures."""
    bundle = random_bundle(
        tmp_path / "b", item_ids=[f"i{n}" for n in range(30)], item_categories=[""] * 30, hidden=8, dim=16
    )
    log = write_log(tmp_path / "log", [event(f"u{n % 7}", f"i{n * 7 % 30}", END_MS + n * 60_000) for n in range(200)])
    output = tmp_path / "found.json"
    command = ["model", "evaluate", str(bundle.folder), str(log), "--after=2000-01-01", "--output", str(output)]
    assert 0 == interest([*command, "--tables"])
    systems = orjson.loads(output.read_bytes())["systems"]
    for name in ("model, float16 items", "model, int8 items"):
        assert abs(systems[name]["item"]["hr"]["10"] - systems["model"]["item"]["hr"]["10"]) < 0.05
    assert 0 == interest(command)
    assert not any("items" in name for name in orjson.loads(output.read_bytes())["systems"])
