"""One life of a worker: its own agent, table, outbox and upkeep between fakes that count every step and may end it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from types import SimpleNamespace
from typing import Any, NoReturn, cast
from unittest.mock import patch

import faust
from faust.types import TP

from stream.agent import BatchAgent
from stream.consumer import Fetched, NotOwnerError
from stream.encode import Encoder
from stream.followed import changelog_message
from stream.inhand import InHand
from stream.metrics import Totals
from stream.producer import Codec, Entry, Sent
from stream.settings import TABLE, Settings
from stream.store import MemoryStore
from stream.table import SequenceTable
from stream.upkeep import LOOK_EVERY
from stream.worker import STORES
from tests.crash.world import APP, CHANGELOG, EVENTS, PARTITIONS, Disk, World

#: Slices of upkeep when all events are done: enough to see what another writer left meanwhile.
LAST_TENDS = LOOK_EVERY + 1
#: Users of one part of a batch: some batches have several.
PART_USERS = 2
#: Turns of the loop until a record is delivered: some batches are ready to be sent before the one before is.
TURNS = (0, 40, 5)


async def nothing() -> None:
    """Wait for nothing."""


class Crash(BaseException):
    """kill -9: nothing of the worker's code may catch it."""


class Finished(BaseException):
    """The life is over since its work is done."""


class Ended(BaseException):
    """The worker has ended itself."""


def end(_code: int, message: str, *arguments: object) -> NoReturn:
    """In the place of stream.ending.end."""
    raise Ended(message % arguments)


class Steps:
    """Every await of the worker passes here, under a name; at one of them something happens."""

    #: Steps between awaits: only a crash can happen there.
    BETWEEN = frozenset({"encode", "encoded", "write", "written", "done"})

    def __init__(self, happen: Callable[[str], Awaitable[None]] | None = None, at: int | None = None) -> None:
        self.names: list[str] = []
        self.dead = False
        self._at = at
        self._happen = happen
        self._frozen: asyncio.Event | None = None

    async def __call__(self, name: str) -> None:
        await asyncio.sleep(0)
        await self._pass(name)

    async def _pass(self, name: str) -> None:
        if self._frozen is not None:
            await self._frozen.wait()
        if self.dead:
            raise Crash
        self.names.append(name)
        if self._at == len(self.names) - 1:
            if self._happen is None:
                self.crash()
            self._frozen = asyncio.Event()
            await self._happen(name)
            self._frozen.set()
            self._frozen = None

    def sync(self, name: str) -> None:
        """A step between awaits."""
        if self.dead:
            raise Crash
        self.names.append(name)
        if self._at == len(self.names) - 1 and self._happen is None:
            self.crash()

    def crash(self) -> NoReturn:
        """From here on nothing happens any more."""
        self.dead = True
        raise Crash


class FakeProducer:
    """Writes to the world, batch by batch of each partition in order; every acknowledgement is a step of its own."""

    def __init__(self, world: World, steps: Steps, batch_records: int) -> None:
        self._world = world
        self._steps = steps
        self._batch_records = batch_records
        self._last: dict[tuple[str, int], asyncio.Future[Any]] = {}

    def _ensure_producer(self) -> "FakeProducer":
        return self

    async def partitions_for(self, topic: str) -> set[int]:
        """Those of any topic."""
        await self._steps(f"partitions of {topic}")
        return set(range(PARTITIONS))

    async def send_batches(
        self, topic: str, partition: int, entries: Iterable[Entry], _timestamp_ms: int, codec: Codec = "none"
    ) -> list[Sent]:
        """As the producer: record batches, each of which is written whole or not at all."""
        await self._steps(f"send to {topic}")
        del codec
        sent: list[Sent] = []
        rest = iter(entries)
        while batch := list(islice(rest, self._batch_records)):
            before = self._last.get((topic, partition))
            future = asyncio.ensure_future(self._deliver(topic, partition, batch, before))
            future.add_done_callback(lambda done: done.cancelled() or done.exception())  # who waits for it may be dead
            self._last[topic, partition] = future
            sent.append((future, len(batch)))
        return sent

    async def _deliver(
        self, topic: str, partition: int, batch: list[Entry], before: "asyncio.Future[Any] | None"
    ) -> Any:
        if before is not None:
            await asyncio.wait([before])
        for _ in range(TURNS[len(self._world.logs[topic, partition]) % len(TURNS)]):
            await asyncio.sleep(0)
        await self._steps(f"deliver to {topic}")
        offset = self._world.append(topic, partition, batch)
        await self._steps(f"acknowledge {topic}")
        return SimpleNamespace(offset=offset)


class FakeConsumer:
    """Hands out the world's events, as many at a time as `sizes` say, and commits before a batch where `commits` do."""

    def __init__(
        self, life: "Life", sizes: Iterator[int], commits: Iterator[bool], takes_ahead: Iterator[bool]
    ) -> None:
        self._life = life
        self._sizes = sizes
        self._commits = commits
        self._takes_ahead = takes_ahead
        self.in_hand = InHand()
        self.app = SimpleNamespace(consumer_generation_id=0)
        self.positions: dict[TP, int] = {}
        self._taken: dict[TP, int] = {}  # where the next fetch begins
        self.offsets_gone = 0
        self.ahead = 0  # batches that were begun while another was on its way

    @property
    def owns(self) -> bool:
        """Whether the group has not moved on."""
        return self.is_settled()

    def is_settled(self) -> bool:
        """As `owns`."""
        return bool(self._life.world.generation == self.app.consumer_generation_id)

    async def join(self) -> None:
        """Partitions are assigned: a generation more, positions as committed, the table recovered."""
        world = self._life.world
        world.generation += 1
        self.app.consumer_generation_id = world.generation
        await self._life.recover()
        self.positions = {TP(EVENTS, partition): offset for partition, offset in world.committed.items()}
        self._taken = dict(self.positions)

    async def take(self, _at_least: int, before: "asyncio.Future[Any] | None" = None) -> list[Fetched]:
        """The next events of both partitions, or none while a batch is in hand."""
        life, steps = self._life, self._life.steps
        if before is not None:
            await steps("look for more")
            is_wanted = next(self._takes_ahead) and self.is_settled() and not before.done()
            fetched = self._fetch() if is_wanted else []
            self.ahead += bool(fetched)
            return fetched
        if not self.is_settled():
            if not life.comes_back:
                raise Finished
            await self.join()
        await life.agent.tend_once()
        if next(self._commits):
            await self.commit()
        await life.before_batch()
        fetched = self._fetch()
        await steps("fetch")
        if not fetched:
            for _ in range(LAST_TENDS):
                await life.agent.tend_once()
            await self.commit()
            if life.comes_back and not self.is_settled():
                return await self.take(_at_least)
            raise Finished
        return fetched

    def _fetch(self) -> list[Fetched]:
        fetched = []
        for tp, start in self._taken.items():
            records = self._life.world.logs[EVENTS, tp.partition][start:][: next(self._sizes)]
            if records:
                end = self._taken[tp] = start + len(records)
                fetched.append(Fetched(tp, cast(Any, records), start, end, self.app.consumer_generation_id))
        return fetched

    async def commit(self) -> None:
        """Commit what is done, if the group still knows this member."""
        await self._life.steps("commit")
        if self.is_settled():
            self._life.world.committed |= {tp.partition: offset for tp, offset in self.positions.items()}
        await self._life.steps("committed")

    async def check_owner(self, generation: int) -> None:
        """As the consumer; a commit may come at any time, so some come here."""
        if next(self._commits):
            await self.commit()
        await self._life.steps("check the owner")
        if not self.is_settled() or generation != self.app.consumer_generation_id:
            raise NotOwnerError("the group has moved on")

    def done(self, batch: Iterable[Fetched]) -> None:
        """As the consumer."""
        self._life.steps.sync("done")
        self.positions |= {fetched.tp: fetched.end for fetched in batch}

    async def ends(self, tps: Sequence[TP]) -> dict[TP, int]:
        """Where the world's logs end."""
        await self._life.steps("ask for ends")
        return {tp: len(self._life.world.logs[tp.topic, tp.partition]) for tp in tps}


class Life:
    """A worker from its start to its end, by a crash or since there are no more events.

    Args:
        world: the broker's.
        disk: what an earlier life has left of its local state, and where this leaves its own.
        encoder: the model, of this life alone.
        settings: of the worker.
        steps: where every await passes.
        sizes: events of each partition in each batch.
        commits: whether there is a commit before each batch.
        takes_ahead: whether the next batch is begun while one is on its way.
        batch_records: of a record batch, at most; with 1 any record may be the last.
        comes_back: whether it joins again when the group has gone on without it.
        before_batch: awaited before each batch.
    """

    def __init__(
        self,
        world: World,
        disk: Disk,
        encoder: Encoder,
        settings: Settings,
        steps: Steps,
        sizes: Iterator[int],
        commits: Iterator[bool],
        takes_ahead: Iterator[bool],
        *,
        batch_records: int = 1,
        comes_back: bool = True,
        before_batch: Callable[[], Awaitable[None]] = nothing,
    ) -> None:
        self.world = world
        self.steps = steps
        self.comes_back = comes_back
        self.before_batch = before_batch
        self.ended = ""
        app = faust.App(
            APP,
            broker="batchkafka://127.0.0.1:9",
            store=STORES["memory"],
            autodiscover=False,
            topic_disable_leader=True,
            Table=SequenceTable,
        )
        self._recovery = SimpleNamespace(active_offsets={})
        app.tables = cast(Any, SimpleNamespace(recovery=self._recovery, add=lambda table: table))
        producer = FakeProducer(world, steps, batch_records)
        app.producer = cast(Any, producer)
        self.table = SequenceTable(app, name=TABLE, partitions=PARTITIONS)
        self._disk = disk
        self._store = cast(MemoryStore, self.table.store)
        disk.load(self._store)
        self.consumer = FakeConsumer(self, sizes, commits, takes_ahead)
        self.agent = BatchAgent(
            settings,
            {EVENTS: 1},
            encoder,
            self.table,
            Totals(),
            consumer=lambda: cast(Any, self.consumer),
            producer=lambda: cast(Any, producer),
        )

    async def recover(self) -> None:
        """Read the changelog from where the local state is, as Faust's recovery does."""
        await self.steps("recover")
        tps = {TP(CHANGELOG, partition) for partition in range(PARTITIONS)}
        for tp in tps:
            have = self.table.persisted_offset(tp)
            records = self.world.logs[CHANGELOG, tp.partition][0 if have is None else have + 1 :]
            self._recovery.active_offsets[tp] = -1 if have is None else have
            if records:
                message = changelog_message(tp, records[0].offset, cast(Any, records), records[-1].offset + 1, 1)
                self.table.apply_changelog_batch([SimpleNamespace(message=message)])
                self._recovery.active_offsets[tp] = records[-1].offset
        await self.table.on_recovery_completed(tps, set())

    def run(self) -> None:
        """Live."""
        asyncio.run(self.live())

    async def live(self) -> None:
        """Live, in a loop that runs already."""
        with self._watched():
            try:
                await self.consumer.join()
                await self.agent.run()
            except Crash:
                self.ended = "crash"
            except Finished:
                self.ended = "finished"
            except Ended as error:
                self.ended = str(error)
        self.steps.dead = True
        self.agent._thread.shutdown()
        self._disk.save(self._store)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Every step that is no await of a fake: the model, the write of the table."""
        write, call = self.table.write, self.agent._encoder.encode

        def stepping_write(*arguments: Any) -> Any:
            self.steps.sync("write")
            found = write(*arguments)
            self.steps.sync("written")
            return found

        def stepping_encode(*arguments: Any) -> Any:
            self.steps.sync("encode")
            encoded = call(*arguments)
            self.steps.sync("encoded")
            return encoded

        async def read(topic: str, partition: int, ranges: Iterable[tuple[int, int]]) -> dict[bytes, bytes | None]:
            await self.steps("read what others wrote")
            log = self.world.logs[topic, partition]
            return {record.key: record.value for first, end in ranges for record in log[first:end] if record.key}

        async def run_model(call: Callable[[], Any]) -> Any:
            """In the loop: on a thread, beside what is published, steps would have no order."""
            await self.steps("run the model")
            return call()

        with (
            patch("stream.agent.PART_USERS", PART_USERS),
            patch.object(self.agent, "_run_model", run_model),
            patch.object(self.table, "write", stepping_write),
            patch.object(self.agent._encoder, "encode", stepping_encode),
            patch.object(self.agent._upkeep, "_read", read),
        ):
            yield
