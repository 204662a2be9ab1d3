"""aiokafka's closes come to their end, and what they are mended for is still there."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from types import MethodType, SimpleNamespace
from typing import cast

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer.fetcher import Fetcher

from stream import parting
from stream.parting import close_in_time, close_wholly

ENDS_S = 10.0


async def _unasked() -> None:
    """In place of the first request, whose answer never comes."""


async def deaf(server: socket.socket) -> AIOKafkaClient:
    """A client with one connection; more lies in it than a broker takes that reads nothing."""
    connection = AIOKafkaConnection(*server.getsockname(), request_timeout_ms=1000)
    connection._do_version_lookup = _unasked
    await connection.connect()
    connection._writer.write(bytes(50_000_000))
    client = AIOKafkaClient()
    client._conns["only"] = connection
    return client


@pytest.mark.parametrize("closed_before", [False, True])
def test_client(monkeypatch: pytest.MonkeyPatch, closed_before: bool) -> None:
    """A client that closes does not wait for a broker that takes nothing any more, also where it had given up on it."""
    monkeypatch.setattr(parting, "PARTING_S", 0.05)

    async def close() -> bool:
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = await deaf(server)
            close_in_time(client)
            connection = client._conns["only"]
            if closed_before:
                connection.close()
            await asyncio.wait_for(client.close(), ENDS_S)
            ended: bool = connection._closed_fut.done()
            return ended

    assert asyncio.run(close())


async def _raises() -> None:
    await asyncio.Event().wait()


async def _takes_the_first() -> None:
    """As the fetch routine does that waits for a task it has cancelled."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.Event().wait()


def closing(mend: bool, *tasks: Callable[[], Awaitable[None]]) -> int:
    """Close a fetcher with a fetch routine and pending requests, each with aiokafka's own code; those not done then."""

    async def close() -> int:
        routine, *pending = [asyncio.ensure_future(task()) for task in tasks]
        fetcher = SimpleNamespace(_fetch_task=routine, _pending_tasks=set(pending), _fetch_waiters=set(), _closed=False)
        fetcher.close = MethodType(Fetcher.close, fetcher)
        if mend:
            close_wholly(cast(Fetcher, fetcher))
        await asyncio.sleep(0)
        await asyncio.wait_for(fetcher.close(), ENDS_S)
        assert fetcher._closed
        return sum(not task.done() for task in (routine, *pending))

    return asyncio.run(close())


@pytest.mark.parametrize(
    "tasks", [(_raises,), (_raises, _raises), (_raises, _raises, _raises), (_takes_the_first, _raises)]
)
def test_fetcher(tasks: tuple[Callable[[], Awaitable[None]], ...]) -> None:
    """A fetcher that closes ends all of its tasks, those that raise when cancelled and those that let a cancel pass."""
    assert 0 == closing(True, *tasks)


def test_fetcher_needs_it() -> None:
    """aiokafka's own close breaks off at a request that raises; once it does not, ours can go."""
    with pytest.raises(asyncio.CancelledError):
        closing(False, _raises, _raises)
