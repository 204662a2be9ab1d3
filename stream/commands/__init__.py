"""The command `interest`. A command's module is imported only when it is called, so that help is quick."""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from stream.errors import InterestError, UsageError

#: Name of a command (and of its module here, which exports `command`) and its line in the help.
COMMANDS = {
    "demo": "A simulated shop, a broker and a worker: watch vectors move.",
    "broker": "Run Apache Kafka on this machine, for development.",
    "topics": "Create the topics that a worker needs.",
    "worker": "Turn events into interest vectors.",
    "publish": "Send a file of events to an event topic.",
    "simulate": "Send a simulated shop's events as they happen.",
    "watch": "Show users' interest vectors as they change.",
    "inspect": "Show one user's window and vector.",
    "erase": "Forget a user, or many.",
    "republish": "Give every user a vector of the model that serves now.",
    "deadletters": "Show the records that were refused, or send them once more.",
    "export": "Write the events of a topic to Parquet files.",
    "model": "Train and export a model from an event log.",
}


class _LazyGroup(click.Group):
    def list_commands(self, _context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = import_module(f"stream.commands.{name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="interest-stream", prog_name="interest")
def interest() -> None:
    """User events in, interest vectors out: an LSTM over every user's recent sequence, on Kafka.

    Settings are read from the environment (INTEREST_BROKER, INTEREST_MODEL, ...); an option goes before it.
    To see it run: interest demo
    """


def main() -> None:
    """Entry point of the command `interest`; ends the process with its exit code."""
    if os.getpid() == 1:
        # In a container. Linux drops a signal that process 1 has no handler for: a stop would wait for its whole grace.
        signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line. Returns the exit code: 0, 1 for a failure, 2 for a wrong call, 130 for Ctrl-C.

    Every error is one line on standard error; Ctrl-C and a closed pipe are quiet.
    """
    # Where a command sets up no log, clients would write to the terminal, thousands of lines while a broker is away.
    for client in ("aiokafka", "kafka"):
        logging.getLogger(client).addHandler(logging.NullHandler())
    try:
        code = interest.main(list(arguments), prog_name="interest", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "interest"
        return _fail(f"{error.format_message().rstrip('.')}; see `{path} --help`", 2)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except click.Abort:
        return 130
    except InterestError as error:
        return _fail(str(error), 2 if isinstance(error, UsageError) else 1)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    click.echo(f"error: {message}", err=True)
    return code
