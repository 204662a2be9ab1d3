"""Event logs as shops and public data sets write them: row by row, as events of the contract.

Every format ends in the same JSON that a shop would publish, so the worker's own check judges every log alike.
"""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path
from typing import Any, Final

from models.rows import Event, Mapped, Row, row_of, table, text_lines, text_of, time_ms
from stream.errors import UsageError
from stream.eventfile import open_events

PARQUET_ROWS: Final = 65_536
ORDER_MS: Final = 946_684_800_000  # 2000: where times begin that a log does not tell but in their order
Read = Callable[[BufferedReader, str, Mapped], Iterator[Row]]


def read(path: Path, name: str, mapped: Mapped) -> Iterator[Row]:
    """The rows of a log, or of all files of a folder by name.

    Raises:
        UsageError: no such format or file, or no table of the columns that are needed.
        InterestError: the file cannot be read.
    """
    names = ("csv", "parquet", *(known for known in TEXT_FORMATS if known != "csv"))
    if name not in names:
        raise UsageError(f"expected a format of {', '.join(names)}, got {name!r}")
    files = sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]
    if not files:
        raise UsageError(f"{path}: expected a folder with files, got none in it")
    for file in files:
        for row in _file(file, name, mapped):
            yield row._replace(file=file.name) if path.is_dir() else row


def _file(file: Path, name: str, mapped: Mapped) -> Iterator[Row]:
    if name == "parquet":
        yield from _parquet(file, mapped)
        return
    with open_events(str(file)) as stream:
        yield from TEXT_FORMATS[name](stream, str(file), mapped)


def _parquet(path: Path, mapped: Mapped) -> Iterator[Row]:
    try:
        import polars as pl
    except ImportError as error:
        raise UsageError("Parquet needs polars: pip install 'interest-stream[train]'") from error
    try:
        frame = pl.scan_parquet(path)
        header = frame.collect_schema().names()
        places = mapped.fields(header, str(path))
        names = [header[place] for place in places.values()]
        start = 0
        while rows := frame.select(names).slice(start, PARQUET_ROWS).collect().rows():
            for number, row in enumerate(rows, start + 1):
                yield row_of(number, mapped, dict(zip(places, range(len(places)), strict=True)), list(row), len(names))
            start += len(rows)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UsageError(f"{path}: expected a Parquet file: {error}") from error


def _taobao(stream: BufferedReader, where: str, _mapped: Mapped) -> Iterator[Row]:
    """Tianchi's UserBehavior: user, item, category, pv|cart|fav|buy, seconds."""
    mapped = Mapped(types={"pv": "click", "cart": "cart", "fav": "favorite", "buy": "purchase"})
    return table(stream, where, mapped, ["user_id", "item_id", "category_id", "type", "timestamp"])


def _retailrocket(stream: BufferedReader, where: str, _mapped: Mapped) -> Iterator[Row]:
    """Retailrocket's events.csv: timestamp, visitorid, event, itemid, transactionid."""
    return table(
        stream,
        where,
        Mapped(
            {"user_id": "visitorid", "item_id": "itemid", "type": "event"},
            {"view": "click", "addtocart": "cart", "transaction": "purchase"},
        ),
    )


def _yoochoose(stream: BufferedReader, where: str, _mapped: Mapped) -> Iterator[Row]:
    """RecSys 2015: clicks (session, time, item, category) or buys (session, time, item, price, quantity)."""
    first = stream.peek(4096).split(b"\n", 1)[0]
    columns = ["user_id", "timestamp", "item_id"]
    if first.count(b",") == 4:
        return table(stream, where, Mapped(type="purchase"), [*columns, "price", "quantity"])
    return table(stream, where, Mapped(type="click"), [*columns, "category_id"])


def _diginetica(stream: BufferedReader, where: str, _mapped: Mapped) -> Iterator[Row]:
    """Diginetica's train-item-views.csv: sessionId;userId;itemId;timeframe;eventdate. A session is a user."""
    mapped = Mapped(
        {"user_id": "sessionId", "item_id": "itemId", "timestamp": "eventdate"}, type="click", separator=";"
    )
    reader = csv.DictReader(text_lines(stream), delimiter=";")
    mapped.fields(list(reader.fieldnames or []), where)
    for row in reader:
        try:
            event = {"type": "click", "user_id": row["sessionId"], "item_id": row["itemId"]}
            event["timestamp"] = time_ms(row["eventdate"]) + int(row["timeframe"] or 0)  # ms since the session began
            yield Row(reader.line_num, event)
        except (ValueError, KeyError, TypeError) as error:
            yield Row(reader.line_num, None, f"expected sessionId;userId;itemId;timeframe;eventdate: {error}")


def _otto(stream: BufferedReader, _where: str, _mapped: Mapped) -> Iterator[Row]:
    """OTTO's sessions: one JSON object a line, {"session", "events": [{"aid", "ts", "type"}]}."""
    types = {"clicks": "click", "carts": "cart", "orders": "purchase"}
    for number, line in _json_lines(stream):
        try:
            for one in line["events"]:
                event = {
                    "user_id": text_of(line["session"]),
                    "item_id": text_of(one["aid"]),
                    "timestamp": time_ms(one["ts"]),
                }
                yield Row(number, event | {"type": types.get(one["type"], one["type"])})
        except (KeyError, TypeError, ValueError) as error:
            yield Row(number, None, f"expected session and events of aid, ts, type: {error!r}")


def _sequences(stream: BufferedReader, where: str, _mapped: Mapped) -> Iterator[Row]:
    """A user and all items in order on each line, as S3-Rec and others write them; clicks.

    The times are the same lines of NAME_times beside NAME, in seconds; without such a file each event is a second after
    the one before.
    """
    head, dot, ends = Path(where).name.partition(".")
    beside = Path(where).with_name(f"{head}_times{dot}{ends}")
    with ExitStack() as stack:
        times = iter(stack.enter_context(open_events(str(beside)))) if beside.exists() else None
        for number, line in enumerate(stream, start=1):
            words = line.decode("utf-8", "surrogateescape").split()
            told = next(times, b"").decode("utf-8", "replace").split() if times is not None else None
            if not words:
                continue
            if told is not None and (len(told) != len(words) or told[0] != words[0]):
                yield Row(number, None, f"expected the same user and as many times in {beside.name}, got {len(told)}")
                continue
            yield from _of_line(number, words[0], words[1:], None if told is None else told[1:], ORDER_MS)


def _sessions(stream: BufferedReader, _where: str, _mapped: Mapped) -> Iterator[Row]:
    """The items of a session on each line, oldest session first; clicks. A line is a user, and a minute of its own."""
    for number, line in enumerate(stream, start=1):
        items = line.decode("utf-8", "surrogateescape").split()
        yield from _of_line(number, str(number), items, None, ORDER_MS + number * 60_000)


def _of_line(number: int, user: str, items: list[str], times: list[str] | None, start_ms: int) -> Iterator[Row]:
    for place, item in enumerate(items):
        try:
            at = start_ms + place * 1000 if times is None else time_ms(times[place])
        except ValueError as error:
            yield Row(number, None, str(error))
            continue
        yield Row(number, {"type": "click", "user_id": user, "item_id": item, "timestamp": at})


def _amazon(stream: BufferedReader, _where: str, _mapped: Mapped) -> Iterator[Row]:
    """Amazon reviews (2014 and 2018): one JSON object a line; a review each, summary before text."""
    for number, line in _json_lines(stream):
        try:
            words = [line[name] for name in ("summary", "reviewText") if line.get(name)]
            event: Event = {
                "user_id": line["reviewerID"],
                "item_id": line["asin"],
                "type": "review",
                "timestamp": time_ms(line["unixReviewTime"]),
            }
            if line.get("overall") is not None:
                event["rating"] = line["overall"]
            yield Row(number, event | ({"text": "\n".join(words)} if words else {}))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            yield Row(number, None, f"expected reviewerID, asin, unixReviewTime: {error!r}")


def _json_lines(stream: BufferedReader) -> Iterator[tuple[int, Any]]:
    """Each line that is not blank, parsed; None where it is no JSON."""
    for number, line in enumerate(stream, start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                yield number, None


#: Formats of text by name; all but `csv` know their columns. Parquet is the other one.
TEXT_FORMATS: Final[dict[str, Read]] = {
    "csv": table,
    "taobao": _taobao,
    "amazon": _amazon,
    "retailrocket": _retailrocket,
    "otto": _otto,
    "yoochoose": _yoochoose,
    "diginetica": _diginetica,
    "sequences": _sequences,
    "sessions": _sessions,
}
