"""`interest model reviews`: what the reviews of a log say of its items, and how well good is told from bad."""

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream.commands.logs import with_log
from stream.commands.text import counted, printable

if TYPE_CHECKING:
    from models.clean import Limits
    from models.comparison import Told
    from models.labelled import Labelled
    from models.log import Log
    from models.opinions import Opinion
    from models.rows import Mapped

ITEM_WIDTH = 24


@click.command(short_help="Show items by their reviews: rating, sentiment, keywords.")
@click.argument("events", type=click.Path(path_type=Path), required=False)
@with_log
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="Items, those with most reviews.")
@click.option("--keywords", "most", type=click.IntRange(0), default=8, show_default=True, help="Keywords an item.")
@click.option(
    "--labelled",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Learn sentiment from this table, CSV or a zip of one, instead of from the ratings.",
)
@click.option("--label-column", default="label", show_default=True, help="What a text is: 1 or good, 0 or bad.")
@click.option("--text-column", default="text", show_default=True, help="The text; two numbers: places, no header.")
@click.option(
    "--held-out",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Hold this share of the texts out and show how well they are told apart, beside a baseline.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Which texts are held out.")
def command(
    events: Path | None,
    form: str,
    mapped: "Mapped",
    limits: "Limits",
    log_words: list[str],
    top: int,
    most: int,
    labelled: Path | None,
    label_column: str,
    text_column: str,
    held_out: float | None,
    seed: int,
) -> None:
    """Show what the reviews of the event log EVENTS say of its items: number, rating, sentiment, keywords.

    Sentiment is learnt from the ratings: 4 to 5 is good, 1 to 2 bad, 3 left out; or from --labelled, and then EVENTS
    may be missing. It is the mean probability that a text is good, read from the 64 tokens that the worker keeps of a
    text, and needs 20 good and 20 bad ones; texts that it was learnt from are among those. Keywords are what an item's
    reviews have more often than all reviews.

    With --held-out a share of the texts is not learnt from but asked for. Beside it stand scikit-learn's own TF-IDF of
    words and of characters of the whole text, with a logistic regression, and what calls everything good.
    """
    from models import labelled as reviews
    from models import sentiment as sentiments
    from models.keywords import texts
    from models.opinions import opinions
    from stream.errors import UsageError

    if events is None and labelled is None:
        raise UsageError("expected EVENTS, or --labelled with reviews to learn from, got neither")
    known = None if labelled is None else reviews.read(labelled, label_column, text_column)
    if known is not None:
        click.echo(f"{labelled}: {_told_of(known)}, {known.left_out:,} rows without text left out")
    log = None
    if events is not None:
        if events.exists() and not (events.is_file() or events.is_dir()):
            raise UsageError(f"{events}: expected a file or a folder, since it is read twice, got a stream")
        log = _log(events, form, mapped, limits)
        if known is None:
            known = reviews.rated(log, texts(events, form=form, mapped=mapped) if held_out is not None else None)
            click.echo(f"{events}: {_told_of(known)} by their ratings")
    assert known is not None
    if held_out is not None:
        _compare(known, held_out, seed)
    if events is None or log is None:
        return
    learnt = sentiments.learn(known.tokens, known.good, sentiments.REACH)
    if learnt is None:
        least = sentiments.EACH_MIN
        click.echo(f"no sentiment: expected {least} different good and {least} bad texts to learn from", err=True)
    for line in _table(opinions(log, top, learnt, texts(events, form=form, mapped=mapped), most)):
        click.echo(line)


def _log(events: Path, form: str, mapped: "Mapped", limits: "Limits") -> "Log":
    from models.clean import clean
    from models.log import read
    from stream.errors import UsageError

    log, dropped = clean(read(events, form=form, mapped=mapped), limits)
    for one in dropped:
        click.echo(f"left out: {one.events} events {one.why} ({one.users} users)", err=True)
    if not (log.text_row >= 0).any():
        raise UsageError(f"{events}: expected reviews with a text, got none in {counted(len(log.events), 'event')}")
    return log


def _told_of(known: "Labelled") -> str:
    good = int(known.good.sum())
    return f"{good:,} good and {len(known.good) - good:,} bad reviews with a text"


def _compare(known: "Labelled", share: float, seed: int) -> None:
    from models.comparison import compare, held_out

    found = compare(known, held_out(known.tokens, share, seed))
    asked = f"asked {found.asked:,}, {found.asked_good:,} of them good; seed {seed}"
    click.echo(f"learnt from {found.learnt:,} texts that differ, {asked}")
    for line in figures(found.told):
        click.echo(line)


def figures(found: "list[Told]") -> list[str]:
    """Lines of a table."""
    head = f"{'':<21} {'accuracy':>8} {'precision':>9} {'recall':>6} {'F1':>6} {'F1 of bad':>9}"
    return [head] + [
        f"{one.by:<21} {one.accuracy:>8.4f} {one.precision:>9.4f} {one.recall:>6.4f} {one.f1:>6.4f} {one.f1_bad:>9.4f}"
        for one in found
    ]


def _table(found: "list[Opinion]") -> list[str]:
    lines = [f"{'item':<{ITEM_WIDTH}} {'reviews':>7} {'rating':>6} {'sentiment':>9}  keywords"]
    for one in found:
        shown = one.item if one.name == one.item else f"{one.item} {one.name}"
        rating = "-" if one.rating is None else f"{one.rating:.2f}"
        sentiment = "-" if one.sentiment is None else f"{one.sentiment:.3f}"
        words = " ".join(printable(word, 40) for word in one.keywords)
        lines.append(f"{_fitted(printable(shown))} {one.reviews:>7,} {rating:>6} {sentiment:>9}  {words}".rstrip())
    return lines


def _fitted(text: str) -> str:
    """In so many columns of a terminal, where Chinese characters take two."""
    kept, width = "", 0
    for character in text:
        width += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if width > ITEM_WIDTH:
            kept, width = kept[:-1] + "…", ITEM_WIDTH
            break
        kept += character
    return kept + " " * max(0, ITEM_WIDTH - width)
