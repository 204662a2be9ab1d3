"""`interest model tune`: a search for the options that suit a log."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream.commands.logs import with_log
from stream.commands.training import said, with_options

if TYPE_CHECKING:
    from models.clean import Limits
    from models.options import Options
    from models.rows import Mapped


@click.command(short_help="Search for the options of training that suit a log.")
@click.argument("events", type=click.Path(path_type=Path))
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=30.0, show_default=True, help="Of search.")
@click.option("--trials", type=click.IntRange(1), default=1_000, show_default=True, help="At most so many proposals.")
@click.option("--catalog", type=click.Path(path_type=Path), help="JSON Lines with names of items and categories.")
@click.option("--attributes", type=click.Path(path_type=Path), help="JSON object: item id to list of attributes.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="All that was tried, as JSON.")
@with_log
@with_options
def command(
    events: Path,
    minutes: float,
    trials: int,
    catalog: Path | None,
    attributes: Path | None,
    output: Path | None,
    form: str,
    mapped: "Mapped",
    limits: "Limits",
    log_words: list[str],
    options: "Options",
    option_words: list[str],
) -> None:
    """Search for the options of `interest model train` that suit the log EVENTS.

    Each proposal learns from all events before a time and is asked those right after it, twice, the second time later.
    At the end each input that the log has is left out once, and stays out if that is better. What is printed last is
    the command that trains with what was found.
    """
    import orjson

    from stream.errors import InterestError, UsageError
    from stream.settings import load

    try:
        from models.prepare import Source
        from models.tune import tune
    except ImportError as error:
        if error.name not in ("torch", "onnx", "optuna"):
            raise
        raise InterestError("tuning needs PyTorch and Optuna: pip install 'interest-stream[train]'") from error

    source = Source(events, catalog, attributes, form, mapped, limits)
    found = tune(source, options, load().rules, seconds=60 * minutes, trials=trials, say=click.echo)
    words = ["interest", "model", "train", str(events), "--output", "FOLDER"]
    words += ["--catalog", str(catalog)] if catalog else []
    words += ["--attributes", str(attributes)] if attributes else []
    click.echo(shlex.join([*words, *log_words, *said(found.options)]))
    if output is not None:
        told = {"hr@10": found.hr, "options": found.options.said(), "tried": found.tried, "without": found.without}
        try:
            output.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n")
        except OSError as error:
            raise UsageError(f"{output}: expected a file that can be written: {error.strerror}") from error
