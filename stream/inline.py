"""Faust's consumer thread as a task of the worker's own loop."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import aiokafka
from aiokafka.errors import IllegalStateError, KafkaError
from faust.transport.consumer import ConsumerThread
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.utils.futures import maybe_async

from stream.bare import BareResults
from stream.ending import EXIT_RECOVERY, end
from stream.parting import close_in_time, close_wholly

if TYPE_CHECKING:
    from stream.consumer import Consumer
    from stream.worker import App

# The broker answers a fetch when there is a byte, or after this; Faust's own 1.5 s would delay what follows a seek.
FETCH_MAX_WAIT_MS = 100


class InlineWorker:
    """Stands in for mode's thread: the service runs as a task of the worker's loop."""

    def __init__(self, service: ConsumerThread) -> None:
        self._service = service
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = self._service.parent_loop.create_task(self._service._serve())

    def stop(self) -> None:
        """The service has stopped by itself when this is called."""


class InlineConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread without a thread: the hop cost more time than all else at low rates."""

    consumer: "Consumer"

    async def call_thread(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await maybe_async(fun(*args, **kwargs))

    async def _gather_remaining_tasks(self) -> None:
        """Faust's would cancel every task of the loop, which is the worker's here."""

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS
        consumer._isolation_level = "read_committed"  # Faust asks for it in transactions only
        consumer.commit = telling(consumer.commit, cast("App", transport.app))
        return consumer

    async def on_start(self) -> None:
        await super().on_start()
        close_in_time(self._ensure_consumer()._client)
        fetcher = self._ensure_consumer()._fetcher
        close_wholly(fetcher)
        fetcher._records = BareResults()  # nothing is fetched before there are partitions
        fetcher._proc_fetch_request = collecting(fetcher._proc_fetch_request, self.consumer)
        coordinator = self._ensure_consumer()._coordinator
        heartbeat = coordinator._do_heartbeat

        async def renewing_heartbeat() -> bool:
            sent = time.monotonic()
            answered: bool = await heartbeat()
            if answered:
                self.consumer.lease.renew(sent)
            return answered

        coordinator._do_heartbeat = renewing_heartbeat
        push = coordinator._push_error_to_user

        def telling_push(error: Exception) -> Awaitable[None]:
            cast("App", self.consumer.app).end_if_refused(error)
            waiting: Awaitable[None] = push(error)
            return waiting

        coordinator._push_error_to_user = telling_push

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """The ends of the changelog, for recovery. Without an answer the process ends: none is not empty."""
        with _answered("ends", partitions):
            return await super().highwaters(*partitions)

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """The offsets where logs begin; see `highwaters`."""
        with _answered("begins", partitions):
            begins = await super().earliest_offsets(*partitions)
        self.consumer.begins.update(begins)
        return begins

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await self.consumer.on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        await self.consumer.on_partitions_assigned(assigned, generation_id)


def collecting(request: Callable[..., Awaitable[bool]], consumer: "Consumer") -> Callable[..., Awaitable[bool]]:
    """A fetch request, after whose answer events are collected and may gather; True: something has arrived."""

    async def collected(*arguments: Any) -> bool:
        has_arrived = await request(*arguments)
        if has_arrived:
            await consumer.collect()
            await consumer.pause()
        return has_arrived

    return collected


def telling(commit: Callable[..., Awaitable[None]], app: "App") -> Callable[..., Awaitable[None]]:
    """A commit that ends the process where the user may not; Faust would crash with pages of traces."""

    async def told(*arguments: Any) -> None:
        try:
            await commit(*arguments)
        except KafkaError as error:
            app.end_if_refused(error)
            raise

    return told


@contextmanager
def _answered(what: str, partitions: Sequence[TP]) -> Iterator[None]:
    try:
        yield
    except IllegalStateError:
        raise  # another rebalance, which Faust begins anew with
    except KafkaError as error:
        end(
            EXIT_RECOVERY,
            "recovery failed: the broker does not say where %s %s: %s; start the worker again",
            ", ".join(f"{tp.topic}/{tp.partition}" for tp in sorted(partitions)),
            what,
            error,
        )
