"""`interest model`: a log of the simulated shop, a model of a log, and the proof that a bundle does what it says."""

import sys
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import click

from stream.commands import evaluate, explain, place, refresh, reviews, train, tune
from stream.commands.logs import ISO


@click.group()
def command() -> None:
    """Make models from event logs, and check them."""


command.add_command(train.command, "train")
command.add_command(tune.command, "tune")
command.add_command(evaluate.command, "evaluate")
command.add_command(explain.command, "explain")
command.add_command(refresh.command, "refresh")
command.add_command(reviews.command, "reviews")
command.add_command(place.deploy, "deploy")
command.add_command(place.rollback, "rollback")
command.add_command(place.fetch, "fetch")


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


@command.command(short_help="Prove that a bundle is whole and gives the vectors it should.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--provider", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to run it."
)
def verify(folder: Path, provider: str) -> None:
    """Prove that the bundle in FOLDER is whole and gives the vectors it should.

    Every file is compared with its digest, the graph with what bundle.json says of it, and the golden windows are run
    whole and one event at a time.
    """
    from models import bundle as bundles

    bundle = bundles.load(folder)
    deviation = bundles.verify(bundle, bundles.session(bundle, provider=provider))
    carried = ", ".join(f"{state.name} {state.width}" for state in bundle.states) or "nothing"
    for name, value in (
        ("bundle", f"{bundle.version}, contract {bundle.contract}"),
        (
            "vectors",
            f"{bundle.dim} numbers, {bundle.catalog.items - 1} items, {bundle.catalog.categories - 1} categories",
        ),
        ("inputs", ", ".join(bundle.inputs)),
        ("carries", carried),
        ("golden", f"{len(bundle.golden.windows)} windows, deviation at most {deviation:.1e} on {provider}"),
        ("made by", bundle.command or "unknown"),
    ):
        click.echo(f"{name:<8} {value}")
