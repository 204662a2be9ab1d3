"""What the worker's own loop runs in place of Faust's consumer thread."""

import asyncio
from typing import cast

import pytest

from stream.consumer import Consumer
from stream.inline import collecting


class Pausing:
    """A consumer that lets events gather for as long as nobody cancels it."""

    def __init__(self, where: str) -> None:
        self._where = where
        self.reached = asyncio.Event()

    async def collect(self) -> None:
        """Take what has arrived."""
        await self._wait("collect")

    async def pause(self) -> None:
        """Let events gather."""
        await self._wait("pause")

    async def _wait(self, where: str) -> None:
        if where == self._where:
            self.reached.set()
            await asyncio.Event().wait()


@pytest.mark.parametrize("where", ["collect", "pause"])
def test_cancelled_request(where: str) -> None:
    """A request that the client cancels ends as the client's own do, without raising: else its close breaks off."""

    async def request() -> bool:
        return True

    async def close() -> bool:
        consumer = Pausing(where)
        task = asyncio.ensure_future(collecting(request, cast(Consumer, consumer))())
        await consumer.reached.wait()
        task.cancel()
        return await task

    assert False is asyncio.run(close())


@pytest.mark.parametrize("has_arrived", [False, True])
def test_answered_request(has_arrived: bool) -> None:
    """Without a cancel the request's own answer is handed on."""

    async def request() -> bool:
        return has_arrived

    async def ask() -> bool:
        return await collecting(request, cast(Consumer, Pausing("nowhere")))()

    assert has_arrived is asyncio.run(ask())
