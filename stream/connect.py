"""Connections to a cluster, tried first: a client of kafka-python that finds no broker leaks its thread and sockets."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from stream.access import explain
from stream.errors import AccessError, BrokerError, UsageError
from stream.handshake import meet
from stream.security import Cluster

ANSWER_S = 5.0


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


def require(broker: Cluster) -> list[str]:
    """The brokers' addresses as clients take them, after at least one of them has let this client in.

    Raises:
        AccessError: none does, the first that answers refuses; tells which setting it is.
        BrokerError: none answers; takes at most 5 seconds an address and step.
        UsageError: an address is not HOST:PORT.
    """
    pairs = addresses(broker.address)
    refusal: AccessError | None = None
    for host, port in pairs:
        try:
            meet(host, port, broker.security, ANSWER_S)
        except AccessError as error:
            refusal = refusal or error
        except OSError:
            continue
        else:
            return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in pairs]
    if refusal is not None:
        raise refusal
    raise BrokerError(
        f"no broker answers at {broker}; start one with `interest broker`, or name another with --broker HOST:PORT"
    )


@contextmanager
def admin(broker: Cluster) -> Iterator[KafkaAdminClient]:
    """A client for topics and cluster; what Kafka refuses inside comes out as a BrokerError."""
    servers = require(broker)
    options = broker.security.kafka_python()
    try:
        client = KafkaAdminClient(
            bootstrap_servers=servers, bootstrap_timeout_ms=10_000, request_timeout_ms=10_000, **options
        )
        try:
            yield client
        finally:
            client.close()
    except KafkaError as error:
        raise explain(error, broker) from error
