"""`interest demo`: a simulated shop, a broker and a worker, and what comes of them."""

import click

from stream.settings import load


@click.command()
@click.option("--broker", metavar="HOST:PORT", help="A Kafka that runs already, instead of one of the demo's own.")
@click.option("--rate", type=click.FloatRange(0.1, 100_000), default=200.0, show_default=True, help="Events a second.")
@click.option("--events", type=click.IntRange(1), metavar="N", help="End after so many, with exit code 0.")
@click.option("--users", type=click.IntRange(1), default=1000, show_default=True, help="Shoppers.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed, the same shoppers.")
@click.option("--partitions", type=click.IntRange(1, 1000), default=4, show_default=True, help="Of each topic.")
@click.option(
    "--model", metavar="FOLDER", help="Folder of the model bundle.  [INTEREST_MODEL; default: the demo's own]"
)
def command(
    broker: str | None,
    rate: float,
    events: int | None,
    users: int,
    seed: int,
    partitions: int,
    model: str | None,
) -> int:
    """A simulated shop's events through a worker, and one shopper's interest vector as it moves. Ctrl-C ends it.

    Starts a Kafka of its own (Java 17; Maven brings it the first time), makes the topics, runs a worker and publishes
    events with their times at now; 2 of 200 are late, 2 are sent twice and 1 is malformed, so that all that a worker
    does with them is seen. With --broker, topics and group have names of their own and are deleted at the end.

    Latency is from the broker's time of the event to the broker's time of the update. Lag counts events without an
    answer. What the worker is set to by INTEREST_ variables holds here too, but for broker, topics, group and folders.
    """
    settings = load({"broker": broker, "model": model})
    from stream.demo.run import Options, run  # takes a moment to import

    return run(settings, Options(broker is None, rate, events, users, seed, partitions))
