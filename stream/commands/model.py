"""`interest model`: a log of the simulated shop, a model of a log, and the proof that a bundle does what it says."""

import sys
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import click

ISO = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"]


@click.group()
def command() -> None:
    """Make models from event logs, and check them."""


@command.command(short_help="Write an event log of a simulated shop.")
@click.option("--events", type=click.IntRange(0), default=100_000, show_default=True, help="How many events to write.")
@click.option("--users", type=click.IntRange(1), default=2000, show_default=True, help="How many users may come.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed gives the same log.")
@click.option("--end", type=click.DateTime(ISO), help="The newest time, UTC; 14 days after the oldest.  [default: now]")
@click.option("--late", type=click.FloatRange(0, 1), default=0.0, help="Share of events up to two hours late.")
@click.option("--duplicates", type=click.FloatRange(0, 1, max_open=True), default=0.0, help="Share of repeated events.")
@click.option("--names", is_flag=True, help="Add item_name and category_name, which training puts into the catalog.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="File, JSON Lines; - for standard output.",
)
def simulate(
    events: int,
    users: int,
    seed: int,
    end: datetime | None,
    late: float,
    duplicates: float,
    names: bool,
    output: Path,
) -> None:
    """Write an event log of a simulated shop: two weeks of clicks, carts, favorites, purchases and reviews.

    The file is JSON Lines in the order in which the events would be delivered, ready for `interest publish` and
    `interest model train`.
    """
    import orjson

    from models.simulator import Shop
    from models.simulator import simulate as events_of
    from stream.errors import UsageError

    end_ms = int((end.replace(tzinfo=UTC).timestamp() if end else time.time()) * 1000)
    made = events_of(
        Shop(), users=users, events=events, end_ms=end_ms, seed=seed, late=late, duplicates=duplicates, names=names
    )
    try:
        with nullcontext(sys.stdout.buffer) if str(output) == "-" else output.open("wb") as file:
            file.writelines(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE) for event in made)
            file.flush()
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise UsageError(f"{output}: expected a file that can be written: {error.strerror}") from error
    if str(output) != "-":
        click.echo(f"{output}: {events} events")
