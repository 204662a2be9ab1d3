"""`interest model train`: from an event log to a bundle."""

import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream.commands.logs import with_log
from stream.commands.training import with_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.clean import Limits
    from models.fit import Progress
    from models.options import Options
    from models.rows import Mapped

    Say = Callable[[str], None]
    Step = Callable[[Progress], None]


@click.command(short_help="Train a model of an event log and write its bundle.")
@click.argument("events", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the bundle, or to be.")
@click.option("--catalog", type=click.Path(path_type=Path), help="JSON Lines with names of items and categories.")
@click.option("--attributes", type=click.Path(path_type=Path), help="JSON object: item id to list of attributes.")
@with_log
@with_options
@click.option("--compare", default="none", show_default=True, help="Encoders to train beside it, comma between; or no.")
@click.option("--init", "former", type=click.Path(path_type=Path), help="A bundle to begin with.")
@click.option("--tensorboard", type=click.Path(path_type=Path), help="Folder for curves of loss and HR@10.")
def command(
    events: Path,
    output: Path,
    catalog: Path | None,
    attributes: Path | None,
    form: str,
    mapped: "Mapped",
    limits: "Limits",
    log_words: list[str],
    options: "Options",
    option_words: list[str],
    compare: str,
    former: Path | None,
    tensorboard: Path | None,
) -> None:
    """Train a model of the event log EVENTS and write its bundle.

    EVENTS is JSON Lines of the event contract, as `interest publish` takes it, or what --format says; of a folder all
    files are read but for JSON Lines. Events that are repeated, and users who are busier than people, are left out and
    told. Fields item_name and category_name, in it or in --catalog (item_id, item_name, category_id, category_name,
    attributes), name what a consumer shows. What is held out is asked for at the end, of the model, of what it would be
    without its encoder, and of two baselines. A training that was killed goes on when the same command is given again.
    """
    from stream.errors import InterestError
    from stream.settings import load

    try:
        from models.prepare import Source
        from models.train import Work
        from models.train import train as train_bundle
    except ImportError as error:
        if error.name not in ("torch", "onnx"):
            raise
        raise InterestError("training needs PyTorch: pip install 'interest-stream[train]'") from error

    compared = _compared(compare, options.encoder)
    words = ["interest", "model", "train", str(events), "--output", str(output)]
    words += ["--catalog", str(catalog)] if catalog else []
    words += ["--attributes", str(attributes)] if attributes else []
    words += [*log_words, *option_words]
    words += [f"--compare={compare}"] if compare != "none" else []
    words += ["--init", str(former)] if former else []
    start = time.monotonic()
    with _shown(options.epochs) as (say, step):
        bundle = train_bundle(
            Source(events, catalog, attributes, form, mapped, limits),
            output,
            options,
            load().rules,
            Work(compared, former, tensorboard, say, step),
            shlex.join(words),
        )
        if os.environ.get("RANK", "0") == "0":  # of those that torchrun started, one speaks
            say(f"{output}: bundle {bundle.version}, written and verified after {time.monotonic() - start:.0f} s")


def _compared(names: str, encoder: str) -> tuple[str, ...]:
    from models.options import ENCODERS

    wanted = [] if names == "no" else names.split(",")
    unknown = [name for name in wanted if name not in ENCODERS]
    if unknown:
        raise click.BadParameter(f"expected among {', '.join(ENCODERS)}, got {unknown[0]!r}", param_hint="--compare")
    return tuple(name for name in dict.fromkeys(wanted) if name != encoder)


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
