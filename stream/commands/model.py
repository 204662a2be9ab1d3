"""`interest model`: a log of the simulated shop, a model of a log, and the proof that a bundle does what it says."""

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream.commands.logs import ISO, with_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.clean import Limits
    from models.fit import Progress
    from models.formats import Mapped

    Say = Callable[[str], None]
    Step = Callable[[Progress], None]


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


@command.command(short_help="Train a model of an event log and write its bundle.")
@click.argument("events", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the bundle, or to be.")
@click.option("--catalog", type=click.Path(path_type=Path), help="JSON Lines with names of items and categories.")
@with_log
@click.option("--dim", type=click.IntRange(2, 4096), default=48, show_default=True, help="Numbers in a vector.")
@click.option("--hidden", type=click.IntRange(1, 4096), default=64, show_default=True, help="Width of the LSTM.")
@click.option(
    "--means",
    default="1,0.6",
    show_default=True,
    help="Decays of means of a window's events beside the LSTM, comma between: 1 counts all alike; empty: none.",
)
@click.option("--epochs", type=click.IntRange(1), default=8, show_default=True, help="How often the log is gone over.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed gives the same model."
)
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Threads of PyTorch.")
def train(
    events: Path,
    output: Path,
    catalog: Path | None,
    form: str,
    mapped: "Mapped",
    limits: "Limits",
    log_words: list[str],
    dim: int,
    hidden: int,
    means: str,
    epochs: int,
    seed: int,
    threads: int,
) -> None:
    """Train a model of the event log EVENTS and write its bundle.

    EVENTS is JSON Lines of the event contract, as `interest publish` takes it, or what --format says; of a folder all
    files are read but for JSON Lines. Events that are repeated, and users who are busier than people, are left out and
    told. Fields item_name and category_name, in
    it or in --catalog (item_id, item_name, category_id, category_name), name what a consumer shows. The latest 5 % of
    the events are held out and asked for: the next item that a user has not seen lately, beside two baselines.
    """
    from stream.errors import InterestError

    try:
        from models.train import Options
        from models.train import train as train_bundle
    except ImportError as error:
        if error.name not in ("torch", "onnx"):
            raise
        raise InterestError("training needs PyTorch: pip install 'interest-stream[train]'") from error

    words = ["interest", "model", "train", str(events), "--output", str(output)]
    words += ["--catalog", str(catalog)] if catalog else []
    words += log_words
    words += [
        f"--dim={dim}",
        f"--hidden={hidden}",
        f"--means={means}",
        f"--epochs={epochs}",
        f"--seed={seed}",
        f"--threads={threads}",
    ]
    start = time.monotonic()
    with _shown(epochs) as (say, step):
        options = Options(dim=dim, hidden=hidden, decays=_decays(means), epochs=epochs, seed=seed, threads=threads)
        bundle = train_bundle(
            events,
            output,
            options,
            catalog=catalog,
            form=form,
            mapped=mapped,
            limits=limits,
            command=shlex.join(words),
            say=say,
            progress=step,
        )
        say(f"{output}: bundle {bundle.version}, written and verified after {time.monotonic() - start:.0f} s")


def _decays(means: str) -> tuple[float, ...]:
    try:
        decays = tuple(float(one) for one in means.split(",") if one)
    except ValueError:
        decays = (-1.0,)
    if not all(0 < decay <= 1 for decay in decays):
        raise click.BadParameter(
            f"expected numbers above 0 up to 1, comma between, got {means!r}", param_hint="--means"
        )
    return decays


@contextmanager
def _shown(epochs: int) -> "Iterator[tuple[Say, Step]]":
    """How to tell lines and steps: a bar on a terminal, a line an epoch elsewhere."""
    if not sys.stdout.isatty():

        def step(progress: "Progress") -> None:
            if progress.last:
                click.echo(f"epoch {progress.epoch}/{epochs}  loss {progress.loss:.4f}")

        yield click.echo, step
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("training", total=1.0)

        def move(progress: "Progress") -> None:
            told = f"epoch {progress.epoch}/{epochs}  loss {progress.loss:.4f}"
            bar.update(task, completed=progress.done, description=told)

        yield lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True), move


@command.command(short_help="Rank a log's events by the vectors that stood before them.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("events", type=click.Path(path_type=Path))
@with_log
@click.option("--after", type=click.DateTime(ISO), help="Ask for events from it on, UTC.  [default: the latest 5 %]")
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Threads of the model.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="All figures as JSON.")
def evaluate(
    folder: Path,
    events: Path,
    form: str,
    mapped: "Mapped",
    limits: "Limits",
    log_words: list[str],
    after: datetime | None,
    threads: int,
    output: Path | None,
) -> None:
    """Rank the events of the log EVENTS by the bundle in FOLDER, as a stream sees them.

    Each event is looked for among all items by the vector that stood before it: windows and model are the worker's own.
    Beside it: the vector as it was when the day began, popularity, what followed the user's last item, neighbours of
    the last items, and the user's own latest. All ties count against us, and so do events of items that the bundle does
    not know. What the bundle was trained on must lie before --after.
    """
    import orjson

    from models import bundle as bundles
    from models.clean import clean
    from models.log import read
    from models.measure import measure, table
    from stream.errors import UsageError
    from stream.settings import load

    bundle = bundles.load(folder)
    log, dropped = clean(read(events, form=form, mapped=mapped), limits)
    for one in dropped:
        click.echo(f"left out: {one.events} events {one.why} ({one.users} users)", err=True)
    after_ms = int(after.replace(tzinfo=UTC).timestamp() * 1000) if after else 0
    found = measure(log, bundle, load().rules, after_ms=after_ms, threads=threads)
    click.echo("\n".join(table(found)))
    if output is not None:
        said = {"bundle": bundle.version, "log": [str(events), *log_words], **found}
        try:
            output.write_bytes(orjson.dumps(said, option=orjson.OPT_INDENT_2) + b"\n")
        except OSError as error:
            raise UsageError(f"{output}: expected a file that can be written: {error.strerror}") from error


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
