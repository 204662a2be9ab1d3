"""`interest model explain`: which events of a user's window moved the vector, and where to."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream.commands.logs import with_log
from stream.commands.text import counted, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from models.clean import Limits
    from models.rows import Mapped

USERS = 3
BAR = 8  # characters of the longest bar
EIGHTHS = " ▏▎▍▌▋▊▉█"
NAME_CHARS, TOWARDS_CHARS = 32, 20
SHOWN = 0.005  # what is less reads 0.00
WIDE = 240  # characters of a line where no terminal bounds it
FULL = 120  # in fewer, bars and an event's own item and category are left to the JSON


@click.command(short_help="Show which events of a user's window moved the vector, and where to.")
@click.argument("folder", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--events", type=click.Path(path_type=Path), required=True, help="The log that the users are in.")
@with_log
@click.option("--user", "users", multiple=True, metavar="ID", help="Of this user; may be given again.")
@click.option(
    "--first", type=click.IntRange(1), default=USERS, show_default=True, help="Without --user: so many users."
)
@click.option("--item", "item_id", metavar="ID", help="Explain the score of this item.")
@click.option("--top", type=click.IntRange(1, 100), default=3, show_default=True, help="Names in each list.")
@click.option(
    "--sort",
    type=click.Choice(["time", "moved"]),
    default="time",
    show_default=True,
    help="Order of the events; moved: most first.",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="All of it as JSON, vectors too.")
def command(
    folder: Path,
    events: Path,
    form: str,
    mapped: "Mapped",
    limits: "Limits",
    log_words: list[str],
    users: tuple[str, ...],
    first: int,
    item_id: str | None,
    top: int,
    sort: str,
    output: Path | None,
) -> None:
    """Show which events of a user's window moved the vector of the bundle in BUNDLE, and where to.

    The window is what a worker would hold of the user at the end of the log. It is run whole and without each of its
    events: MOVED is 1 - cosine of the two vectors, OWN what the event added to the scores of its own item and category,
    TOWARDS the categories (of a model without any: the items) whose score it raised most. With --item, ADDS is what it
    added to that item's score. A score is a cosine with the vector. Such parts do not add up: of two events that say
    the same, each can be left out without much change.
    """
    import orjson
    from rich.console import Console

    from models import bundle as bundles
    from models.explain import described, explain, held, item_row, lines_of
    from stream.errors import UsageError
    from stream.settings import load

    bundle = bundles.load(folder)
    row = item_row(bundle, item_id) if item_id is not None else 0
    rules = load().rules
    session = bundles.session(bundle)
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = WIDE
    told: list[dict[str, Any]] = []
    for user, lines in lines_of(events, users, first, form=form, mapped=mapped).items():
        try:
            window = held(lines, user, rules, limits, str(events))
        except UsageError as error:
            if users:
                raise
            click.echo(f"left out: {error}", err=True)
            continue
        told.append(described(bundle, explain(bundle, session, window), top, row))
        _show(console, told[-1], by_moved=sort == "moved")
    if not told:
        raise UsageError(f"{events}: expected a user with a window among the first {first}, got none; name one: --user")
    if output is not None:
        said = {"bundle": bundle.version, "log": [str(events), *log_words], "users": told}
        try:
            output.write_bytes(orjson.dumps(said, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        except OSError as error:
            raise UsageError(f"{output}: expected a file that can be written: {error.strerror}") from error


def _show(console: "Console", told: dict[str, Any], *, by_moved: bool) -> None:
    from rich.table import Table

    item, events = told.get("item"), told["events"]
    if by_moved:
        events = sorted(events, key=lambda event: -abs(event.get("added", event["moved"])))
    console.print(f"user {printable(told['user_id'])}: {counted(len(events), 'event')} in the window", markup=False)
    if item is not None:
        named = dict.fromkeys(printable(item[name], NAME_CHARS) for name in ("id", "name"))
        console.print(f"item {', '.join(named)}: score {item['score']:.3f}, place {item['place']:,}", markup=False)
    wide = console.width >= FULL
    table = Table(box=None, pad_edge=False)
    table.add_column("time (UTC)", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("item")  # this one, category and towards give way in a narrow terminal
    table.add_column("category")
    table.add_column("moved", no_wrap=True, justify="right")
    if item is not None:
        table.add_column("adds", no_wrap=True, justify="right")
    if wide:
        table.add_column("", no_wrap=True, min_width=BAR)
        table.add_column("own item, category", no_wrap=True)
    table.add_column("towards")
    most = max(event["moved"] for event in events)
    for event in events:
        time = datetime.fromtimestamp(event["timestamp"] / 1000, UTC)
        own = f"{_signed(event['item_added']):5} {_signed(event['category_added']):5}"
        table.add_row(
            f"{time:%Y-%m-%d %H:%M:%S}" if wide else f"{time:%m-%d %H:%M}",
            event["type"],
            _cut(printable(event["item_name"] or "unknown", NAME_CHARS)),
            _cut(printable(event["category_name"] or "", TOWARDS_CHARS)),
            f"{event['moved']:.1%}",
            *([_signed(event["added"])] if item is not None else []),
            *([_bar(event["moved"] / most if most else 0), own] if wide else []),
            _cut(_listed([one for one in event["categories"] or event["items"] if one["added"] >= SHOWN], "added")),
        )
    console.print(table, markup=False)
    for name in ("categories", "items"):
        if told[name]:
            console.print(f"leans to the {name} {_listed(told[name], 'score')}", markup=False)
    console.print()


def _cut(text: str) -> "Text":
    """Text that a column may cut short, on one line; nothing in it is markup."""
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="ellipsis")


def _signed(added: float | None) -> str:
    return "" if added is None else f"{round(added, 2) + 0.0:+.2f}"  # never -0.00


def _listed(found: list[dict[str, Any]], figure: str) -> str:
    sign = "+" if figure == "added" else ""
    return ", ".join(f"{printable(one['name'], TOWARDS_CHARS)} {one[figure]:{sign}.2f}" for one in found)


def _bar(share: float) -> str:
    """A bar of at most BAR characters, to an eighth of one."""
    whole, rest = divmod(round(share * BAR * 8), 8)
    return ("█" * whole + EIGHTHS[rest]).strip()
