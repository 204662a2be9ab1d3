"""Dead letters, sent once more to where they came from: each once, whatever happens in between.

1. A producer with a transactional id begins; one that began before it can no longer commit anything.
2. What was sent is read from a compacted topic of its own, and all letters, of which those to send are chosen.
3. They are read once more and sent in chunks, each chunk and the note that it was sent in one transaction.

So a crash leaves a chunk sent and noted, or neither.
"""

import asyncio
import logging
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced

from stream.access import Need, refusal
from stream.connect import admin, require
from stream.consume import read_all
from stream.deadletter import Headers, Letter, read_letter, replay_headers
from stream.errors import BrokerError, TopicError
from stream.publisher import CLOSE_S, DELIVERY_S, OVERHEAD_BYTES, partition_of
from stream.security import Cluster
from stream.settings import Settings
from stream.topics import TopicInfo, describe, make

log = logging.getLogger(__name__)

CHUNK_LETTERS = 1000
CHUNK_BYTES = 8 * 1024 * 1024
#: Below any limit that a topic may reasonably have.
BATCH_BYTES = 16 * 1024
#: Readers of committed records wait so long, at most, for a replay that died within a transaction.
TRANSACTION_S = 30

#: Partition and offset of a letter.
Place = tuple[int, int]
#: Letters by reason and topic.
Counts = Counter[tuple[str, str]]


@dataclass(frozen=True)
class Filter:
    """Which letters are wanted; None: any. The time is the letter's own, ms since the epoch, [since, until)."""

    reason: str | None = None
    topic: str | None = None  # where the record was refused
    since_ms: int | None = None
    until_ms: int | None = None

    def fits(self, letter: Letter, time_ms: int) -> bool:
        """Whether a letter is wanted."""
        return (
            self.reason in (None, letter.reason)
            and self.topic in (None, letter.topic)
            and (self.since_ms is None or time_ms >= self.since_ms)
            and (self.until_ms is None or time_ms < self.until_ms)
        )


class Found(NamedTuple):
    """A record on the dead-letter topic; `letter` is None if no worker wrote it."""

    place: Place
    time_ms: int
    letter: Letter | None


@dataclass
class Choice:
    """The letters to send, and how many of those that fit are left out, and why."""

    send: dict[Place, Letter] = field(default_factory=dict)  # the oldest first
    sent_before: int = 0
    refused_again: int = 0
    foreign: int = 0  # of all records, fit or not: without the source, nothing is known of them

    def counts(self) -> Counts:
        """How many to send of each reason to each topic."""
        return Counter((letter.reason, letter.topic) for letter in self.send.values())


def choose(
    found: Iterable[Found],
    sent: Mapping[bytes, int],
    wanted: Filter,
    *,
    again: bool = False,
    limit: int | None = None,
    own: Iterable[str] = (),
) -> Choice:
    """Choose what to send; of a record that was refused several times, or whose letter is there twice, one letter.

    Args:
        found: all records of the dead-letter topic.
        sent: attempts made so far, by identity.
        wanted: only these.
        again: also those that were sent before and refused again.
        limit: at most so many, the oldest.
        own: topics that hold no events: a letter that says it came from there was written by no worker.
    """
    newest: dict[bytes, tuple[Place, int, Letter]] = {}
    choice = Choice()
    no_events = set(own)
    for place, time_ms, letter in found:
        if letter is None or letter.topic in no_events:
            choice.foreign += 1
            continue
        before = newest.get(letter.identity)
        if before is None or before[2].attempt < letter.attempt:
            newest[letter.identity] = (place, time_ms, letter)
    chosen = []
    for place, time_ms, letter in newest.values():
        if not wanted.fits(letter, time_ms):
            continue
        if sent.get(letter.identity, 0) > letter.attempt:
            choice.sent_before += 1
        elif letter.attempt and not again:
            choice.refused_again += 1
        else:
            chosen.append((time_ms, place, letter))
    chosen.sort(key=lambda one: one[:2])
    choice.send = {place: letter for _, place, letter in chosen[:limit]}
    return choice


def memory_topic(settings: Settings) -> str:
    """The compacted topic that holds what was sent: key = identity, value = how many times."""
    return f"{settings.deadletter_topic}-replayed"


def transactional_id(settings: Settings) -> str:
    """Of the producer: of two replays, the one that began first can commit nothing more."""
    return f"{settings.deadletter_topic}-replay"


def plan(
    settings: Settings,
    wanted: Filter,
    *,
    again: bool = False,
    limit: int | None = None,
    report: Callable[[str], None] = lambda _done: None,
) -> tuple[Choice, dict[str, TopicInfo]]:
    """Read what was sent, and all letters, and choose. Sends nothing.

    Args:
        report: told how far it is.

    Returns:
        the choice, and the topics to send to, by name.

    Raises:
        TopicError: the dead-letter topic, or one that letters came from, does not exist.
        BrokerError: no broker answers, or it refuses.
    """
    broker, topic, memory = settings.cluster, settings.deadletter_topic, memory_topic(settings)
    there = describe(broker, [topic, memory], "Read")
    if topic not in there:
        raise TopicError(f"topic {topic} is missing on {broker}; name the dead letters' with --deadletter-topic")
    sent = _read_memory(broker, memory) if memory in there else {}

    def letters() -> Iterator[Found]:
        for number, record in enumerate(read_all(broker, topic), 1):
            place = record.partition, record.offset
            yield Found(place, record.timestamp, read_letter(record.key, record.value, record.headers))
            if number % CHUNK_LETTERS == 0:
                report(f"{number:,} dead letters read")

    own = (topic, memory, settings.update_topic, settings.changelog_topic)
    choice = choose(letters(), sent, wanted, again=again, limit=limit, own=own)
    counts = Counter(letter.topic for letter in choice.send.values())
    topics = describe(broker, counts, "Write") if counts else {}
    for name, count in counts.items():
        if name not in topics:
            raise TopicError(
                f"topic {name} is missing on {broker}, {count:,} of the letters came from it; make it, "
                "or send those of another with --topic"
            )
    return choice, topics


def _read_memory(broker: Cluster, memory: str) -> dict[bytes, int]:
    sent = {}
    for record in read_all(broker, memory):
        try:
            sent[record.key] = int(orjson.loads(record.value)["attempt"])
        except (ValueError, TypeError, KeyError) as error:
            where = f"{memory}/{record.partition} at offset {record.offset}"
            raise TopicError(f'{where}: expected {{"attempt": number}}, got {record.value!r}') from error
    return sent


def replay(
    settings: Settings,
    wanted: Filter,
    *,
    again: bool = False,
    limit: int | None = None,
    report: Callable[[str], None] = lambda _done: None,
    unfit: Callable[[str], None] = lambda _line: None,
) -> tuple[Choice, Counts]:
    """Send the letters that :func:`plan` chooses; ends once all in-sync replicas have them.

    Args:
        report: told how far it is.
        unfit: told each letter that its topic would not take, and why; it is not sent.

    Returns:
        the choice, and how much of it was sent.

    Raises:
        TopicError, BrokerError: as `plan`; or a chunk could not be sent: tells how many letters were sent before.
    """
    _make_memory(settings)
    counts: Counts = Counter()
    try:
        with _Sender(settings) as sender:
            choice, topics = plan(settings, wanted, again=again, limit=limit, report=report)
            for chunk in _chunks(settings, choice.send, topics, unfit):
                sender.send(chunk)
                counts.update((event.reason, event.topic) for event in chunk)
                report(f"{counts.total():,} of {len(choice.send):,} sent")
    except (ProducerFenced, InvalidProducerEpoch) as error:
        raise BrokerError(f"another replay has begun; this one ended after {counts.total():,} letters") from error
    except (KafkaError, TimeoutError) as error:
        why = f"no answer in {DELIVERY_S} s" if isinstance(error, TimeoutError) else error or type(error).__name__
        why = refusal(error, settings.cluster, Need("Write", "transactional-id", transactional_id(settings))) or why
        raise BrokerError(
            f"broker {settings.broker}: {counts.total():,} letters were sent, the next were not: {why}; run it again, "
            "it knows what was sent"
        ) from error
    return choice, counts


def _make_memory(settings: Settings) -> None:
    """Make the topic for what was sent, unless it is there; as durable as the dead letters."""
    topic, memory = settings.deadletter_topic, memory_topic(settings)
    cluster = settings.cluster
    there = describe(cluster, [topic], "Read") | describe(cluster, [memory], "Create", "Read", "Write")
    if topic in there and memory not in there:
        durable = {"min.insync.replicas": there[topic].configs["min.insync.replicas"]}
        with admin(cluster) as client:
            make(client, cluster, {memory: {"cleanup.policy": "compact"} | durable}, 1, there[topic].replication)


class _Event(NamedTuple):
    """A letter as it is sent."""

    reason: str
    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    identity: bytes
    attempt: int


def _chunks(
    settings: Settings, send: Mapping[Place, Letter], topics: Mapping[str, TopicInfo], unfit: Callable[[str], None]
) -> Iterator[list[_Event]]:
    """The letters to send, each partition's in order, so many at a time as one transaction holds."""
    chunk: list[_Event] = []
    size = 0
    partitions = {partition for partition, _ in send}
    for record in read_all(settings.cluster, settings.deadletter_topic, partitions) if send else ():
        letter = send.get((record.partition, record.offset))
        if letter is None:
            continue
        event = _event(record, letter, topics[letter.topic])
        limit = int(topics[letter.topic].configs["max.message.bytes"])
        if not _fits(event, limit):
            source = letter.identity.decode().partition(" ")[0]
            unfit(f"{source}: larger than the {limit} bytes that {letter.topic} takes, not sent")
            continue
        chunk.append(event)
        size += len(event.value or b"")
        if len(chunk) == CHUNK_LETTERS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _event(record: Any, letter: Letter, topic: TopicInfo) -> _Event:
    """What is sent: key and value as they are, on the partition of the key, as `interest publish` has it."""
    partition = (
        letter.partition % topic.partitions if record.key is None else partition_of(record.key, topic.partitions)
    )
    attempt = letter.attempt + 1
    headers = replay_headers(record.headers, letter.identity, attempt)
    return _Event(letter.reason, letter.topic, partition, record.key, record.value, headers, letter.identity, attempt)


def _fits(event: _Event, limit: int) -> bool:
    """Whether a record batch of this event alone, compressed, is within the topic's limit."""
    parts = [event.key or b"", event.value or b""]
    for name, value in event.headers:
        parts += [name.encode(), value or b""]
    data = b"".join(parts)
    overhead = OVERHEAD_BYTES + 10 * len(event.headers)
    return len(data) + overhead <= limit or len(zlib.compress(data)) + overhead <= limit


class _Sender:
    """Sends chunks, each in a transaction. Once it has begun, no sender that began earlier can commit any more."""

    def __init__(self, settings: Settings) -> None:
        self._memory = memory_topic(settings)
        self._cluster = settings.cluster
        self._servers = require(self._cluster)
        self._id = transactional_id(settings)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        try:
            self._runner.run(self._begin())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._runner.run(self._close())
        self._runner.close()

    def send(self, chunk: list[_Event]) -> None:
        """Send events and the note that they were sent, all or nothing.

        Raises:
            KafkaError, TimeoutError: nothing was sent; unless the last word, to commit, was not answered.
        """
        self._runner.run(self._transact(chunk))

    async def _begin(self) -> None:
        # aiokafka gives a failure to several futures, some of which nobody can await; asyncio would print each.
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: log.debug("%s", context))
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._servers,
            **self._cluster.security.aiokafka(),
            transactional_id=self._id,
            transaction_timeout_ms=TRANSACTION_S * 1000,
            max_batch_size=BATCH_BYTES,
            compression_type="gzip",  # what only came through a topic's size limit so gets through once more
        )
        async with asyncio.timeout(DELIVERY_S):
            await self._producer.start()  # asks for an epoch, which ends what an earlier one has begun

    async def _transact(self, chunk: list[_Event]) -> None:
        # To abort must not take for ever either: a broker that is gone does it by itself after TRANSACTION_S.
        async with asyncio.timeout(DELIVERY_S + CLOSE_S), self._producer.transaction():
            async with asyncio.timeout(DELIVERY_S):
                await self._hand_over(chunk)

    async def _hand_over(self, chunk: list[_Event]) -> None:
        records: dict[tuple[str, int], list[tuple[bytes | None, bytes | None, Headers]]] = {}
        for event in chunk:
            records.setdefault((event.topic, event.partition), []).append((event.key, event.value, event.headers))
        records[self._memory, 0] = [(event.identity, orjson.dumps({"attempt": event.attempt}), []) for event in chunk]
        acknowledged = []
        for (topic, partition), some in records.items():
            batch = self._producer.create_batch()
            for key, value, headers in some:
                # A full batch takes no more, an empty one any record.
                if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                    acknowledged.append(await self._producer.send_batch(batch, topic, partition=partition))
                    batch = self._producer.create_batch()
                    batch.append(timestamp=None, key=key, value=value, headers=headers)
            acknowledged.append(await self._producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*acknowledged)

    async def _close(self) -> None:
        """Stop the producer; a broker that is gone keeps it no longer than 5 s."""
        try:
            await asyncio.wait_for(self._producer.stop(), CLOSE_S)
        except TimeoutError:
            await self._producer.client.close()
