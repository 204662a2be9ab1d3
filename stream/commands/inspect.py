"""`interest inspect`: one user's window and vector."""

from base64 import b64decode
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import orjson
from rich.console import Console
from rich.table import Table

from stream.commands.options import with_settings
from stream.commands.text import printable
from stream.contract import EVENT_TYPES
from stream.settings import Settings

if TYPE_CHECKING:
    from models.bundle import Bundle
    from stream.look import Seen

CATEGORIES = 5
NUMBERS = 6
TYPES = {code: name for name, code in EVENT_TYPES.items()}


@click.command()
@with_settings("broker", "app_id", "update_topic", "model", "provider")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@click.argument("user")
def command(settings: Settings, user: str, as_json: bool) -> None:
    """Show what is stored of USER, and the vector that it means.

    The window is read from the changelog, as a worker would recover it. With --model the model is run over it, names
    are shown for ids, and the vector is compared with the last update. Without it, items are shown as hashes.
    """
    from models import place  # brings ONNX Runtime along, which takes a moment
    from stream.look import encode, look

    bundle = None if settings.model is None else place.load(settings.model)
    seen = look(settings, user)
    vector = None
    if bundle is not None and len(seen.state.events):
        vector = encode(seen.state, bundle, settings.provider)
    if as_json:
        click.echo(orjson.dumps(_described(user, seen, bundle, vector)).decode())
    else:
        _show(user, seen, bundle, vector)


def _events(seen: "Seen", bundle: "Bundle | None") -> list[dict[str, Any]]:
    """The window's events, oldest first, with ids where the catalog knows them and hashes where it does not."""
    events = seen.state.events
    item_row = category_row = np.zeros(len(events), np.int64)
    if bundle is not None:
        item_row = bundle.features.items.find(events["item"])
        category_row = bundle.features.categories.find(events["category"])
    described = []
    for event, item, category, tokens in zip(events, item_row, category_row, seen.state.tokens, strict=True):
        entry: dict[str, Any] = {"timestamp": int(event["timestamp"]), "type": TYPES.get(int(event["type"]), "other")}
        if item:
            assert bundle is not None
            entry |= {"item_id": str(bundle.catalog.item_ids[item]), "item_name": str(bundle.catalog.item_names[item])}
        else:
            entry["item_hash"] = f"{event['item']:016x}"
        if category:
            assert bundle is not None
            entry["category_id"] = str(bundle.catalog.category_ids[category])
        elif event["category"]:
            entry["category_hash"] = f"{event['category']:08x}"
        if event["rating"]:
            entry["rating"] = int(event["rating"]) / 10
        if tokens:
            entry["text_tokens"] = len(tokens)
        described.append(entry)
    return described


def _described(user: str, seen: "Seen", bundle: "Bundle | None", vector: Any) -> dict[str, Any]:
    state = seen.state
    described: dict[str, Any] = {
        "user_id": user,
        "partition": seen.partition,
        "version": state.version,
        "floor": state.floor,
        "events": _events(seen, bundle),
        "last_update": seen.update,
    }
    if vector is not None:
        assert bundle is not None
        described |= {"model": bundle.version, "vector": vector.tolist()}
    return described


def _show(user: str, seen: "Seen", bundle: "Bundle | None", vector: Any) -> None:
    console = Console(highlight=False, soft_wrap=True)
    state = seen.state
    erased = "" if state.version else ", erased"
    late = f"; events before {_clock(state.floor)} are late" if state.floor else ""
    console.print(
        f"user {printable(user)}, partition {seen.partition}: version {state.version}, {len(state.events)} events in "
        f"the window{erased}{late}",
        markup=False,
    )
    if len(state.events):
        table = Table(box=None, pad_edge=False)
        for name in ("time (UTC)", "type", "item", "category", "rating"):
            table.add_column(name, no_wrap=True)
        for entry in _events(seen, bundle):
            table.add_row(
                _clock(entry["timestamp"]),
                entry["type"],
                printable(entry.get("item_name") or f"#{entry['item_hash']}", 40),
                printable(entry.get("category_id") or entry.get("category_hash", ""), 24),
                f"{entry['rating']:g}" if "rating" in entry else "",
            )
        console.print(table, markup=False)
    if vector is not None:
        assert bundle is not None
        from stream.update import leaning

        named = ", ".join(f"{name} {cosine:.2f}" for name, cosine in leaning(bundle, vector[np.newaxis], CATEGORIES)[0])
        numbers = ", ".join(f"{number:+.4f}" for number in vector[:NUMBERS])
        console.print(f"vector of model {bundle.version}: [{numbers}, … {len(vector)}]; leans to {named}", markup=False)
    console.print(_compared(seen, bundle, vector), markup=False)


def _compared(seen: "Seen", bundle: "Bundle | None", vector: Any) -> str:
    """One line about the last update, beside what the window gives now."""
    update = seen.update
    if update is None:
        return "last update: none, or the user was forgotten"
    said = f"last update: version {update['version']} of model {update['model']}"
    if vector is None or bundle is None:
        return said
    if update["model"] != bundle.version:
        return f"{said}, which is another model than {bundle.version}"
    if update["version"] != seen.state.version:
        return f"{said}, the window is at version {seen.state.version}"
    if "vector" in update:
        published = np.array(update["vector"], np.float32)
    else:
        published = np.frombuffer(b64decode(update["vector_b64"]), "<f4")
    return f"{said}, the same vector within {np.abs(published - vector).max():.1e}"


def _clock(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
