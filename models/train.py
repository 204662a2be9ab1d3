"""From an event log to a bundle: read, split, learn, export, evaluate, write."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from models import bundle as bundles
from models import calibration, export, folder, sequences
from models.begin import begin
from models.bundle import Bundle, Parts, Signature
from models.curves import Curves
from models.evaluation import BLOCK, evaluate
from models.fit import Fit, Progress
from models.golden import whole
from models.graph import open_graph
from models.loss import Space
from models.network import Encoder
from models.options import Options
from models.parallel import processes, together
from models.prepare import EVENT_TYPES, Prepared, Say, Source
from models.prequential import go_through
from models.probability import Probability
from models.sequences import TEST, VALIDATION, Split
from stream.errors import UsageError
from stream.rules import Rules

HORIZON_MS: Final = 86_400_000  # within which a probability says that a user acts, where enough is held out
NAMES: Final = {VALIDATION: "validation", TEST: "test"}

Step = Callable[[Progress], None]


@dataclass(frozen=True)
class Work:
    """What training does beside its model."""

    compared: tuple[str, ...] = ()  # encoders that are trained in the same way, to be told apart in the report
    former: Path | None = None  # a bundle to begin with
    curves: Path | None = None  # a folder for TensorBoard
    say: Say = field(default=lambda line: None)
    progress: Step = field(default=lambda progress: None)


@dataclass(frozen=True, eq=False)
class Trained:
    """What training has made of one encoder."""

    encoder: Encoder
    graph: bytes
    signature: Signature
    items: NDArray[np.float32]  # [entries of Split.items, dim]
    history: list[dict[str, float | None]]


def train(
    source: Source, output: Path, options: Options, rules: Rules, work: Work | None = None, command: str = ""
) -> Bundle:
    """Train a model of an event log and write its bundle.

    1. Read the log as the worker would, take out what is over the limits; items and categories become the catalog.
    2. Learn word vectors from the reviews that are not held out, if there are enough.
    3. Learn from what is not held out, in a worker's windows; after each epoch write a checkpoint beside `output`, from
       which the same call goes on after it was killed.
    4. Export the graph, ask it for what was held out, write and verify the bundle, remove the checkpoint.

    The same log, options and machine give the same bundle version. Started by torchrun, all processes train together
    and the first one writes.

    Raises:
        UsageError: no such file, no events, too few users, `output` holds something else, or there is no such device.
        BundleError: the graph does not step as it runs, or a former bundle is damaged.
    """
    folder.replaceable(output)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda expected, but PyTorch finds no GPU here; train with --device cpu")
    work = work or Work()
    with together() as number:
        if number:
            work = replace(work, say=lambda line: None, progress=lambda progress: None, curves=None)
        former = bundles.load(work.former) if work.former else None
        threads = torch.get_num_threads()
        torch.set_num_threads(options.threads)
        try:
            bundle = _train(source, output, options, rules, work, command, former)
        finally:
            torch.set_num_threads(threads)
    return bundles.load(output) if bundle is None else bundle


def _train(
    source: Source,
    output: Path,
    options: Options,
    rules: Rules,
    work: Work,
    command: str,
    former: Bundle | None,
) -> Bundle | None:
    given = None
    if former is not None and former.text_width:
        given = former.text
    prepared = Prepared.make(source, options, rules, work.say, given)
    trained = {options.encoder: fitted(prepared, options, work, output, former)}
    for name in work.compared:
        work.say(f"the same with {_called(name)}, to compare")
        trained[name] = fitted(prepared, replace(options, encoder=name), work, output, former)
    if processes()[0]:
        return None
    main = trained[options.encoder]
    figures = _foreseen(prepared, trained, options)
    for line in report(figures, options.encoder):
        work.say(line)
    log, catalog = prepared.log, prepared.catalog
    metrics: dict[str, Any] = {
        "users": log.users,
        "events": len(log.events),
        "left_out": {one.why: {"events": one.events, "users": one.users} for one in prepared.dropped},
        "options": options.said(),
        "training": main.history,
        **figures,
    }

    def write(head: Probability | None, metrics: dict[str, Any]) -> Bundle:
        return bundles.write(
            output,
            encoder=main.graph,
            catalog=catalog,
            items=main.items[: catalog.items],
            golden_windows=sequences.golden(prepared.split),
            event_types=EVENT_TYPES,
            states=main.signature.states,
            inputs=main.signature.inputs,
            text=prepared.text,
            parts=_parts(main.encoder),
            probability=head,
            metrics=metrics,
            command=command,
        )

    bundle = write(None, metrics)
    head, told = _head(prepared, bundle, rules, options, work.say)
    if head is not None:
        bundle = write(head, metrics | {"probability": told})
    for name in trained:
        _checkpoint(output, name).unlink(missing_ok=True)
    return bundle


def fitted(
    prepared: Prepared, options: Options, work: Work, output: Path | None, former: Bundle | None = None
) -> Trained:
    """Train one encoder; with `output`, from the checkpoint beside it if there is one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        encoder = prepared.encoder(options)
        if former is not None:
            found = begin(encoder, former, prepared.catalog)
            work.say(f"begun with {former.folder}: {found} of {prepared.catalog.items - 1} items found in it")
        encoder = encoder.to(options.device)
        fit = Fit(encoder, prepared.split, prepared.steps, options, each_epoch=work.curves is not None)
        checkpoint = _checkpoint(output, options.encoder) if output else None
        if checkpoint is not None and checkpoint.exists():
            fit.resume(checkpoint)
            work.say(f"{checkpoint}: goes on after epoch {fit.epoch}")
        with Curves.open(work.curves and work.curves / options.encoder) as curves:
            for step in fit.steps():
                work.progress(step)
                if step.last:
                    curves.add(step)
                    if checkpoint is not None and processes()[0] == 0:
                        fit.save(checkpoint)
    _settle(encoder, prepared.split, fit)
    with torch.no_grad():
        space = Space.make(prepared.split.items, torch.device(options.device))
        items = encoder.item_vectors(space.row, space.category).cpu().numpy()
        items[0] = 0
    encoder = encoder.cpu()
    signature = Signature(prepared.features.used, export.states(encoder), prepared.text.width, options.dim)
    return Trained(encoder, export.graph(encoder), signature, items, fit.history)


def _foreseen(prepared: Prepared, trained: dict[str, Trained], options: Options) -> dict[str, Any]:
    """What the graphs say of what was held out, by role."""
    found: dict[str, Any] = {}
    split = prepared.split
    for role, name in NAMES.items():
        if not (split.role == role).any():
            continue
        questions, count = split.questions(role, np.random.default_rng([options.seed, 7]))
        vectors = {}
        for kind, one in trained.items():
            session = open_graph(one.graph, one.signature, threads=options.threads)
            vectors[kind] = np.concatenate(
                [
                    whole(session, one.signature, prepared.features, sequences.windows(prepared.log, part))
                    for part in np.split(questions, range(BLOCK, len(questions), BLOCK))
                    if len(part)
                ]
                or [np.zeros((0, options.dim), np.float32)]
            )
        known = split.nameable()[split.item[questions[:, 1]]]
        found[name] = {
            "held_out": count,
            "asked": len(questions),
            "known": round(float(known.mean()), 4) if len(known) else 0.0,
            "systems": evaluate(split, questions, vectors, {kind: one.items for kind, one in trained.items()}),
        }
    return found


def _head(
    prepared: Prepared, bundle: Bundle, rules: Rules, options: Options, say: Say
) -> tuple[Probability | None, dict[str, Any]]:
    """Probabilities of acts from what was held out by time, one half to fit and one to measure; none without it."""
    log, asked = prepared.log, prepared.split.role == VALIDATION
    if options.split != "time" or not asked.any():
        return None, {}
    times = log.events["timestamp"]
    begin_ms, end_ms = int(times[asked].min()), int(times.max()) + 1
    horizon_ms = min(HORIZON_MS, (end_ms - begin_ms) // 4)
    try:
        head, test = calibration.learn(
            log,
            bundle.features.items.find(log.events["item"]),
            bundle.items,
            go_through(log, bundle, rules, asked, options.threads),
            begin_ms=begin_ms,
            end_ms=end_ms,
            horizon_ms=horizon_ms,
            seed=options.seed,
        )
    except UsageError as error:
        say(f"no probabilities of acts: {error}")
        return None, {}
    told = calibration.measure(head, bundle.items, test)
    for line in calibration.table(told):
        say(line)
    return head, told


def report(figures: dict[str, Any], encoder: str) -> Iterable[str]:
    """Lines for people of what training has said of what was held out."""
    for role in NAMES.values():
        if role not in figures:
            continue
        told = figures[role]
        yield f"{role}: {told['asked']} of {told['held_out']} events asked, {told['known']:.1%} of items that are known"
        for name, one in told["systems"].items():
            shown = "  ".join(f"{key.upper()} {one[key]:.4f}" for key in ("hr@10", "ndcg@10", "hr@20", "mrr@20"))
            yield f"  {_called(name) if name != encoder else name:<12} {shown}"


def _called(name: str) -> str:
    return "no encoder" if name == "none" else name


def _checkpoint(output: Path, encoder: str) -> Path:
    return output.absolute().with_name(f".{output.absolute().name}.{encoder}.checkpoint")


def _settle(encoder: Encoder, split: Split, fit: Fit) -> None:
    """Give items that were never learnt from what stands for an item that the catalog lacks.

    Only chance and being a negative moved their own rows. With codes these are theirs; without, what their category,
    attributes and reviews say is left, and of an item without any of these its row.
    """
    known = split.items.known
    without = torch.from_numpy(split.counts()[:known] == 0)
    without[0] = False
    with torch.no_grad():
        rows = encoder.item_rows.weight
        if encoder.sizes.codes:
            code = fit.coded()[:known][without] - encoder.sizes.items
            rest = encoder.own(torch.arange(known, device=rows.device))[without] - rows[without]
            rows[without] = encoder.signs(code) - rest
            return
        kept = rows.clone()
        rows[without] = 0
        bare = encoder.item_vectors(torch.arange(known, device=rows.device)).abs().sum(-1) == 0
        rows[bare] = kept[bare]


def _parts(encoder: Encoder) -> Parts:
    """What stands for an item that the catalog lacks."""
    with torch.no_grad():
        return Parts(encoder.scaled_codes().numpy().copy(), encoder.category_rows.weight.numpy().copy())
