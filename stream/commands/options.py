"""Options that stand for settings: named, explained and defaulted as the settings are."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from stream.security import IN_THE_CLEAR
from stream.settings import PREFIX, Settings, load

Command = Callable[..., Any]

METAVARS = {
    "broker": "HOST:PORT",
    "app_id": "NAME",
    "event_topics": "NAMES",
    "update_topic": "NAME",
    "deadletter_topic": "NAME",
    "model": "PLACE",
    "shadow_model": "PLACE",
    "shadow_topic": "NAME",
    "data_dir": "FOLDER",
    "ssl_ca_file": "FILE",
    "ssl_cert_file": "FILE",
    "ssl_key_file": "FILE",
    "ssl_key_password_file": "FILE",
    "sasl_password_file": "FILE",
    "sasl_token_provider": "MODULE:FUNCTION",
}


def with_settings(*names: str) -> Callable[[Command], Command]:
    """Give a command the options of the settings named, and one argument `settings` that holds all of them.

    An option goes before its environment variable. Everything that is wrong with either is told in one UsageError
    before the command begins.
    """

    def decorate(function: Command) -> Command:
        @wraps(function)
        def call(**arguments: Any) -> Any:
            options = {name: arguments.pop(name) for name in names}
            settings = load(options)
            if "broker" in names and settings.security_protocol == "sasl_plaintext":
                click.echo(IN_THE_CLEAR, err=True)
            return function(settings=settings, **arguments)

        decorated: Command = call
        for name in reversed(names):
            decorated = _option(name)(decorated)
        return decorated

    return decorate


def _option(name: str) -> Callable[[Command], Command]:
    field = Settings.model_fields[name]
    explained = str(field.description)
    default = field.default
    if isinstance(default, tuple):
        default = ",".join(default)
    origin = PREFIX + name.upper() + ("" if default is None else f"; default: {default}")
    # The value goes to the settings as text: they check it, and tell it together with what else is wrong.
    return click.option(
        f"--{name.replace('_', '-')}",
        name,
        metavar=METAVARS.get(name, "VALUE"),
        help=f"{explained[0].upper()}{explained[1:]}.  [{origin}]",
    )
