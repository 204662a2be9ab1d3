"""Files of events: their lines, each as the record that it becomes or with the reason why it becomes none."""

import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, cast

import orjson

from stream.errors import InterestError

CHUNK_BYTES: Final = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
BEHAVIORS: Final = {"pv": "click", "cart": "cart", "fav": "favorite", "buy": "purchase"}


class Record(NamedTuple):
    """What a line becomes. `line` counts from 1; `key` is the user id, `value` the event, both as sent; `time_ms` is
    the event's time in ms since the epoch, None where it cannot be told."""

    line: int
    key: bytes
    value: bytes
    time_ms: int | None


class Unfit(NamedTuple):
    """A line that cannot be sent, and why."""

    line: int
    reason: str


Parse = Callable[[int, bytes], Record | Unfit]


@contextmanager
def open_events(path: str) -> Iterator[BufferedReader]:
    """Open a file of events, plain or gzip, which its first bytes tell; `-` is standard input.

    Raises:
        InterestError: the file cannot be opened.
    """
    with ExitStack() as stack:
        try:
            stream = sys.stdin.buffer if path == "-" else stack.enter_context(Path(path).open("rb"))
        except OSError as error:
            raise InterestError(f"{path}: {error.strerror}") from error
        assert isinstance(stream, BufferedReader)
        if stream.peek(2)[:2] == GZIP_MAGIC:
            yield cast(BufferedReader, stack.enter_context(gzip.GzipFile(fileobj=stream)))
        else:
            yield stream


def read_events(stream: BufferedReader | BinaryIO, parse: Parse) -> Iterator[list[Record | Unfit]]:
    """The lines of a stream, as many at a time as come at once; blank lines are passed over.

    So what is typed or piped slowly comes line by line, and a file comes in pieces of 1 MiB.

    Raises:
        InterestError: compressed data is damaged or ends early; the lines before were given.
    """
    number, rest = 0, b""
    while data := _read(stream, number):
        lines = (rest + data).split(b"\n")
        rest = lines.pop()
        yield [parse(number + i, line) for i, line in enumerate(lines, 1) if line and not line.isspace()]
        number += len(lines)
    if rest and not rest.isspace():
        yield [parse(number + 1, rest)]


def _read(stream: BufferedReader | BinaryIO, number: int) -> bytes:
    try:
        return cast(BufferedReader, stream).read1(CHUNK_BYTES)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InterestError(f"compressed data is damaged after line {number}: {error}") from error


def parse_json(number: int, line: bytes) -> Record | Unfit:
    """A line of JSON. It is sent as it is if it has a string `user_id`; the rest is for the worker to judge."""
    line = line.rstrip(b"\r")
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            event = _parse_leniently(line)
        except (ValueError, RecursionError) as error:
            return Unfit(number, f"expected a JSON object with a string user_id: {error}")
    if not isinstance(event, dict):
        return Unfit(number, f"expected a JSON object with a string user_id, got {_kind(event)}")
    if "user_id" not in event:
        return Unfit(number, "expected a string user_id, got none")
    user_id = event["user_id"]
    if not isinstance(user_id, str):
        return Unfit(number, f"expected a string user_id, got {_kind(user_id)}")
    try:
        key = user_id.encode()
    except UnicodeEncodeError:
        return Unfit(number, "expected a user_id that UTF-8 can hold, got an unpaired surrogate or raw bytes")
    return Record(number, key, line, _time_ms(event.get("timestamp")))


def parse_taobao(number: int, line: bytes) -> Record | Unfit:
    """A row of Tianchi's UserBehavior: user, item, category, pv|cart|fav|buy, seconds since the epoch."""
    try:
        user_id, item_id, category_id, behavior, seconds = line.decode().rstrip("\r").split(",")
        time_ms = int(seconds) * 1000
        event = {
            "user_id": user_id,
            "type": BEHAVIORS[behavior],
            "item_id": item_id,
            "category_id": category_id,
            "timestamp": time_ms,
        }
        return Record(number, user_id.encode(), orjson.dumps(event), time_ms)
    except (ValueError, KeyError, orjson.JSONEncodeError):
        shown = line[:80].decode(errors="backslashreplace")
        return Unfit(number, f"expected user,item,category,pv|cart|fav|buy,seconds, got {shown!r}")


#: Names of the formats that `publish` reads.
FORMATS: Final[dict[str, Parse]] = {"json": parse_json, "taobao": parse_taobao}


def _parse_leniently(line: bytes) -> Any:
    """JSON as Python takes it, with NaN, numbers of any size and bytes that are not UTF-8: the user may be told."""
    return json.loads(line.decode("utf-8", "surrogateescape"), parse_int=float)


def _time_ms(time: object) -> int | None:
    if type(time) is int:
        return time
    if isinstance(time, str):
        try:
            moment = datetime.fromisoformat(time)
        except ValueError:
            return None  # the worker tells what is wrong with it
        return None if moment.tzinfo is None else round(moment.timestamp() * 1000)
    return None


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "an array", bool: "true or false", type(None): "null", str: "a string"}
    return kinds.get(type(value), "a number")
