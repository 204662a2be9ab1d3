"""The probes and the metrics of a worker, on a port of their own, and nothing else.

| path | 200 | otherwise |
| --- | --- | --- |
| `/livez` | as long as the process is there, to the end of draining | |
| `/readyz` | while partitions are worked on, or there is nothing to do | 503 and what it waits for |
| `/startupz` | for ever, once partitions were recovered and worked on, be it none | 503 and how far the start is |
| `/metrics` | what Prometheus reads | |
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from stream.errors import InterestError, UsageError
from stream.progress import Phase, Progress

SLOW_CLIENT_S = 5.0
TEXT = "text/plain; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"


@contextmanager
def serve(address: str, progress: Progress, stall_s: float, render: Callable[[], bytes]) -> Iterator[str]:
    """Answer at HOST:PORT (port 0: any that is free) until the block ends; yields where it is.

    Args:
        address: HOST:PORT.
        progress: decides `/readyz` and `/startupz`.
        stall_s: so long may the worker stand still and still be ready.
        render: the metrics.

    Raises:
        UsageError: `address` is not HOST:PORT.
        InterestError: the address cannot be taken.
    """
    host, _, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not bare or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"wrong health address {address!r}: expected HOST:PORT")

    class Handler(BaseHTTPRequestHandler):
        timeout = SLOW_CLIENT_S  # of the connection
        server_version, sys_version = "interest", ""

        def do_GET(self) -> None:
            status = progress.status(time.monotonic(), stall_s)
            match self.path.partition("?")[0]:
                case "/livez":
                    self._answer(200, b"alive\n", TEXT)
                case "/readyz" if status.ready:
                    self._answer(200, b"ready\n", TEXT)
                case "/readyz":
                    self._answer(503, f"{status.phase}: {status.where}\n".encode(), TEXT)
                case "/startupz" if status.started:
                    self._answer(200, b"started\n", TEXT)
                case "/startupz":
                    where = progress.recovery() if status.phase is Phase.RECOVERING else status.where
                    self._answer(503, f"{status.phase}: {where}\n".encode(), TEXT)
                case "/metrics":
                    self._answer(200, render(), METRICS)
                case _:
                    self._answer(404, b"there are /livez, /readyz, /startupz and /metrics\n", TEXT)

        do_HEAD = do_GET  # noqa: N815

        def _answer(self, code: int, body: bytes, kind: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """No access log: probes come every few seconds."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in bare else socket.AF_INET
        daemon_threads = True

    try:
        server = Server((bare, int(port)), Handler)
    except OSError as error:
        raise InterestError(
            f"health address {address}: {error.strerror}; name another by --health-address HOST:PORT"
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield f"{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
