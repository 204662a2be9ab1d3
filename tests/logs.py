"""Event logs for tests of training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from models.simulator import Shop, simulate

END_MS = 1_760_000_000_000


def write_log(path: Path, events: Sequence[object]) -> Path:
    """A file of JSON Lines; bytes are lines as they are."""
    path.write_bytes(b"".join((line if isinstance(line, bytes) else orjson.dumps(line)) + b"\n" for line in events))
    return path


def shop_log(path: Path, *, events: int, users: int, seed: int = 0, **shares: Any) -> Path:
    """A log of the simulated shop, names included."""
    made = simulate(Shop(), users=users, events=events, end_ms=END_MS, seed=seed, names=True, **shares)
    return write_log(path, list(made))


def event(user: str, item: str, time_ms: int, **fields: Any) -> dict[str, Any]:
    """An event of the contract: a click, unless told otherwise."""
    return {"user_id": user, "type": "click", "item_id": item, "timestamp": time_ms, **fields}
