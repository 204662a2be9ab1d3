"""Users to be forgotten: an erase record of each to every partition of the event topics.

Every partition, since some producers may have put a user's events where another partitioner would not.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence

import orjson

from stream.contract import ID_MAX_CHARS
from stream.errors import BrokerError, TopicError
from stream.eventfile import Record, Unfit
from stream.publisher import Publisher
from stream.security import Cluster
from stream.topics import CREATE, TopicInfo, describe

CHUNK_USERS = 1000
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def parse_user(number: int, line: bytes) -> Record | Unfit:
    """The erase record of the user whose id the line is, white space at its ends included."""
    line = line.rstrip(b"\r").removeprefix(BYTE_ORDER_MARK if number == 1 else b"")
    try:
        user_id = line.decode()
    except UnicodeDecodeError as error:
        return Unfit(number, f"expected a user id in UTF-8: {error}")
    if not 1 <= len(user_id) <= ID_MAX_CHARS:
        return Unfit(number, f"expected a user id of 1 to {ID_MAX_CHARS} characters, got {len(user_id)}")
    if "\0" in user_id:
        return Unfit(number, "expected a user id without NUL")
    return Record(number, line, orjson.dumps({"type": "erase", "user_id": user_id}), None)


def unique(records: Iterable[Record]) -> list[Record]:
    """The first record of each user, in order."""
    first: dict[bytes, Record] = {}
    for record in records:
        first.setdefault(record.key, record)
    return list(first.values())


def erase(
    records: Sequence[Record],
    broker: Cluster,
    topics: Sequence[str],
    report: Callable[[int], None] = lambda _sent: None,
) -> dict[str, TopicInfo]:
    """Send each record to every partition of each topic, and wait until all in-sync replicas have all of them.

    Args:
        records: erase records, one a user.
        report: told how many are acknowledged, of all topics and partitions.

    Returns:
        the topics, by name.

    Raises:
        TopicError: a topic does not exist; nothing was sent.
        BrokerError: no broker answers, or something was not acknowledged; tells how much.
    """
    there = describe(broker, topics, "Write")
    missing = [name for name in topics if name not in there]
    if missing:
        raise TopicError(f"missing on {broker}: {', '.join(missing)}; name event topics, or make them with {CREATE}")
    sent = 0
    for topic in there.values():
        for acknowledged in _send(records, broker, topic):
            report(sent + acknowledged)
        sent += len(records) * topic.partitions
    return there


def _send(records: Sequence[Record], broker: Cluster, topic: TopicInfo) -> Iterator[int]:
    """Send to one topic; how many were acknowledged, again and again."""
    publisher = Publisher(broker, topic)

    async def send(some: Sequence[Record]) -> None:
        await publisher.send_everywhere(some)
        await publisher.flush()

    with asyncio.Runner() as runner:
        runner.run(publisher.__aenter__())
        try:
            for start in range(0, len(records), CHUNK_USERS):
                runner.run(send(records[start : start + CHUNK_USERS]))
                yield publisher.acknowledged
        except BrokerError as error:
            raise BrokerError(f"{error}; run it again, to erase a user twice does no harm") from error
        finally:
            runner.run(publisher.__aexit__())
