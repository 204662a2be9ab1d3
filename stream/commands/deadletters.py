"""`interest deadletters`: what was refused, and why; and sent once more."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click
import orjson

from stream.commands.options import with_settings
from stream.commands.progress import CountProgress
from stream.commands.text import counted, printable
from stream.consume import read_all
from stream.contract import Reason
from stream.deadletter import DETAIL, REASON, REPLAY, SOURCE
from stream.errors import InterestError, UsageError
from stream.replay import Choice, Filter, plan, replay
from stream.settings import Settings

VALUE_CHARS = 100


@click.group()
def command() -> None:
    """The records that were refused."""


def _reason_option(function: Callable[..., Any]) -> Callable[..., Any]:
    reasons = [str(reason) for reason in Reason]
    return click.option("--reason", type=click.Choice(reasons), help="Refused for this reason only.")(function)


@command.command("list", short_help="Show refused records: reason, detail, source, key, value.")
@with_settings("broker", "deadletter_topic")
@_reason_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with the whole value.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="End after so many.")
def list_command(settings: Settings, reason: str | None, as_json: bool, limit: int | None) -> None:
    """Show the refused records, from the first that is kept to the last.

    A line has the reason, the source (topic/partition/offset of the record that was refused), its key, what is wrong
    with the path of the field, and how its value begins. Bytes that are no UTF-8 are shown as \\xNN. After a crash
    the same source may be there twice. One that was refused again after `replay` says `replay of`, where it was
    refused first, and how many times it has been sent since.
    """
    counts: Counter[str] = Counter()
    for record in read_all(settings.cluster, settings.deadletter_topic):
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
    again = f"  replay of {printable(headers[REPLAY])}" if REPLAY in headers else ""
    return (
        f"{told[0]}  {told[1]}{again}  key {printable(record.key, 40)}  {told[2]}  "
        f"{printable(record.value, VALUE_CHARS)}"
    )


def _as_json(record: Any, headers: dict[str, bytes | None]) -> str:
    return orjson.dumps(
        {
            "partition": record.partition,
            "offset": record.offset,
            "reason": _text(headers.get(REASON)),
            "detail": _text(headers.get(DETAIL)),
            "source": _text(headers.get(SOURCE)),
            "replay": _text(headers.get(REPLAY)),
            "key": _text(record.key),
            "value": _text(record.value),
        }
    ).decode()


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode(errors="backslashreplace")


@command.command("replay", short_help="Send refused records once more to where they came from.")
@with_settings("broker", "deadletter_topic")
@_reason_option
@click.option("--topic", metavar="NAME", help="Only records that were refused on this event topic.")
@click.option("--since", metavar="TIME", help="Only letters written then or later: RFC 3339, 2025-11-25T12:00:00Z.")
@click.option("--until", metavar="TIME", help="Only letters written before.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many, the oldest first.")
@click.option("--again", is_flag=True, help="Also those that were sent before and refused again.")
@click.option("--send", is_flag=True, help="Send. Without it, only what would be sent is told.")
def replay_command(
    settings: Settings,
    reason: str | None,
    topic: str | None,
    since: str | None,
    until: str | None,
    limit: int | None,
    again: bool,
    send: bool,
) -> None:
    """Send refused records once more to the topics that they came from; without --send, say what would be sent.

    Key, value and headers are the record's own, the partition is that of `interest publish`. Each is sent once, however
    often this runs or is interrupted: the topic `<dead letters>-replayed` keeps what was sent. One that is refused
    again becomes a letter with the header interest-replay, and only --again sends it again. What was sent and did not
    come back was accepted, and is never sent twice.
    """
    wanted = Filter(reason, topic, _time_ms("--since", since), _time_ms("--until", until))
    if wanted.since_ms is not None and wanted.until_ms is not None and wanted.since_ms >= wanted.until_ms:
        raise UsageError(f"expected --since before --until, got {since} and {until}")
    unsent = 0
    with CountProgress() as progress:

        def unfit(line: str) -> None:
            nonlocal unsent
            unsent += 1
            progress.say(line)

        if send:
            choice, counts = replay(settings, wanted, again=again, limit=limit, report=progress.show, unfit=unfit)
        else:
            choice, _ = plan(settings, wanted, again=again, limit=limit, report=progress.show)
            counts = choice.counts()
    if choice.send:
        click.echo(f"{'sent' if send else 'would send'} {counted(counts.total(), 'dead letter')}:")
        for (code, to), count in counts.most_common():
            click.echo(f"  {count:,} {code} to {to}")
    else:
        click.echo(f"nothing to send: no letter of {settings.deadletter_topic} is left that fits")
    _tell_left_out(choice)
    if choice.send and not send:
        click.echo("nothing was sent: --send does it")
    if unsent:
        raise InterestError(f"{unsent:,} of {counted(len(choice.send), 'letter')} were not sent")


def _time_ms(option: str, text: str | None) -> int | None:
    """A time of the command line, ms since the epoch."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise UsageError(f"wrong {option} {text!r}: expected RFC 3339 with an offset, such as 2025-11-25T12:00:00Z")
    return round(moment.timestamp() * 1000)


def _tell_left_out(choice: Choice) -> None:
    left = [
        (choice.sent_before, "sent before"),
        (choice.refused_again, "sent before and refused again (--again sends them)"),
        (choice.foreign, "without the source that a worker writes"),
    ]
    if any(count for count, _ in left):
        click.echo("left out: " + ", ".join(f"{count:,} {why}" for count, why in left if count))
