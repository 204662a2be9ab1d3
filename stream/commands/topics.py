"""`interest topics`: make what a worker needs."""

import click

from stream.commands.options import with_settings
from stream.settings import Settings
from stream.topics import create


@click.group()
def command() -> None:
    """The topics of a worker."""


@command.command("create", short_help="Create what does not exist: events, updates, changelog, dead letters.")
@with_settings("broker", "app_id", "event_topics", "update_topic", "deadletter_topic")
@click.option("--partitions", type=click.IntRange(1, 10_000), help="Of each topic.  [default: as those there, or 4]")
@click.option(
    "--replication", type=click.IntRange(1, 1000), help="Of each partition.  [default: 3 with three brokers, else 1]"
)
def create_command(settings: Settings, partitions: int | None, replication: int | None) -> None:
    """Create the topics that do not exist: events, updates, changelog, dead letters.

    Events, updates and changelog get equal partition counts. The most partitions are also the most workers that share
    the work; they cannot be changed later without moving users. Topics that exist are left as they are.
    """
    for line in create(settings, partitions, replication):
        click.echo(line)
