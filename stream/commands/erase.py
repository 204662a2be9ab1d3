"""`interest erase`: users to be forgotten."""

import os
from collections.abc import Sequence

import click

from stream.commands.options import with_settings
from stream.commands.progress import CountProgress
from stream.commands.text import counted, printable
from stream.erase import erase, parse_user, unique
from stream.errors import InterestError, UsageError
from stream.eventfile import Record, Unfit, open_events, read_events
from stream.settings import Settings


@click.command()
@click.argument("user", required=False)
@with_settings("broker")
@click.option(
    "--file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="File with a user id a line instead of USER; - is standard input.",
)
@click.option("--topic", metavar="NAME", help="Event topic to write to.  [default: every one of INTEREST_EVENT_TOPICS]")
def command(settings: Settings, user: str | None, file: str | None, topic: str | None) -> None:
    """Forget USER, or all users of a file: window, table, changelog, vector.

    Writes an erase record to every partition of the event topics. Workers forget a user when they come to it, and send
    a tombstone to the updates. What happened before it does not come back, even if it is sent again; with the
    first event that happens later the user starts anew. To erase somebody twice, or who is unknown, does no harm.

    Events and dead letters that Kafka still keeps hold the user's data until retention removes them.
    """
    if (user is None) == (file is None):
        raise UsageError("expected either USER or --file FILE")
    others = (*settings.compacted_topics, settings.deadletter_topic)
    if topic in others:
        raise UsageError(f"wrong --topic {topic}: expected a topic with events")
    records = _read(file) if file is not None else _one(user or "")
    topics = settings.event_topics if topic is None else (topic,)
    with CountProgress() as progress:
        there = erase(records, settings.cluster, topics, lambda sent: progress.show(f"{sent:,} erase records sent"))
    for name, info in there.items():
        where = counted(info.partitions, "partition")
        click.echo(f"asked to forget {counted(len(records), 'user')}: an erase record of each to {where} of {name}")


def _one(user: str) -> Sequence[Record]:
    parsed = parse_user(1, os.fsencode(user))
    if isinstance(parsed, Unfit):
        raise UsageError(f"wrong USER {printable(user, 40)}: {parsed.reason}")
    return [parsed]


def _read(file: str) -> Sequence[Record]:
    """The erase records of all users of a file, each once."""
    with open_events(file) as source:
        lines = [line for chunk in read_events(source, parse_user) for line in chunk]
    wrong = [line for line in lines if isinstance(line, Unfit)]
    for line in wrong:
        click.echo(f"{file}, line {line.line}: {line.reason}", err=True)
    if wrong:
        raise InterestError(f"{len(wrong):,} of {counted(len(lines), 'line')} are no user ids; nobody was erased")
    records = unique(line for line in lines if isinstance(line, Record))
    if not records:
        raise InterestError(f"{file}: expected a user id a line, got none")
    for record in records:
        if record.key != record.key.strip():
            shown = printable(repr(record.key.decode()), 80)
            click.echo(f"{file}, line {record.line}: warning: white space is taken as part of the id {shown}", err=True)
    if len(records) < len(lines):
        click.echo(f"{file}: {counted(len(lines) - len(records), 'line')} repeat a user id", err=True)
    return records
