"""A broker that is killed, stopped, paused and started again on the same data, with a second listener by a proxy."""

import os
import signal
import time
from pathlib import Path

from stream.broker import HOST, Broker
from tests.faults.proxy import Proxy, free_port

# Clients go on to the address that their listener advertises, so the proxy has a listener of its own. A broker that was
# killed is let in again only when the one before counts as gone, 9 s by default.
PROPERTIES = """\
listeners=PLAINTEXT://{{host}}:{{port}},PROXY://{{host}}:{behind},CONTROLLER://{{host}}:{{controller}}
advertised.listeners=PLAINTEXT://{{host}}:{{port}},PROXY://{{host}}:{proxy},CONTROLLER://{{host}}:{{controller}}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXY:PLAINTEXT,CONTROLLER:PLAINTEXT
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""
DIE_S = 20.0


class FaultyBroker(Broker):
    """A broker on `data`, which is kept, always at the same port; `proxied` is its address by way of `proxy`."""

    def __init__(self, data: Path, proxy: Proxy) -> None:
        self.proxy = proxy
        super().__init__(free_port(), data, properties=PROPERTIES.format(behind=proxy.to_port, proxy=proxy.port))

    @property
    def proxied(self) -> str:
        """HOST:PORT of the proxy."""
        return f"{HOST}:{self.proxy.port}"

    def kill(self) -> None:
        """kill -9 of Kafka itself. Only then :meth:`start` starts it again."""
        os.kill(self._java(), signal.SIGKILL)
        assert self._guard is not None
        self._guard.wait(DIE_S)
        self.stop()

    def pause(self) -> None:
        """SIGSTOP: connections stay, nothing answers."""
        os.kill(self._java(), signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self._java(), signal.SIGCONT)

    def mend(self) -> None:
        """Running, whatever was done to it."""
        if self._guard is None:
            self.start()
        else:
            self.resume()

    def _java(self) -> int:
        """Kafka is the one child of its guard."""
        assert self._guard is not None
        children = Path(f"/proc/{self._guard.pid}/task/{self._guard.pid}/children")
        end = time.monotonic() + DIE_S
        while not (found := children.read_text().split()):
            assert time.monotonic() < end, "the guard has no child"
            time.sleep(0.05)
        return int(found[0])
