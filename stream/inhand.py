"""The lock over what is in hand, which tells its holder whether somebody waits."""

import asyncio


class InHand:
    """Held from the first of some batches to the last; who needs none in hand (upkeep, a rebalance) waits for it."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._waiting = 0
        self._released = asyncio.Event()

    @property
    def held(self) -> bool:
        """Whether something is in hand."""
        return self._lock.locked()

    @property
    def wanted(self) -> bool:
        """Whether somebody waits: the holder then begins nothing more."""
        return self._waiting > 0

    async def __aenter__(self) -> None:
        self._waiting += 1
        try:
            await self._lock.acquire()
        finally:
            self._waiting -= 1

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()
        self._released.set()

    async def released(self, timeout_s: float) -> None:
        """Wait until it is let go, now or next, but no longer than the timeout."""
        self._released.clear()
        waiting = asyncio.ensure_future(self._released.wait())
        try:
            await asyncio.wait([waiting], timeout=timeout_s)
        finally:
            waiting.cancel()
