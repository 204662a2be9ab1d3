"""The demo, wired: what it starts, in order; and how all of it ends."""

import asyncio
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
from rich.console import Console

import models
from models import place
from models.products import Shop
from stream.broker import Broker
from stream.demo import report, topics
from stream.demo.measure import Measure
from stream.demo.play import Play
from stream.demo.shop import FOLLOWED, Traffic
from stream.demo.show import Show, now_ms, shown, snapshot
from stream.demo.signals import Signals
from stream.demo.state import Board, Followed
from stream.demo.worker import Worker
from stream.errors import InterestError
from stream.security import IN_THE_CLEAR, PLAINTEXT
from stream.settings import Settings

FRAME_S: Final = 0.2
SILENT_S: Final = 30.0
SIGNALLED: Final = 128  # plus the number of the signal: the exit code that shells know


@dataclass(frozen=True, slots=True)
class Options:
    """What the demo is asked for."""

    own_broker: bool
    rate: float  # events/s
    events: int | None  # None: until a signal
    users: int
    seed: int
    partitions: int


@dataclass(frozen=True, slots=True)
class _Started:
    """What runs."""

    settings: Settings
    followed: Followed
    broker: Broker | None
    worker: Worker
    starts: report.Starts


def default_model() -> Path:
    """The bundle of the simulated shop that comes with the package."""
    return Path(models.__file__).with_name("shop")


def run(settings: Settings, options: Options) -> int:
    """Run the demo; nothing of it is left behind, however it ends.

    Returns:
        the exit code: 0 if it ended as asked for (without `events`: by a signal), else 128 and the signal's number.

    Raises:
        InterestError: what could not be started, or went away; with the end of its log.
    """
    began_s = time.monotonic()
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    with Signals() as signals, ExitStack() as stack:
        try:
            started = _start(settings, options, console, stack)
            _play(started, options, console, signals, began_s)
        except KeyboardInterrupt:
            return SIGNALLED + signals.number
        finally:
            signals.ignore()
            with console.status("stopping"):
                stack.close()
    return SIGNALLED + signals.number if signals.number and options.events is not None else 0


def _start(settings: Settings, options: Options, console: Console, stack: ExitStack) -> _Started:
    """Model, broker, topics and worker, one after the other; `stack` takes them down in the other order."""
    where = settings.model or str(default_model())
    where = where if "://" in where else str(Path(where).resolve())
    bundle = place.load(where)
    followed = Followed(Shop(), bundle)
    items, categories = bundle.catalog.items - 1, bundle.catalog.categories - 1
    console.print(f"model    {bundle.version}, {items:,} products in {categories:,} categories")

    settings = settings.model_copy(update={"model": where, "update_format": "json"})
    broker = broker_s = None
    if options.own_broker:
        at_s = time.monotonic()
        with console.status("starting Apache Kafka"):
            broker = stack.enter_context(Broker(report=console.print))
        broker_s = time.monotonic() - at_s
        settings = settings.model_copy(update={**PLAINTEXT, "broker": broker.address})
        console.print(f"broker   {broker.address}, started in {broker_s:.1f} s")
    else:
        settings = topics.fresh_names(settings)
        if settings.security_protocol == "sasl_plaintext":
            _warn(IN_THE_CLEAR)

    with console.status("making topics"):
        stack.enter_context(topics.made(settings, options.partitions, keep=options.own_broker, warn=_warn))
    names = (*settings.event_topics, settings.update_topic, settings.deadletter_topic)
    console.print(f"topics   {', '.join(names)}")

    at_s = time.monotonic()
    with console.status("starting the worker"):
        worker = stack.enter_context(Worker(settings))
        worker.wait_ready()
    worker_s = time.monotonic() - at_s
    console.print(f"worker   ready in {worker_s:.1f} s")
    return _Started(settings, followed, broker, worker, report.Starts(broker_s, worker_s))


def _play(started: _Started, options: Options, console: Console, signals: Signals, began_s: float) -> None:
    """Until it ends by itself or by a signal; then the summary.

    Raises:
        InterestError: broker or worker ended, or no answer came for 30 s.
    """
    settings = started.settings
    board = Board(Measure(settings.rules), started.followed, options.events, began_s, time.monotonic())
    traffic = Traffic(
        started.followed.shop, users=options.users, seed=options.seed, start_ms=now_ms(), rate=options.rate
    )
    play = Play(settings, board, traffic, options.rate, options.events)
    title = f"Kafka at {settings.broker}"
    hint = (
        f"In another terminal: interest watch --broker {settings.broker} --user {FOLLOWED}"
        if options.own_broker
        else f"Topics {settings.app_id}-…, deleted at the end."
    )
    with shown(console, board, title, hint) as show:
        asyncio.run(_until_end(started, play, show, signals))
    for line in report.summary(snapshot(board), board.measure, started.starts):
        console.print(line)


async def _until_end(started: _Started, play: Play, show: Show, signals: Signals) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def look() -> None:
        if started.broker is not None:
            started.broker.check()
        started.worker.check()
        if play.silent_s > SILENT_S:
            raise InterestError(
                f"no answer for {SILENT_S:.0f} s though events wait for one; "
                f"the end of the worker's log:\n{started.worker.tail()}"
            )
        show()

    signals.listener = lambda: loop.call_soon_threadsafe(stop.set)
    try:
        await play.run(look, FRAME_S, stop)
    finally:
        signals.listener = None


def _warn(line: str) -> None:
    click.echo(line, err=True)
