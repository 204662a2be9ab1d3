"""From an event log to a bundle: read, split, learn, export, evaluate, write."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import bundle as bundles
from models import export, folder, sequences, words
from models.bundle import Bundle, Catalog, Signature, TextVectors
from models.clean import Limits, clean
from models.evaluation import evaluate
from models.features import OTHER, Features
from models.fit import Progress, fit
from models.formats import Mapped
from models.graph import open_graph
from models.log import AS_NAMED, JSON, Log, catalog_lists, read
from models.network import Encoder, Sizes
from stream import contract

NO_MORE_THAN_PEOPLE_DO = Limits()
EVENT_TYPES = (OTHER, *contract.EVENT_TYPES)


@dataclass(frozen=True)
class Options:
    """How a model is trained."""

    dim: int = 48
    hidden: int = 64
    decays: tuple[float, ...] = (1.0, 0.6)  # of means of the events beside the LSTM, see models.network
    epochs: int = 8
    seed: int = 0
    threads: int = 1


def train(
    events: Path,
    output: Path,
    options: Options,
    *,
    catalog: Path | None = None,
    form: str = JSON,
    mapped: Mapped = AS_NAMED,
    limits: Limits = NO_MORE_THAN_PEOPLE_DO,
    command: str = "",
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Bundle:
    """Train a model of an event log and write its bundle.

    1. Read the log as the worker would, take out what is over the limits; items and categories become the catalog.
    2. Learn word vectors from its reviews, if there are enough.
    3. Hold out the latest events, learn from the others.
    4. Export the graph, ask it for what was held out, write and verify the bundle.

    The same log, options and machine give the same bundle version. `say` gets lines for a person, `progress` each step.

    Raises:
        UsageError: no such file, no events, too few users, or `output` holds something else.
        BundleError: the graph does not step as it runs.
    """
    folder.replaceable(output)
    log = read(events, catalog, form=form, mapped=mapped)
    say(_summary(log))
    log, dropped = clean(log, limits)
    for one in dropped:
        say(f"left out: {one.events} events {one.why} ({one.users} users)")
    rows = Catalog.build(**catalog_lists(log.names))
    text = words.learn(log.tokens, options.seed)
    inputs = _inputs(log, rows, text)
    features = Features.build(
        inputs=inputs,
        event_types=EVENT_TYPES,
        item_hashes=rows.item_hashes,
        category_hashes=rows.category_hashes,
        item_category=rows.item_category,
        text=text,
    )
    split = sequences.Split.make(log, features, str(events))
    questions, held_out = split.questions(np.random.default_rng([options.seed, 7]))
    sizes = Sizes(
        inputs, rows.items, rows.categories, len(EVENT_TYPES), text.width, options.dim, options.hidden, options.decays
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            encoder = Encoder(sizes, torch.from_numpy(rows.item_category))
            for step in fit(encoder, split, features, epochs=options.epochs, seed=options.seed):
                progress(step)
    finally:
        torch.set_num_threads(threads)
    items = _item_vectors(encoder, split, rows)
    signature = Signature(inputs, export.states(encoder), text.width, options.dim)
    graph = export.graph(encoder)
    session = open_graph(graph, signature, threads=options.threads)
    figures = evaluate(split, questions, session, signature, features, items)
    for name, figure in figures.items():
        say(f"next new item, {name:<10}  HR@10 {figure['hr@10']:.4f}  NDCG@10 {figure['ndcg@10']:.4f}")
    metrics: dict[str, Any] = {
        "users": log.users,
        "events": len(log.events),
        "left_out": {one.why: {"events": one.events, "users": one.users} for one in dropped},
        "held_out": held_out,
        "asked": len(questions),
        "next_new_item": figures,
    }
    return bundles.write(
        output,
        encoder=graph,
        catalog=rows,
        items=items,
        golden_windows=sequences.golden(log),
        event_types=EVENT_TYPES,
        states=signature.states,
        inputs=inputs,
        text=text,
        metrics=metrics,
        command=command,
    )


def _inputs(log: Log, catalog: Catalog, text: TextVectors) -> tuple[str, ...]:
    """What the log has to say, of features.INPUTS."""
    inputs = ["item_index", "event_type", "gap"]
    if catalog.categories > 1:
        inputs.insert(1, "category_index")
    inputs += [name for name in ("price", "quantity", "rating") if log.events[name].any()]
    return (*inputs, "text") if text.width else tuple(inputs)


def _item_vectors(encoder: Encoder, split: sequences.Split, catalog: Catalog) -> NDArray[np.float32]:
    """Vectors float32 [items, dim] of unit length, row 0 zeros.

    An item that was never learnt from is what its category is: only chance and being a negative moved its own part.
    """
    learnt = np.bincount(split.item[split.learnt], minlength=catalog.items) > 0
    own = torch.from_numpy(learnt | (catalog.item_category == 0))
    with torch.no_grad():
        encoder.item_rows.weight[~own] = 0
        vectors = encoder.item_vectors(torch.arange(catalog.items))
        vectors[0] = 0
    array: NDArray[np.float32] = vectors.numpy()
    return array


def _summary(log: Log) -> str:
    line = f"{len(log.events)} events of {log.users} users, {len(log.names.items)} items"
    if log.repeated:
        line += f", {log.repeated} repeated ones left out"
    if log.refused:
        line += f", {log.refused} of {log.lines} lines refused (first: {log.first_refusal})"
    return line
