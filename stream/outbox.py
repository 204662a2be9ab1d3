"""What a worker publishes: table values to the changelog, updates, dead letters; all acknowledged before it goes on."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stream.batch import PartitionResult
from stream.producer import NO_HEADERS, Entry, Producer, Sent
from stream.settings import Settings
from stream.table import SequenceTable

#: Metadata and number of records of each record batch, in order.
Acknowledged = list[tuple[Any, int]]
Changes = Iterable[tuple[bytes, bytes | None]]


@dataclass(frozen=True, slots=True)
class Sending:
    """What was handed over and may be under way: record batches by partition."""

    changelog: dict[int, list[Sent]] = field(default_factory=dict)
    updates: dict[int, list[Sent]] = field(default_factory=dict)
    letters: list[Sent] = field(default_factory=list)
    beside: list[Sent] = field(default_factory=list)  # the second model's updates

    @property
    def futures(self) -> "list[asyncio.Future[Any]]":
        """One for each record batch."""
        return [
            future
            for some in (*self.changelog.values(), *self.updates.values(), self.letters, self.beside)
            for future, _ in some
        ]


class Outbox:
    """Sends whole record batches and waits for all in-sync replicas.

    It also watches for another writer of the updates. From `begin` on, all records of a partition should be ours; where
    others lie between, a worker that lost the partition without knowing has written, and the last record of a user
    may not be the newest.
    """

    def __init__(self, settings: Settings, table: SequenceTable, producer: Callable[[], Producer]) -> None:
        self._settings = settings
        self._table = table
        self._producer = producer
        self._letter_partitions = 0
        self._next: dict[int, int] = {}  # partition of the updates -> offset of the next record, if it is ours
        #: Offsets of another's records on the updates, [first, end) by partition.
        self.foreign: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)

    def begin(self, ends: Mapping[int, int]) -> None:
        """From now on the worker owns these partitions only; `ends`: the next offset of each on the updates."""
        self._next = dict(ends)
        self.foreign.clear()

    async def send(self, results: Mapping[int, PartitionResult], beside: Mapping[int, Changes]) -> "Sending":
        """Hand over what a batch, or a part of it, calls for; to be waited for with :meth:`acknowledged`.

        Args:
            results: by partition.
            beside: the second model's updates, by partition.
        """
        now_ms = _now_ms()
        sending = Sending()
        for partition, result in results.items():
            sending.changelog[partition] = await self._table.publish(partition, result.values, now_ms)
            sending.updates[partition] = await self._send_updates(partition, result.updates, now_ms)
            if result.letters:
                sending.letters.extend(await self._send_letters(partition, result.letters, now_ms))
        for partition, updates in beside.items():
            sending.beside.extend(await self._send_updates(partition, updates, now_ms, self._settings.shadow_topic))
        return sending

    async def acknowledged(self, sendings: Sequence["Sending"]) -> dict[int, Acknowledged]:
        """Wait for all of it, in the order it was handed over; the acknowledgements of the changelog, by partition."""
        await asyncio.gather(*(future for sending in sendings for future in sending.futures))
        acknowledged: dict[int, Acknowledged] = {}
        for sending in sendings:
            for partition, sent in sending.updates.items():
                self._note(partition, sent)
            for partition, sent in sending.changelog.items():
                acknowledged.setdefault(partition, []).extend(_acknowledged(sent))
        return acknowledged

    async def publish_values(self, partition: int, values: Changes) -> Acknowledged:
        """Publish table values of one partition."""
        sent = await self._table.publish(partition, values, _now_ms())
        await asyncio.gather(*(future for future, _ in sent))
        return _acknowledged(sent)

    async def publish_updates(self, partition: int, updates: Changes) -> None:
        """Publish updates of one partition."""
        sent = await self._send_updates(partition, updates, _now_ms())
        await asyncio.gather(*(future for future, _ in sent))
        self._note(partition, sent)

    async def publish_beside(self, partition: int, updates: Changes) -> None:
        """Publish updates of the second model, of one partition."""
        sent = await self._send_updates(partition, updates, _now_ms(), self._settings.shadow_topic)
        await asyncio.gather(*(future for future, _ in sent))

    async def _send_updates(
        self, partition: int, updates: Changes, now_ms: int, topic: str | None = None
    ) -> list[Sent]:
        entries: Iterable[Entry] = ((key, value, NO_HEADERS) for key, value in updates)
        return await self._producer().send_batches(topic or self._settings.update_topic, partition, entries, now_ms)

    async def _send_letters(self, partition: int, letters: Iterable[Entry], now_ms: int) -> list[Sent]:
        producer, topic = self._producer(), self._settings.deadletter_topic
        if not self._letter_partitions:
            self._letter_partitions = len(await producer._ensure_producer().partitions_for(topic))
        return await producer.send_batches(topic, partition % self._letter_partitions, letters, now_ms, "gzip")

    def meet(self, partition: int, end: int) -> None:
        """The updates end there while nothing of ours is on its way: what lies behind our last is another's."""
        expected = self._next.get(partition, end)
        if end > expected:
            self.foreign[partition].append((expected, end))
        self._next[partition] = max(end, expected)

    def _note(self, partition: int, sent: Iterable[Sent]) -> None:
        """Compare where updates were written with where the last ones ended."""
        for future, count in sent:
            offset = future.result().offset
            if offset < 0:
                continue  # sent twice, and the broker has forgotten where the first went: taken for another's
            self.meet(partition, offset)
            self._next[partition] = offset + count


def _acknowledged(sent: Iterable[Sent]) -> Acknowledged:
    return [(future.result(), count) for future, count in sent]


def _now_ms() -> int:
    return int(time.time() * 1000)
