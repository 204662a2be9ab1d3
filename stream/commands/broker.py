"""`interest broker`: the development broker until Ctrl-C."""

import signal
import time
from pathlib import Path

import click

from stream.broker import Broker, is_free

CHECK_S = 0.5
USUAL_PORT = 9092


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Port on 127.0.0.1.  [default: 9092, or any if taken]")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for its data, kept at the end.  [default: a temporary folder]",
)
def command(port: int | None, data: Path | None) -> None:
    """Run Apache Kafka on this machine until Ctrl-C, for development.

    One node that listens on 127.0.0.1 only and needs Java 17. Maven brings Kafka itself the first time, about 44 MB,
    into the user's cache folder. Prints `broker ready at HOST:PORT` once it answers.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    if port is None and is_free(USUAL_PORT):
        port = USUAL_PORT
    try:
        with Broker(port, data, report=lambda line: click.echo(line, err=True)) as broker:
            click.echo(f"broker ready at {broker.address}")
            while True:
                time.sleep(CHECK_S)
                broker.check()
    except KeyboardInterrupt:
        return  # how this command is meant to end
