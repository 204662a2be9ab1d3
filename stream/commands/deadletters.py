"""`interest deadletters`: what was refused, and why."""

from collections import Counter
from typing import Any

import click
import orjson

from stream.commands.options import with_settings
from stream.commands.text import counted, printable
from stream.consume import read_all
from stream.contract import Reason
from stream.deadletter import DETAIL, REASON, SOURCE
from stream.settings import Settings

VALUE_CHARS = 100


@click.group()
def command() -> None:
    """The records that were refused."""


@command.command("list", short_help="Show refused records: reason, detail, source, key, value.")
@with_settings("broker", "deadletter_topic")
@click.option("--reason", type=click.Choice([str(reason) for reason in Reason]), help="Refused for this reason only.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with the whole value.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="End after so many.")
def list_command(settings: Settings, reason: str | None, as_json: bool, limit: int | None) -> None:
    """Show the refused records, from the first that is kept to the last.

    A line has the reason, the source (topic/partition/offset of the record that was refused), its key, what is wrong
    with the path of the field, and how its value begins. Bytes that are no UTF-8 are shown as \\xNN. After a crash
    the same source may be there twice.
    """
    counts: Counter[str] = Counter()
    for record in read_all(settings.broker, settings.deadletter_topic):
        headers = dict(record.headers)
        code = printable(headers.get(REASON))
        if reason is not None and code != reason:
            continue
        counts[code] += 1
        click.echo(_as_json(record, headers) if as_json else _as_text(record, headers))
        if counts.total() == limit:
            break
    if not as_json:
        told = ", ".join(f"{count:,} {code}" for code, count in counts.most_common())
        click.echo(counted(counts.total(), "dead letter") + (f": {told}" if told else ""), err=True)


def _as_text(record: Any, headers: dict[str, bytes | None]) -> str:
    told = [printable(headers.get(name)) for name in (REASON, SOURCE, DETAIL)]
    return f"{told[0]}  {told[1]}  key {printable(record.key, 40)}  {told[2]}  {printable(record.value, VALUE_CHARS)}"


def _as_json(record: Any, headers: dict[str, bytes | None]) -> str:
    return orjson.dumps(
        {
            "partition": record.partition,
            "offset": record.offset,
            "reason": _text(headers.get(REASON)),
            "detail": _text(headers.get(DETAIL)),
            "source": _text(headers.get(SOURCE)),
            "key": _text(record.key),
            "value": _text(record.value),
        }
    ).decode()


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode(errors="backslashreplace")
