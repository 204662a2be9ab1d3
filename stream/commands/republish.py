"""`interest republish`: every user gets a vector of the model that serves now."""

import re

import click

from stream.commands.options import with_settings
from stream.commands.progress import CountProgress
from stream.commands.text import counted
from stream.errors import InterestError, UsageError
from stream.settings import Settings


@click.command()
@with_settings("broker", "app_id", "event_topics", "update_topic", "model")
@click.option(
    "--model-version", metavar="VERSION", help="Version that the workers serve.  [default: that of the model]"
)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    default=1000.0,
    show_default=True,
    help="Users that are asked for each second, at most.",
)
def command(settings: Settings, model_version: str | None, rate: float) -> None:
    """Give every user a vector of the model that the workers serve, after another was rolled out or back.

    Users whose last update is of another model get a republish record on the event topic, at a bounded rate, and the
    worker that has them answers it with an update; what comes of events meanwhile is of the new model anyway. It may
    be interrupted and run again: who has a vector of the model is left alone.
    """
    if model_version is None and settings.model is None:
        raise UsageError("which model? give --model-version VERSION, or set INTEREST_MODEL, or give --model PLACE")
    if model_version is None:
        from models.place import Place  # brings ONNX Runtime along, which takes a moment

        assert settings.model is not None
        model_version = Place(settings.model).version()
    if not re.fullmatch("[0-9a-f]{16}", model_version):
        raise UsageError(f"wrong --model-version {model_version!r}: expected 16 hex digits, as updates carry them")
    from stream.republish import republish

    with CountProgress() as progress:
        done = republish(settings, model_version, rate, progress.show)
    click.echo(f"{counted(done.users, 'user')}, {done.asked:,} with a vector of another model than {model_version}")
    if not done.asked:
        return
    click.echo(
        f"{done.renewed:,} have one of it now, {done.gone:,} whom no worker knows are to be forgotten"
        + (f", {done.unanswered:,} got none: the model gives nothing fit for them" if done.unanswered else "")
    )
    if done.others:
        raise InterestError(
            f"workers still answer with {', '.join(sorted(done.others))}; see interest_model_info of each, and run it "
            f"again when all serve {model_version}"
        )
