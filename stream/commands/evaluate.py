"""`interest model evaluate`: how well a bundle foresees a log's events, as a stream sees them."""

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream.commands.logs import ISO, with_log

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.clean import Limits
    from models.log import Log
    from models.rows import Mapped


@click.command(short_help="Rank a log's events by the vectors that stood before them.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("events", type=click.Path(path_type=Path))
@with_log
@click.option("--after", type=click.DateTime(ISO), help="Ask for events from it on, UTC.  [default: the latest 5 %]")
@click.option("--last", is_flag=True, help="Ask for the last event of each user instead.")
@click.option("--unseen/--seen", help="Leave out of every ranking what the user has had, and do not ask for it.")
@click.option("--beside", type=click.Path(path_type=Path), multiple=True, help="Another bundle to compare with.")
@click.option("--history", type=click.Path(path_type=Path), help="Another log to count popularity and such in.")
@click.option("--tables", is_flag=True, help="Also rank against item vectors in float16 and int8.")
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Threads of the model.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="All figures as JSON.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A report to read: .html as a page with plots, else Markdown.",
)
def command(
    folder: Path,
    events: Path,
    form: str,
    mapped: "Mapped",
    limits: "Limits",
    log_words: list[str],
    after: datetime | None,
    last: bool,
    unseen: bool,
    beside: tuple[Path, ...],
    history: Path | None,
    tables: bool,
    threads: int,
    output: Path | None,
    report: Path | None,
) -> None:
    """Rank the events of the log EVENTS by the bundle in FOLDER, as a stream sees them.

    Each event is looked for among all items by the vector that stood before it: windows and model are the worker's own.
    Beside it: the vector as it was when the day began, popularity, what followed the user's last item, neighbours of
    the last items, and the user's own latest. Items that the bundle lacks are ranked from the time on at which they
    first came. All ties count against us. What the bundle was trained on must lie before what is asked.
    """
    import orjson

    from models import bundle as bundles
    from models.clean import clean
    from models.log import read
    from models.measure import Question, measure, table
    from stream.settings import load

    bundle = bundles.load(folder)
    others = {_called(path, other): other for path, other in ((path, bundles.load(path)) for path in beside)}
    log, dropped = clean(read(events, form=form, mapped=mapped), limits)
    for one in dropped:
        click.echo(f"left out: {one.events} events {one.why} ({one.users} users)", err=True)
    question = Question(int(after.replace(tzinfo=UTC).timestamp() * 1000) if after else 0, last, unseen)
    counted = clean(read(history, form=form, mapped=mapped), limits)[0] if history else None
    found = measure(log, bundle, load().rules, question, beside=others, tables=tables, history=counted, threads=threads)
    found["training"] = bundle.metrics.get("training", [])
    found["compared"] = {role: bundle.metrics[role] for role in ("validation", "test") if role in bundle.metrics}
    click.echo("\n".join(table(found)))
    where = [str(events), *log_words]
    if output is not None:
        said = {"bundle": bundle.version, "log": where, **found}
        _write(output, orjson.dumps(said, option=orjson.OPT_INDENT_2) + b"\n")
    if report is not None:
        asked = [f"--after={after.isoformat()}"] if after else []
        asked += [f"--history={history}"] if history else []
        asked += (
            ["--last"] * last
            + ["--tables"] * tables
            + ["--unseen"] * unseen
            + [f"--beside={other}" for other in beside]
        )
        made = shlex.join(["interest", "model", "evaluate", str(folder), *where, *asked])
        _write(report, _report(report, bundle, log, " ".join(where), found, made))


def _report(path: Path, bundle: "Bundle", log: "Log", where: str, found: dict[str, Any], made: str) -> bytes:
    from models import report

    times = log.events["timestamp"]
    about = report.About(
        bundle=bundle.version,
        log=where,
        command=made,
        made_on=datetime.now(UTC).date(),
        events=len(log.events),
        users=log.users,
        first_ms=int(times.min()),
        last_ms=int(times.max()),
    )
    return (report.html if path.suffix == ".html" else report.markdown)(found, about).encode()


def _write(path: Path, content: bytes) -> None:
    from stream.errors import UsageError

    try:
        path.write_bytes(content)
    except OSError as error:
        raise UsageError(f"{path}: expected a file that can be written: {error.strerror}") from error


def _called(folder: Path, bundle: "Bundle") -> str:
    """What a bundle to compare with is called in the table."""
    from models.verdict import PLAIN

    return PLAIN if bundle.metrics.get("options", {}).get("encoder") == "none" else folder.resolve().name
