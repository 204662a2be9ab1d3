"""Changelog records that were handed over stay until they are applied, or partitions are revoked."""

import asyncio
from typing import Any, cast

from stream.worker import App


def test_resumed_again() -> None:
    """Recovery resumes the flow again while standby partitions are read: what is in the queue stays (P2, P4; R12)."""

    async def test() -> None:
        app = App("app", broker="batchkafka://127.0.0.1:9", autodiscover=False)
        queue: Any = cast(Any, app.tables).changelog_queue
        app.flow_control.resume()
        await queue.put("records")
        app.flow_control.resume()

        assert 1 == queue.qsize()
        assert app.flow_control.is_active()

    asyncio.run(test())


def test_cleared_when_revoked() -> None:
    """What was handed over before a rebalance is none of the next assignment's; what is suspended waits (R23)."""

    async def test() -> None:
        app = App("app", broker="batchkafka://127.0.0.1:9", autodiscover=False)
        queue: Any = cast(Any, app.tables).changelog_queue
        app.flow_control.resume()
        await queue.put("records")
        app.flow_control.suspend()
        app.flow_control.clear()
        putting = asyncio.ensure_future(queue.put("later"))
        await asyncio.sleep(0)

        assert 0 == queue.qsize()
        app.flow_control.resume()
        await putting
        assert 1 == queue.qsize()

    asyncio.run(test())
