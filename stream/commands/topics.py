"""`interest topics`: make what a worker needs."""

import click

from stream.commands.options import with_settings
from stream.commands.progress import CountProgress
from stream.settings import Settings
from stream.topics import create


@click.group()
def command() -> None:
    """The topics of a worker."""


@command.command("create", short_help="Create what does not exist: events, updates, changelog, dead letters.")
@with_settings("broker", "app_id", "event_topics", "update_topic", "deadletter_topic", "shadow_model", "shadow_topic")
@click.option("--partitions", type=click.IntRange(1, 10_000), help="Of each topic.  [default: as those there, or 4]")
@click.option(
    "--replication", type=click.IntRange(1, 1000), help="Of each partition.  [default: 3 with three brokers, else 1]"
)
def create_command(settings: Settings, partitions: int | None, replication: int | None) -> None:
    """Create the topics that do not exist: events, updates, changelog, dead letters; with a second model, its updates.

    Events, updates and changelog get equal partition counts. The most partitions are also the most workers that share
    the work; they cannot be changed later without moving users. Topics that exist are left as they are.
    """
    for line in create(settings, partitions, replication):
        click.echo(line)


@command.command("grow", short_help="Carry everything to new topics with more partitions.")
@with_settings("broker", "app_id", "event_topics", "update_topic", "deadletter_topic")
@click.option("--partitions", type=click.IntRange(2, 10_000), required=True, help="Of each new topic.")
@click.option("--send", is_flag=True, help="Do it. Without it, only what would be done is told.")
def grow_command(settings: Settings, partitions: int, send: bool) -> None:
    """Carry everything to new topics with more partitions; without --send, say what would be done.

    Stop all workers first. Name with the settings the topics that they have used; the new ones get the names of these
    with the number of partitions behind. Table, last updates and all events that no worker has taken go to where
    their users' keys belong now; the old topics stay as they are, and so do the dead letters.

    It may be interrupted, and run again at any time: each event is carried once. What is published to the old topics
    afterwards is carried by the next run, so run it once more after all publishers were moved.
    """
    from stream.grow import grow
    from stream.growplan import look

    plan = look(settings, partitions)
    if send:
        with CountProgress() as progress:
            lines = grow(plan, progress.show)
        click.echo(f"carried to {plan.new} partitions:")
        for line in lines:
            click.echo(f"  {line}")
    else:
        click.echo(f"would carry to {plan.new} partitions:")
        for old, new in plan.names.items():
            click.echo(f"  {old} ({plan.there[old].partitions}) to {new}{'' if new in plan.there else ', to be made'}")
        if plan.is_carried:
            click.echo("table and updates were carried before; only events that came since would be")
    for line in plan.told():
        click.echo(line)
    if not send:
        click.echo("nothing was done: --send does it")
