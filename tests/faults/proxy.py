"""A TCP proxy between clients and the broker that cuts, refuses, holds back and slows down what passes."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

HOST = "127.0.0.1"
CHUNK = 65_536
#: Requests that only a producer sends: Produce and InitProducerId, by Kafka's numbers.
PRODUCING = {0, 22}

#: What is held back: both ways; what the broker answers; what it answers to producers, so that heartbeats go on.
Held = Literal["all", "answers", "acknowledgements"]
T = TypeVar("T")


class Proxy:
    """Forwards `port` on 127.0.0.1 to `to_port` there, for as long as a `with` block, in a thread of its own.

    Its methods may be called from any thread and return when what they say is so.
    """

    def __init__(self) -> None:
        self.port = 0
        self.to_port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="proxy")
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._held: Held | None = None
        self._released = asyncio.Event()
        self._bytes_s: float | None = None
        self._delay_s = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        self._released.set()
        self._call(self._listen())
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> int:
        """End all connections at once, as a reset; how many there were. New ones are taken."""
        return self._call(self._cut())

    def refuse(self) -> None:
        """End all connections and take no new ones, until `accept`."""
        self._call(self._refuse())

    def accept(self) -> None:
        """Take new connections again."""
        self._call(self._listen())

    def hold(self, what: Held = "all") -> None:
        """Take connections but pass no bytes of the kind, until `release`."""
        self._call(self._hold(what))

    def release(self) -> None:
        """Pass what was held back, and go on."""
        self._call(self._hold(None))

    def slow(self, bytes_s: float | None = None, delay_s: float = 0.0) -> None:
        """Pass at most so many bytes a second, each way of each connection, each piece so late; nothing: full speed."""
        self._call(self._slow(bytes_s, delay_s))

    def mend(self) -> None:
        """Pass all, at full speed."""
        self.slow()
        self.release()
        self.accept()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        done: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return done.result(30)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, HOST, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut()

    async def _cut(self) -> int:
        connections = list(self._connections)
        for connection in connections:
            connection.abort()
        return len(connections)

    async def _hold(self, what: Held | None) -> None:
        self._held = what
        if what is None:
            self._released.set()
        else:
            self._released.clear()

    async def _slow(self, bytes_s: float | None, delay_s: float) -> None:
        self._bytes_s, self._delay_s = bytes_s, delay_s

    async def _close(self) -> None:
        await self._refuse()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_reader, to_writer = await asyncio.open_connection(HOST, self.to_port)
        except OSError:  # the broker is down: its clients must see that
            writer.transport.abort()
            return
        connection = _Connection(writer, to_writer)
        self._connections.add(connection)
        try:
            await asyncio.gather(
                self._pump(connection, reader, to_writer, answers=False),
                self._pump(connection, to_reader, writer, answers=True),
            )
        finally:
            connection.abort()
            self._connections.discard(connection)

    async def _pump(
        self, connection: "_Connection", reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        with contextlib.suppress(ConnectionError):  # a side that ends ends the other
            while data := await reader.read(CHUNK if self._bytes_s is None else max(64, int(self._bytes_s / 20))):
                if not answers:
                    connection.look(data)
                if self._bytes_s is not None or self._delay_s:
                    await asyncio.sleep(self._delay_s + (len(data) / self._bytes_s if self._bytes_s else 0.0))
                while self._holds(connection, answers):
                    await self._released.wait()
                writer.write(data)
                await writer.drain()
        connection.abort()

    def _holds(self, connection: "_Connection", answers: bool) -> bool:
        if self._held is None or self._held == "all":
            return self._held is not None
        return answers and (self._held == "answers" or connection.producing)


def free_port() -> int:
    """A port on 127.0.0.1 that no one has now."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


class _Connection:
    """Both ends of a connection, and whether a producer has it."""

    def __init__(self, *ends: asyncio.StreamWriter) -> None:
        self._ends = ends
        self._head = b""
        self._rest = 0  # bytes of the request at hand that are still to come
        self.producing = False

    def abort(self) -> None:
        """End both sides at once."""
        for end in self._ends:
            end.transport.abort()

    def look(self, data: bytes) -> None:
        """Follow the requests of the client: a length, then the request's number in front of everything."""
        while data:
            if self._rest:
                skipped = min(self._rest, len(data))
                self._rest -= skipped
                data = data[skipped:]
                continue
            wanted = 6 - len(self._head)
            self._head, data = self._head + data[:wanted], data[wanted:]
            if len(self._head) == 6:
                length, number = struct.unpack(">ih", self._head)
                self._head, self._rest = b"", length - 2
                self.producing = self.producing or number in PRODUCING
