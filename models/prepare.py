"""A log as training takes it: read, cleaned, split, its words learnt, every event as the graph will see it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models import sentiment, sequences, words
from models.bundle import Catalog, TextVectors
from models.clean import Dropped, Limits, clean
from models.features import OTHER, Features
from models.log import AS_NAMED, JSON, Log, catalog_lists, read
from models.network import About, Encoder, Sizes
from models.options import Options
from models.rows import Mapped
from models.sequences import LEARNT, Split, Steps
from stream import contract
from stream.errors import UsageError
from stream.rules import Rules

NO_MORE_THAN_PEOPLE_DO = Limits()
EVENT_TYPES = (OTHER, *contract.EVENT_TYPES)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """Where a log is, how it is written, and what is left out of it."""

    events: Path
    catalog: Path | None = None
    attributes: Path | None = None
    form: str = JSON
    mapped: Mapped = AS_NAMED
    limits: Limits = NO_MORE_THAN_PEOPLE_DO


@dataclass(frozen=True, eq=False)
class Prepared:
    """A log as training takes it."""

    log: Log
    dropped: list[Dropped]
    catalog: Catalog
    features: Features
    split: Split
    steps: Steps
    text: TextVectors
    about: About

    @classmethod
    def make(
        cls, source: Source, options: Options, rules: Rules, say: Say, text: TextVectors | None = None
    ) -> "Prepared":
        """Read, clean and split a log; learn its words, unless `text` brings some.

        Raises:
            UsageError: no such file, no events, too few users.
        """
        log, dropped = log_of(source, say)
        return cls.of(log, options, rules, str(source.events), dropped, text)

    @classmethod
    def of(
        cls,
        log: Log,
        options: Options,
        rules: Rules,
        where: str,
        dropped: Sequence[Dropped] = (),
        text: TextVectors | None = None,
    ) -> "Prepared":
        """The same, of a log that is clean."""
        role = sequences.roles(log, options.split, options.held_out)
        catalog = Catalog.build(**catalog_lists(log.names))
        if text is None:
            text = _words(log, role == LEARNT, options) if "text" not in options.without else TextVectors.none()
        features = Features.build(
            inputs=tuple(name for name in _inputs(log, catalog, text) if name not in options.without),
            event_types=EVENT_TYPES,
            item_hashes=catalog.item_hashes,
            category_hashes=catalog.category_hashes,
            item_category=catalog.item_category,
            text=text,
            codes=options.codes,
        )
        split = Split.make(
            log,
            features,
            rules,
            where,
            kind=options.split,
            share=options.held_out,
            unseen=options.unseen,
        )
        about = About.make(
            torch.from_numpy(catalog.item_category),
            _attributes(log, catalog),
            torch.from_numpy(_item_text(split, features)) if text.width else None,
        )
        return cls(log, list(dropped), catalog, features, split, Steps.make(log, features), text, about)

    def encoder(self, options: Options) -> Encoder:
        """A network that has learnt nothing yet; random numbers are PyTorch's."""
        sizes = Sizes(
            inputs=self.features.used,
            items=self.catalog.items,
            categories=self.catalog.categories,
            types=len(EVENT_TYPES),
            text=self.text.width,
            dim=options.dim,
            hidden=options.hidden,
            decays=options.decays,
            encoder=options.encoder,
            codes=options.codes,
        )
        return Encoder(sizes, self.about, (options.dropout_in, options.dropout_out))


def log_of(source: Source, say: Say) -> tuple[Log, list[Dropped]]:
    """A log, cleaned, and what was left out of it; both are told.

    Raises:
        UsageError: no such file, or no events.
    """
    log = read(source.events, source.catalog, form=source.form, mapped=source.mapped, attributes=source.attributes)
    say(_summary(log))
    log, dropped = clean(log, source.limits)
    for one in dropped:
        say(f"left out: {one.events} events {one.why} ({one.users} users)")
    return log, dropped


def _inputs(log: Log, catalog: Catalog, text: TextVectors) -> tuple[str, ...]:
    """What the log has to say, of features.INPUTS."""
    inputs = ["item_index", "event_type", "gap"]
    if catalog.categories > 1:
        inputs.insert(1, "category_index")
    inputs += [name for name in ("price", "quantity", "rating") if log.events[name].any()]
    return (*inputs, "text") if text.width else tuple(inputs)


def _words(log: Log, learnt: NDArray[np.bool_], options: Options) -> TextVectors:
    row = log.text_row[learnt]
    tokens = log.tokens[row[row >= 0]]
    if options.text == "none" or not len(tokens):
        return TextVectors.none()
    text = words.learn(tokens, options.seed, options.text_width, method=options.text)
    if not options.sentiment:
        return text
    told, good = sentiment.by_rating(log.events["rating"][learnt][row >= 0])
    found = sentiment.learn(tokens[told], good[told])
    if found is None:
        raise UsageError("sentiment expected 20 reviews rated 4 or 5 and 20 rated 1 or 2 to learn from, got fewer")
    return sentiment.with_sentiment(text, found)


def _attributes(log: Log, catalog: Catalog) -> list[list[int]]:
    """Rows of attributes of each item of the catalog; empty lists where nothing is told."""
    of = log.names.attributes_of
    rows = {name: row for row, name in enumerate(sorted({one for has in of.values() for one in has}))}
    return [[rows[one] for one in of.get(item, ())] for item in catalog.item_ids.tolist()]


def _item_text(split: Split, features: Features) -> NDArray[np.float32]:
    """The mean of the text features of an item's reviews that are learnt from, float32 [items, width]."""
    log, texts = split.log, features.text(split.log.tokens)
    place = np.flatnonzero((split.role == LEARNT) & (log.text_row >= 0) & (split.item < split.items.known))
    total = np.zeros((split.items.known, texts.shape[1]), np.float32)
    np.add.at(total, split.item[place], texts[log.text_row[place]])
    count = np.bincount(split.item[place], minlength=split.items.known)[:, None]
    mean: NDArray[np.float32] = (total / np.maximum(count, 1)).astype(np.float32)
    mean[0] = 0
    return mean


def _summary(log: Log) -> str:
    line = f"{len(log.events)} events of {log.users} users, {len(log.names.items)} items"
    if log.repeated:
        line += f", {log.repeated} repeated ones left out"
    if log.refused:
        line += f", {log.refused} of {log.lines} lines refused (first: {log.first_refusal})"
    return line
