"""Connections to a broker, checked first: a client of kafka-python that finds none leaks its thread and sockets."""

import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from stream.errors import BrokerError, UsageError

ANSWER_S = 5.0
API_VERSIONS = 18
CORRELATION = 0x1E7E


def addresses(broker: str) -> list[tuple[str, int]]:
    """Hosts and ports of `HOST:PORT[,HOST:PORT…]`; IPv6 addresses stand in brackets.

    Raises:
        UsageError: names the part that is wrong.
    """
    pairs = []
    for part in broker.split(","):
        match = re.fullmatch(r"\s*(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]/]+)):(\d{1,5})\s*", part)
        if match is None or not 0 < int(match[3]) < 65536:
            raise UsageError(f"wrong broker {part!r}: expected HOST:PORT, comma between several")
        pairs.append((match[1] or match[2], int(match[3])))
    return pairs


def answers(host: str, port: int, timeout_s: float) -> bool:
    """Whether a Kafka broker answers there: one ApiVersions request, answered within `timeout_s`."""
    body = struct.pack(">hhih", API_VERSIONS, 0, CORRELATION, -1)
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(struct.pack(">i", len(body)) + body)
            answer = b""
            while len(answer) < 8:
                chunk = connection.recv(8 - len(answer))
                if not chunk:
                    return False
                answer += chunk
    except OSError:
        return False
    return int(struct.unpack(">ii", answer)[1]) == CORRELATION


def require(broker: str) -> list[str]:
    """The broker's addresses as clients take them, after at least one of them answered.

    Raises:
        BrokerError: none answers; takes at most 5 seconds an address.
        UsageError: `broker` is not HOST:PORT.
    """
    pairs = addresses(broker)
    if not any(answers(host, port, ANSWER_S) for host, port in pairs):
        raise BrokerError(
            f"no broker answers at {broker}; start one with `interest broker`, or name another with --broker HOST:PORT"
        )
    return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in pairs]


@contextmanager
def admin(broker: str) -> Iterator[KafkaAdminClient]:
    """A client for topics and cluster; what Kafka refuses inside comes out as a BrokerError."""
    servers = require(broker)
    try:
        client = KafkaAdminClient(bootstrap_servers=servers, bootstrap_timeout_ms=10_000, request_timeout_ms=10_000)
        try:
            yield client
        finally:
            client.close()
    except KafkaError as error:
        raise BrokerError(f"broker {broker}: {error}") from error
