"""`interest model refresh`: items added to a bundle without training."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream.commands.logs import with_log

if TYPE_CHECKING:
    from models.clean import Limits
    from models.rows import Mapped


@click.command(short_help="Add a log's new items to a bundle without training.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("events", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the new bundle, or to be.")
@click.option("--catalog", type=click.Path(path_type=Path), help="JSON Lines with names of items and categories.")
@click.option("--attributes", type=click.Path(path_type=Path), help="JSON object: item id to list of attributes.")
@with_log
def command(
    folder: Path,
    events: Path,
    output: Path,
    catalog: Path | None,
    attributes: Path | None,
    form: str,
    mapped: "Mapped",
    limits: "Limits",
    log_words: list[str],
) -> None:
    """Add the items of the log EVENTS and of --catalog to the bundle in FOLDER, without training.

    A new item stands where its neighbours in the log, its category, and the text of its reviews and its attributes say
    (these two as learnt from the items that the bundle knows). All other items keep their vectors, so that vectors of
    users from before can still be compared with them.
    """
    from models import bundle as bundles
    from models import folder as folders
    from models.clean import clean
    from models.log import read
    from stream.errors import InterestError

    try:
        from models.refresh import metrics, refresh
    except ImportError as error:
        if error.name not in ("onnx", "sklearn"):
            raise
        raise InterestError("refreshing needs ONNX: pip install 'interest-stream[train]'") from error

    folders.replaceable(output)
    bundle = bundles.load(folder)
    log, dropped = clean(read(events, catalog, form=form, mapped=mapped, attributes=attributes), limits)
    for one in dropped:
        click.echo(f"left out: {one.events} events {one.why} ({one.users} users)")
    found = refresh(bundle, log, click.echo)
    words = ["interest", "model", "refresh", str(folder), str(events), "--output", str(output)]
    words += ["--catalog", str(catalog)] if catalog else []
    words += ["--attributes", str(attributes)] if attributes else []
    made = bundles.write(
        output,
        encoder=found.encoder,
        catalog=found.catalog,
        items=found.items,
        golden_windows=bundle.golden.windows,
        event_types=bundle.event_types,
        states=bundle.states,
        inputs=bundle.inputs,
        text=bundle.text,
        parts=found.parts,
        probability=found.probability,
        metrics=metrics(bundle, found),
        command=shlex.join([*words, *log_words]),
    )
    click.echo(", ".join(f"{count} with {what}" for what, count in found.by.items()))
    click.echo(f"{output}: bundle {made.version}, {made.catalog.items - 1} items")
