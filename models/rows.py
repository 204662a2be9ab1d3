"""Rows of a log as a table holds them, each as an event of the contract or with the reason why it is none."""

import csv
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BufferedReader
from typing import Any, Final, NamedTuple

from stream.errors import UsageError

Event = dict[str, Any]

#: Numbers from here on are milliseconds, and from a thousand times that on microseconds; below, seconds.
MILLISECONDS_FROM: Final = 100_000_000_000
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
                event[name] = text_of(value)
        if "type" in places and self.types:
            event["type"] = self.types.get(event.get("type", ""), event.get("type", ""))
        return event


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


def text_of(value: object) -> str:
    """Ids that a table holds as numbers are text; 7.0, which one with gaps makes of 7, is 7."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def table(stream: BufferedReader, where: str, mapped: Mapped, header: list[str] | None = None) -> Iterator[Row]:
    """A table as text. Without `header` its first row is one."""
    reader = csv.reader(text_lines(stream), delimiter=mapped.separator)
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
            yield row_of(reader.line_num, mapped, places, row, len(header))
    except csv.Error as error:
        raise UsageError(
            f"{where}: line {reader.line_num}: expected rows separated by {mapped.separator!r}: {error}"
        ) from error


def row_of(number: int, mapped: Mapped, places: Mapping[str, int], row: list[Any], width: int) -> Row:
    if len(row) != width:
        return Row(number, None, f"expected {width} columns, got {len(row)}")
    try:
        return Row(number, mapped.event(places, row))
    except ValueError as error:
        return Row(number, None, str(error))


def text_lines(stream: BufferedReader) -> Iterator[str]:
    """Lines with their ends; what is no UTF-8 is kept so that the row is refused. A byte order mark is left out."""
    for number, line in enumerate(stream):
        text = line.decode("utf-8", "surrogateescape")
        yield text.removeprefix("\ufeff") if number == 0 else text
