"""`interest publish`: a file of events, to Kafka."""

import time

import click

from stream.commands.options import with_settings
from stream.commands.progress import FileProgress
from stream.commands.text import counted
from stream.errors import InterestError
from stream.eventfile import FORMATS, open_events, read_events
from stream.publish import publish
from stream.settings import Settings


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@with_settings("broker")
@click.option("--topic", metavar="NAME", help="Topic to send to.  [default: the first of INTEREST_EVENT_TOPICS]")
@click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    default="json",
    show_default=True,
    help="json: an event a line. taobao: rows user,item,category,pv|cart|fav|buy,seconds.",
)
@click.option("--rate", type=click.FloatRange(0.001), metavar="N", help="Events a second, at most.  [default: all]")
def command(settings: Settings, file: str, topic: str | None, form: str, rate: float | None) -> None:
    """Send FILE, an event a line, to an event topic; `-` is standard input, gzip is read as it is.

    Every line with a string user_id is sent as it is: the worker judges it. Other lines are named with their number,
    and the exit code is then 1. The key is the user_id in UTF-8, the partition that of Java's client, and a user's
    events keep their order. Ends once all brokers that must have the events have them.
    """
    topic = topic or settings.event_topics[0]
    began = time.monotonic()
    with open_events(file) as source, FileProgress(source.fileno()) as progress:
        published = publish(
            read_events(source, FORMATS[form]),
            settings.cluster,
            topic,
            rate=rate,
            unfit=lambda line: progress.say(f"{file}, line {line.line}: {line.reason}"),
            report=lambda so_far: progress.show(f"{so_far.sent:,} events sent"),
        )
    seconds = time.monotonic() - began
    pace = f"{seconds:.1f} s ({published.sent / seconds:,.0f}/s)"
    click.echo(f"published {counted(published.sent, 'event')} to {topic} in {pace}")
    if published.disordered:
        click.echo(
            f"warning: not in time order: {published.disordered:,} of the events are older than one before them, the "
            f"first in line {published.first_disordered}; a window takes them while it still reaches that far back",
            err=True,
        )
    if published.unfit:
        raise InterestError(f"{published.unfit:,} of {counted(published.sent + published.unfit, 'line')} were not sent")
