"""`interest simulate`: a simulated shop's events, to Kafka, as they happen."""

import time
from collections.abc import Iterator
from typing import Final

import click

from stream.commands.options import with_settings
from stream.commands.text import counted
from stream.eventfile import Record
from stream.publish import publish
from stream.settings import Settings

SLICES_S: Final = 50  # events of so many parts of a second go out together, with one time


@click.command()
@with_settings("broker")
@click.option("--topic", metavar="NAME", help="Topic to send to.  [default: the first of INTEREST_EVENT_TOPICS]")
@click.option("--rate", type=click.FloatRange(1, 100_000), default=20.0, show_default=True, help="Events a second.")
@click.option("--events", type=click.IntRange(1), metavar="N", help="End after so many.  [default: never]")
@click.option("--users", type=click.IntRange(1), default=1000, show_default=True, help="Shoppers.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed, the same shoppers.")
def command(settings: Settings, topic: str | None, rate: float, events: int | None, users: int, seed: int) -> None:
    """Send a simulated shop's events to an event topic, with their times at now, until a signal.

    Of 200 events 2 are late, 2 are sent twice and 1 is malformed, on purpose. The bundle that comes with the package
    knows this shop's products.
    """
    topic = topic or settings.event_topics[0]
    click.echo(f"sending {rate:g} events a second to {topic}")
    published = publish(_records(rate, events, users, seed), settings.cluster, topic, rate=rate)
    click.echo(f"published {counted(published.sent, 'event')} to {topic}")


def _records(rate: float, events: int | None, users: int, seed: int) -> Iterator[list[Record]]:
    """The shop's records, as many at a time as go out together."""
    from models.products import Shop
    from stream.demo.shop import Traffic

    size = max(1, round(rate / SLICES_S))
    traffic = Traffic(Shop(), users=users, seed=seed, start_ms=_now_ms(), rate=rate)
    number = 0
    while events is None or number < events:
        now_ms = _now_ms()
        made = [traffic.next(now_ms) for _ in range(size if events is None else min(size, events - number))]
        yield [Record(number + place, one.key, one.value, None) for place, one in enumerate(made, 1)]
        number += len(made)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
