"""The README's first screen is no invention: its event, through the demo's model, is its update."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from models import bundle as bundles
from stream import batch
from stream.batch import Message
from stream.encode import Encoder
from stream.rules import Rules
from stream.update import UpdateFormat

ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Raw:
    """A record as the broker would have it."""

    key: bytes
    value: bytes
    offset: int
    timestamp: int
    headers: tuple[tuple[str, bytes | None], ...] = ()


def test_event_in_update_out() -> None:
    """The first two blocks of JSON: what goes in, and what comes out for a user who was never seen."""
    event, shown = re.findall(r"^```json\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)[:2]
    time_ms = orjson.loads(event)["timestamp"]
    bundle = bundles.load(ROOT / "models" / "shop")
    encoder = Encoder(bundle, bundles.session(bundle), cache_users=1)
    message = Message("user-events", 0, [Raw(b"u7", event.encode(), 0, time_ms)])
    plan = batch.prepare([message], {"user-events": 1}, lambda _p, keys: [None] * len(keys), {}, Rules(50, 25, 1, 1))
    result = batch.finish(plan, batch.encode(plan, encoder), encoder, UpdateFormat())[0]

    ((key, update),) = result.updates
    assert update is not None
    wanted, got = orjson.loads(shown), orjson.loads(update)
    assert np.abs(np.array(wanted.pop("vector")) - np.array(got.pop("vector"))).max() <= TOLERANCE
    assert (b"u7", wanted) == (key, got)
