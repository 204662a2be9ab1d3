"""Publishing a file: every line sent at the pace asked for, what cannot be sent named, order in time watched."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from stream.errors import TopicError
from stream.eventfile import Record, Unfit
from stream.publisher import Publisher
from stream.security import Cluster
from stream.topics import CREATE, describe

SLICE_S = 0.02  # a pace is kept in slices of this, so that a fast one still sends many records at once
CATCH_UP_S = 1.0


@dataclass
class Published:
    """What came of a file so far. `disordered` lines are older than one before them; `first_disordered` is the first
    of them. `newest_ms` is the newest event time."""

    sent: int = 0
    unfit: int = 0
    disordered: int = 0
    first_disordered: int = 0
    newest_ms: int | None = None


def publish(
    chunks: Iterable[Sequence[Record | Unfit]],
    broker: Cluster,
    topic: str,
    *,
    rate: float | None = None,
    unfit: Callable[[Unfit], None] = lambda _line: None,
    report: Callable[[Published], None] = lambda _so_far: None,
) -> Published:
    """Send the records of each chunk, in order, and wait until all are acknowledged by all in-sync replicas.

    Args:
        chunks: records as they come; each chunk is acknowledged before the next is asked for.
        rate: events a second, at most.
        unfit: told each line that is not sent, with the reason.
        report: told what is done, after each chunk.

    Raises:
        TopicError: the topic does not exist.
        BrokerError: no broker answers, or something was not acknowledged; tells how much, and the first line.
    """
    info = describe(broker, [topic], "Write").get(topic)
    if info is None:
        raise TopicError(f"topic {topic} is missing on {broker}; make what is missing with {CREATE}")
    published = Published()
    with asyncio.Runner() as runner:
        publisher = Publisher(broker, info)

        async def send(records: list[Record]) -> None:
            await publisher.send(records)
            await publisher.flush()

        runner.run(publisher.__aenter__())
        try:
            for part in _paced(chunks, rate):
                runner.run(send(_fit(part, publisher.max_record_bytes, published, unfit)))
                published.sent = publisher.acknowledged
                report(published)
        finally:
            published.sent = publisher.acknowledged
            runner.run(publisher.__aexit__())
    return published


def _fit(
    lines: Sequence[Record | Unfit], max_bytes: int, published: Published, unfit: Callable[[Unfit], None]
) -> list[Record]:
    """The records among `lines` that a topic with this limit takes, all counted in `published`."""
    records = []
    newest = published.newest_ms
    for line in lines:
        if isinstance(line, Record):
            size = len(line.key) + len(line.value)
            if size <= max_bytes:
                records.append(line)
                if line.time_ms is not None:
                    if newest is None or line.time_ms >= newest:
                        newest = line.time_ms
                    else:
                        published.disordered += 1
                        published.first_disordered = published.first_disordered or line.line
                continue
            line = Unfit(line.line, f"{size} bytes, the topic takes at most {max_bytes} (its max.message.bytes)")
        published.unfit += 1
        unfit(line)
    published.newest_ms = newest
    return records


def _paced(chunks: Iterable[Sequence[Record | Unfit]], rate: float | None) -> Iterator[Sequence[Record | Unfit]]:
    """The chunks, or slices of them at the time each is due. Time lost is caught up by a second at most."""
    if rate is None:
        yield from chunks
        return
    size = max(1, round(rate * SLICE_S))
    due = time.monotonic()
    for chunk in chunks:
        for start in range(0, len(chunk), size):
            part = chunk[start : start + size]
            now = time.monotonic()
            due = max(due, now - CATCH_UP_S)
            time.sleep(max(0.0, due - now))
            yield part
            due += len(part) / rate
