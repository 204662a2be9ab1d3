"""Options of every command that reads an event log: how it is written, and what is left out of it."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from models.clean import Limits
    from models.rows import Mapped

Command = TypeVar("Command", bound=Callable[..., Any])

ISO = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"]

_OPTIONS = (
    click.option(
        "--format",
        "form",
        default="json",
        show_default=True,
        help="json, csv, parquet, taobao, amazon, retailrocket, otto, yoochoose, diginetica, sequences or sessions.",
    ),
    click.option("--column", multiple=True, metavar="FIELD=NAME", help="csv, parquet: the column of a field."),
    click.option(
        "--value", multiple=True, metavar="NAME=TYPE", help="csv, parquet: what a type is called: view=click."
    ),
    click.option("--type", "kind", default="", help="csv, parquet: the type of all rows, where no column tells."),
    click.option("--separator", default=",", show_default=True, help="csv: between columns."),
    click.option("--since", type=click.DateTime(ISO), help="Leave events before it out, UTC."),
    click.option("--until", type=click.DateTime(ISO), help="Leave events from it on out, UTC."),
    click.option(
        "--minute-max",
        type=click.IntRange(0),
        default=120,
        show_default=True,
        help="Leave users out who ever had more events in a minute; 0: nobody.",
    ),
    click.option(
        "--day-max",
        type=click.IntRange(0),
        default=2_000,
        show_default=True,
        help="Leave users out who ever had more events in a day; 0: nobody.",
    ),
    click.option("--user-min", type=click.IntRange(0), default=0, help="Leave users with fewer events out."),
    click.option("--item-min", type=click.IntRange(0), default=0, help="Take items with fewer events for unknown."),
)
_NAMES = (
    *("form", "column", "value", "kind", "separator"),
    *("since", "until", "minute_max", "day_max", "user_min", "item_min"),
)


def with_log(command: Command) -> Command:
    """Add the options; the command gets `form`, `mapped`, `limits` and, as they were given, `log_words`."""

    @wraps(command)
    def call(**given: Any) -> Any:
        options = {name: given.pop(name) for name in _NAMES}
        return command(
            form=options["form"], mapped=_mapped(options), limits=_limits(options), log_words=_words(), **given
        )

    for option in reversed(_OPTIONS):
        call = option(call)
    return cast(Command, call)


def _mapped(options: dict[str, Any]) -> "Mapped":
    from models.rows import Mapped

    if len(options["separator"]) != 1:
        raise click.BadParameter(f"expected one character, got {options['separator']!r}", param_hint="--separator")
    return Mapped(
        _pairs("--column", options["column"]),
        _pairs("--value", options["value"]),
        options["kind"],
        options["separator"],
    )


def _limits(options: dict[str, Any]) -> "Limits":
    from models.clean import Limits

    return Limits(
        since_ms=_ms(options["since"]),
        until_ms=_ms(options["until"]),
        minute_max=options["minute_max"],
        day_max=options["day_max"],
        user_min=options["user_min"],
        item_min=options["item_min"],
    )


def _pairs(option: str, given: tuple[str, ...]) -> dict[str, str]:
    for one in given:
        name, equals, value = one.partition("=")
        if not (name and equals and value):
            raise click.BadParameter(f"expected NAME=VALUE, got {one!r}", param_hint=option)
    return dict(one.split("=", 1) for one in given)


def _ms(time: datetime | None) -> int:
    return int(time.replace(tzinfo=UTC).timestamp() * 1000) if time else 0


def _words() -> list[str]:
    """Those of the options that were given, as words of a command line."""
    context = click.get_current_context()
    words = []
    for option in context.command.params:
        if option.name not in _NAMES or not isinstance(option, click.Option):
            continue
        value = context.params[option.name]
        if value is None or value == () or value == option.get_default(context):
            continue
        values = value if isinstance(value, tuple) else (value,)
        words += [f"{option.opts[0]}={one.isoformat() if isinstance(one, datetime) else one}" for one in values]
    return words
