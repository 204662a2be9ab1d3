"""`interest worker`: events in, interest vectors out."""

import click

from stream.commands.options import with_settings
from stream.settings import SECRETS, Settings


@click.command(short_help="Turn events into interest vectors.")
@with_settings(*(name for name in Settings.model_fields if name not in SECRETS))
def command(settings: Settings) -> None:
    """Turn events into interest vectors, until a signal.

    Workers with the same --app-id share the partitions. SIGTERM and Ctrl-C finish the batch in hand and commit it. Any
    failure ends the process, with nothing lost: run it under something that starts it again.
    """
    from stream.worker import run  # Faust and ONNX Runtime take a second to import

    run(settings)
