"""`interest export`: an event topic to Parquet, to train on."""

from pathlib import Path

import click

from stream.commands.options import with_settings
from stream.commands.text import counted
from stream.settings import Settings


@click.command()
@with_settings("broker")
@click.option("--topic", metavar="NAME", help="Topic to read.  [default: the first of INTEREST_EVENT_TOPICS]")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder, new or empty, for the files.")
def command(settings: Settings, topic: str | None, output: Path) -> None:
    """Write the events of a topic, up to where it ends now, as Parquet files, to train on.

    Events are those that a worker takes for events, in the order in which it reads them; of users with an erase record
    nothing before it is written. `interest model train FOLDER --format parquet` reads them.
    """
    from stream.export import export

    topic = topic or settings.event_topics[0]
    found = export(settings.cluster, topic, output)
    click.echo(
        f"{output}: {counted(found.events, 'event')} of {topic} in {counted(found.files, 'file')}; "
        f"left out: {found.refused:,} refused, {found.erased:,} erased"
    )
