"""`interest watch`: updates as they come."""

from base64 import b64decode
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click
import numpy as np
import orjson
from numpy.typing import NDArray

from stream.commands.options import with_settings
from stream.commands.text import printable
from stream.consume import follow
from stream.settings import Settings

CATEGORIES = 3
NUMBERS = 4

Vector = NDArray[np.float32]
Leaning = Callable[[dict[str, Any], Vector], str]


@click.command()
@with_settings("broker", "update_topic", "model")
@click.option("--user", metavar="ID", help="Of this user only.")
@click.option("--json", "as_json", is_flag=True, help="Updates as they are, one a line.")
@click.option("--from-beginning", is_flag=True, help="What the topic holds first; else only what comes from now on.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="End after so many.")
def command(settings: Settings, user: str | None, as_json: bool, from_beginning: bool, limit: int | None) -> None:
    """Show users' interest vectors as they change, until Ctrl-C.

    A line has the time of the user's newest event, user, version, events in the window, the categories that the
    vector leans to (with --model, or if the worker names them), and its first numbers. A user who was erased or idle
    is shown as forgotten; with --json as {"user_id": "...", "forgotten": true}.
    """
    lean = _lean_by(settings) if settings.model is not None and not as_json else _lean_as_told
    key = None if user is None else user.encode()
    left = limit
    for record in follow(settings.cluster, settings.update_topic, from_beginning):
        if record is None:
            click.echo(f"watching {settings.update_topic}", err=True)
            continue
        if key is not None and record.key != key:
            continue
        line = _as_json(record) if as_json else _as_text(record, lean)
        if line is None:
            where = f"{record.topic}/{record.partition}/{record.offset}"
            click.echo(f"warning: {where} is no update: {printable(record.value, 80)}", err=True)
            continue
        click.echo(line)
        left = None if left is None else left - 1
        if left == 0:
            return


def _as_json(record: Any) -> str | None:
    if record.value is None:
        return orjson.dumps({"user_id": printable(record.key), "forgotten": True}).decode()
    if _parse(record.value) is None:
        return None
    # JSON has line ends only between its tokens.
    return str(record.value.decode()).replace("\n", " ").replace("\r", " ")


def _as_text(record: Any, lean: Leaning) -> str | None:
    """One update on one line; None for what is no update."""
    if record.value is None:
        return f"{_clock(record.timestamp)}  {printable(record.key)}  forgotten"
    update = _parse(record.value)
    if update is None:
        return None
    try:
        vector = _vector(update)
        numbers = ", ".join(f"{number:+.3f}" for number in vector[:NUMBERS])
        head = f"{_clock(update['timestamp'])}  {printable(update['user_id'])}  version {update['version']}"
        return f"{head}  {update['events']} events  {lean(update, vector)}[{numbers}, … {len(vector)}]"
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


def _parse(value: bytes) -> dict[str, Any] | None:
    try:
        update = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return update if isinstance(update, dict) and ("vector" in update or "vector_b64" in update) else None


def _vector(update: dict[str, Any]) -> Vector:
    """float32 [dim], in either of its two forms."""
    if "vector_b64" in update:
        return np.frombuffer(b64decode(update["vector_b64"]), "<f4")
    return np.array(update["vector"], np.float32)


def _clock(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000).astimezone():%Y-%m-%d %H:%M:%S}"


def _lean_as_told(update: dict[str, Any], _vector: Vector) -> str:
    return _named(update.get("categories") or [])


def _lean_by(settings: Settings) -> Leaning:
    """Leanings by a bundle's category vectors, for updates that are its own."""
    from models.place import load  # brings ONNX Runtime along, which takes a moment
    from stream.update import leaning

    assert settings.model is not None
    bundle = load(settings.model)
    names = dict(zip(bundle.catalog.category_ids.tolist(), bundle.catalog.category_names.tolist(), strict=True))

    def lean(update: dict[str, Any], vector: Vector) -> str:
        if update["model"] != bundle.version or vector.shape != (bundle.dim,):
            return f"(of model {printable(update['model'], 20)}, not {bundle.version})  "
        near = leaning(bundle, vector[np.newaxis], CATEGORIES)[0]
        return _named([(names[category], cosine) for category, cosine in near])

    return lean


def _named(near: list[Any]) -> str:
    text = ", ".join(f"{printable(str(name), 30)} {cosine:.2f}" for name, cosine in near[:CATEGORIES])
    return text and text + "  "
