"""What the worker's own loop runs in place of Faust's consumer thread."""

import asyncio
from typing import cast

import pytest

from stream.consumer import Consumer
from stream.inline import collecting


class Collecting:
    """A consumer that notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def collect(self) -> None:
        """Take what has arrived."""
        self.asked.append("collect")

    async def pause(self) -> None:
        """Let events gather."""
        self.asked.append("pause")


@pytest.mark.parametrize(("has_arrived", "asked"), [(False, []), (True, ["collect", "pause"])])
def test_answered_request(has_arrived: bool, asked: list[str]) -> None:
    """The request's own answer is handed on, and where something has arrived it is collected before."""
    consumer = Collecting()

    async def request() -> bool:
        return has_arrived

    async def ask() -> bool:
        return await collecting(request, cast(Consumer, consumer))()

    assert has_arrived is asyncio.run(ask())
    assert asked == consumer.asked
