"""Event logs as shops and public data sets write them: row by row, as events of the contract.

Every format ends in the same JSON that a shop would publish, so the worker's own check judges every log alike.
"""

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from typing import Any, Final, NamedTuple

from stream.errors import UsageError
from stream.eventfile import open_events

Event = dict[str, Any]

#: Numbers from here on are milliseconds, and from a thousand times that on microseconds; below, seconds.
MILLISECONDS_FROM: Final = 100_000_000_000
PARQUET_ROWS: Final = 65_536
ORDER_MS: Final = 946_684_800_000  # 2000: where times begin that a log does not tell but in their order
TEXT_FIELDS: Final = ("user_id", "item_id", "category_id", "event_id", "type", "text", "item_name", "category_name")
AMOUNTS: Final = ("price", "quantity", "rating")
FIELDS: Final = (*TEXT_FIELDS, "timestamp", *AMOUNTS)
REQUIRED: Final = ("user_id", "item_id", "timestamp")


class Row(NamedTuple):
    """A row of a log: the number of its line from 1, and the event that it is, or why it is none.

    Several may share a line (OTTO's), and a number comes again in the next file of a folder, which is then named.
    """

    number: int
    event: Event | None
    problem: str = ""
    file: str = ""

    @property
    def place(self) -> str:
        """For people."""
        return f"{self.file}, line {self.number}" if self.file else f"line {self.number}"


@dataclass(frozen=True)
class Mapped:
    """Where the fields of an event stand in a table, and what its types are called there."""

    columns: Mapping[str, str] = field(default_factory=dict)  # field -> column; a field's own name by default
    types: Mapping[str, str] = field(default_factory=dict)  # what stands in the column of `type` -> type
    type: str = ""  # of all rows, where there is no such column
    separator: str = ","

    def fields(self, header: list[str], where: str) -> dict[str, int]:
        """Places of the fields in the header.

        Raises:
            UsageError: a field that is needed, or a column that was named, is not there.
        """
        for name, column in self.columns.items():
            if name not in FIELDS:
                raise UsageError(f"expected a field of an event ({', '.join(FIELDS)}), got {name!r}")
            if column not in header:
                raise UsageError(f"{where}: expected a column {column!r} for {name}, got {', '.join(header)}")
        places = {name: self.columns.get(name, name) for name in FIELDS}
        found = {name: header.index(column) for name, column in places.items() if column in header}
        needed = REQUIRED if self.type else (*REQUIRED, "type")
        missing = [name for name in needed if name not in found]
        if missing:
            raise UsageError(
                f"{where}: expected a column for {', '.join(missing)}, got {', '.join(header)}: name it with "
                f"--column {missing[0]}=NAME" + (", or give all rows one type with --type" if "type" in missing else "")
            )
        return found

    def event(self, places: Mapping[str, int], row: list[Any]) -> Event:
        """The event of a row; what is empty is left out.

        Raises:
            ValueError: a time or an amount that is none.
        """
        event: Event = {"type": self.type} if self.type else {}
        for name, place in places.items():
            value = row[place]
            if value is None or value == "":
                continue
            if name == "timestamp":
                event[name] = time_ms(value)
            elif name in AMOUNTS:
                event[name] = _number(name, value)
            else:
                event[name] = _text(value)
        if "type" in places and self.types:
            event["type"] = self.types.get(event.get("type", ""), event.get("type", ""))
        return event


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


def time_ms(value: object) -> int:
    """A time as milliseconds since the epoch: a number by its size in s, ms or µs, or ISO 8601; without zone UTC.

    Raises:
        ValueError: neither.
    """
    if isinstance(value, datetime):
        return round((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() * 1000)
    number: float | None = None
    with suppress(ValueError, TypeError, OverflowError):
        number = float(value)  # type: ignore[arg-type]  # refused just below
    if number is None:
        try:
            return time_ms(datetime.fromisoformat(str(value)))
        except ValueError:
            raise ValueError(f"expected a time, seconds, milliseconds or ISO 8601, got {str(value)[:40]!r}") from None
    if not abs(number) < 1e17:
        raise ValueError(f"expected a time, seconds, milliseconds or ISO 8601, got {str(value)[:40]!r}")
    if abs(number) < MILLISECONDS_FROM:
        return round(number * 1000)
    return round(number) if abs(number) < 1000 * MILLISECONDS_FROM else round(number / 1000)


def _number(name: str, value: object) -> float:
    number = math.nan
    with suppress(ValueError, TypeError, OverflowError):
        number = float(value)  # type: ignore[arg-type]  # refused just below
    if not math.isfinite(number):
        raise ValueError(f"expected a number as {name}, got {str(value)[:40]!r}")
    return number


def _text(value: object) -> str:
    """Ids that a table holds as numbers are text; 7.0, which one with gaps makes of 7, is 7."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _rows(stream: BufferedReader, where: str, mapped: Mapped, header: list[str] | None = None) -> Iterator[Row]:
    """A table as text. Without `header` its first row is one."""
    reader = csv.reader(_text_lines(stream), delimiter=mapped.separator)
    places: dict[str, int] = {}
    try:
        for row in reader:
            if not row:
                continue
            if header is None:
                header = row
                places = mapped.fields(header, where)
                continue
            places = places or mapped.fields(header, where)
            yield _row(reader.line_num, mapped, places, row, len(header))
    except csv.Error as error:
        raise UsageError(
            f"{where}: line {reader.line_num}: expected rows separated by {mapped.separator!r}: {error}"
        ) from error


def _row(number: int, mapped: Mapped, places: Mapping[str, int], row: list[Any], width: int) -> Row:
    if len(row) != width:
        return Row(number, None, f"expected {width} columns, got {len(row)}")
    try:
        return Row(number, mapped.event(places, row))
    except ValueError as error:
        return Row(number, None, str(error))


def _parquet(path: Path, mapped: Mapped) -> Iterator[Row]:
    try:
        import polars as pl
    except ImportError as error:
        raise UsageError("Parquet needs polars: pip install 'interest-stream[train]'") from error
    try:
        table = pl.scan_parquet(path)
        header = table.collect_schema().names()
        places = mapped.fields(header, str(path))
        names = [header[place] for place in places.values()]
        start = 0
        while rows := table.select(names).slice(start, PARQUET_ROWS).collect().rows():
            for number, row in enumerate(rows, start + 1):
                yield _row(number, mapped, dict(zip(places, range(len(places)), strict=True)), list(row), len(names))
            start += len(rows)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UsageError(f"{path}: expected a Parquet file: {error}") from error


def _taobao(stream: BufferedReader, where: str, _mapped: Mapped) -> Iterator[Row]:
    """Tianchi's UserBehavior: user, item, category, pv|cart|fav|buy, seconds."""
    mapped = Mapped(types={"pv": "click", "cart": "cart", "fav": "favorite", "buy": "purchase"})
    return _rows(stream, where, mapped, ["user_id", "item_id", "category_id", "type", "timestamp"])


def _retailrocket(stream: BufferedReader, where: str, _mapped: Mapped) -> Iterator[Row]:
    """Retailrocket's events.csv: timestamp, visitorid, event, itemid, transactionid."""
    return _rows(
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
        return _rows(stream, where, Mapped(type="purchase"), [*columns, "price", "quantity"])
    return _rows(stream, where, Mapped(type="click"), [*columns, "category_id"])


def _diginetica(stream: BufferedReader, where: str, _mapped: Mapped) -> Iterator[Row]:
    """Diginetica's train-item-views.csv: sessionId;userId;itemId;timeframe;eventdate. A session is a user."""
    mapped = Mapped(
        {"user_id": "sessionId", "item_id": "itemId", "timestamp": "eventdate"}, type="click", separator=";"
    )
    reader = csv.DictReader(_text_lines(stream), delimiter=";")
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
                    "user_id": _text(line["session"]),
                    "item_id": _text(one["aid"]),
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


def _text_lines(stream: BufferedReader) -> Iterator[str]:
    """Lines with their ends; what is no UTF-8 is kept so that the row is refused. A byte order mark is left out."""
    for number, line in enumerate(stream):
        text = line.decode("utf-8", "surrogateescape")
        yield text.removeprefix("\ufeff") if number == 0 else text


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
    "csv": _rows,
    "taobao": _taobao,
    "amazon": _amazon,
    "retailrocket": _retailrocket,
    "otto": _otto,
    "yoochoose": _yoochoose,
    "diginetica": _diginetica,
    "sequences": _sequences,
    "sessions": _sessions,
}
