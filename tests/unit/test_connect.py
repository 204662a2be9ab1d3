"""Addresses of brokers, and what does not speak Kafka."""

import socket
import threading

import pytest

from stream.connect import addresses, require
from stream.errors import BrokerError, UsageError
from stream.handshake import answers
from stream.security import Cluster


def test_addresses() -> None:
    """Names, numbers, IPv6 in brackets, several with commas."""
    assert addresses("127.0.0.1:9092") == [("127.0.0.1", 9092)]
    assert addresses("a.example:1, [::1]:65535") == [("a.example", 1), ("::1", 65535)]


@pytest.mark.parametrize("broker", ["", "host", "host:", ":9092", "host:0", "host:65536", "a:1,", "kafka://host:9092"])
def test_wrong_addresses(broker: str) -> None:
    """What is no HOST:PORT is named and ends a command as a wrong call."""
    with pytest.raises(UsageError, match="expected HOST:PORT, comma between several"):
        addresses(broker)


def test_something_else_answers() -> None:
    """A server that is not Kafka, one that hangs up, and a name that does not exist are no broker."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            for answer in (b"HTTP/1.1 400 Bad Request\r\n", b"", b"abc"):
                connection, _ = server.accept()
                with connection:
                    connection.recv(100)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        assert [answers("127.0.0.1", port, 5.0) for _ in range(3)] == [False, False, False]
        thread.join()
    assert not answers("name.invalid", 9092, 1.0)


def test_nobody_there() -> None:
    """Every address was tried; the line says what to do."""
    with pytest.raises(BrokerError) as caught:
        require(Cluster("127.0.0.1:1,127.0.0.1:2"))
    assert str(caught.value) == (
        "no broker answers at 127.0.0.1:1,127.0.0.1:2; start one with `interest broker`, "
        "or name another with --broker HOST:PORT"
    )
