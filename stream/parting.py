"""aiokafka's closes, made to come to their end: a worker that never does is killed, and has not left its group."""

import asyncio

from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher

#: How long a connection may take to end, in seconds. The answer to a goodbye takes milliseconds.
PARTING_S = 1.0
#: After this long without effect, a task is cancelled once more.
AGAIN_S = 0.1


def close_in_time(client: AIOKafkaClient) -> None:
    """Have a client that closes break off, after PARTING_S, the connections that have not ended by then.

    aiokafka waits for each. Over TLS one ends with the broker's answer to our goodbye, and where a request of ours lies
    before it (for metadata, say, which nobody waits for any more) Kafka never gives it; without TLS, a broker that is
    cut off takes nothing any more. asyncio gives up after 30 s, which is longer than a worker has.
    """
    close = client.close

    async def closing() -> None:
        later = asyncio.get_running_loop().call_later(PARTING_S, _break_off, client)
        try:
            await close()
        finally:
            later.cancel()

    client.close = closing


def _break_off(client: AIOKafkaClient) -> None:
    for connection in client._conns.values():
        transport = connection._protocol._transport  # a connection that closes has forgotten its writer
        if transport is not None:
            transport.abort()


def close_wholly(fetcher: Fetcher) -> None:
    """Have a fetcher that closes wait for all of its tasks, whatever becomes of them.

    aiokafka cancels them and awaits each: it breaks off at the first that raises CancelledError, as one does that
    waits after a request has failed, and the client would never be closed. One that waits for another task to be
    cancelled takes our cancel for that task's, and goes on.
    """
    close = fetcher.close

    async def closing() -> None:
        while tasks := [task for task in (fetcher._fetch_task, *fetcher._pending_tasks) if not task.done()]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=AGAIN_S)
        fetcher._pending_tasks.clear()
        await close()

    fetcher.close = closing
