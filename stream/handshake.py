"""One connection to a broker as clients make it, step by step, to say exactly what fails.

1. TLS: the broker's certificate and name are verified;
2. ApiVersions: it speaks Kafka;
3. SASL: it takes the mechanism, and the user.

Clients themselves try again for ever, or tell no more than that nobody answers.
"""

import socket
import ssl
import struct
from contextlib import suppress
from typing import Final

from kafka.errors import KafkaError
from kafka.net.sasl import get_sasl_mechanism

from stream.errors import AccessError, BrokerError
from stream.security import Security

CORRELATION: Final = 0x1E7E
#: Kafka's numbers of the requests: SaslHandshake, ApiVersions, SaslAuthenticate.
SASL_HANDSHAKE, API_VERSIONS, SASL_AUTHENTICATE = 17, 18, 36
#: Kafka's numbers of the errors.
UNSUPPORTED_MECHANISM, ILLEGAL_STATE = 33, 34
ANSWER_MAX_BYTES: Final = 1 << 20
#: How what a TLS server says begins: an alert or a handshake, of version 3.
TLS_RECORDS: Final = (b"\x15\x03", b"\x16\x03")
#: Of OpenSSL: the certificate is for another host name, or another address.
OTHER_NAME: Final = (62, 64)

CREDENTIALS = "INTEREST_SASL_USERNAME and INTEREST_SASL_PASSWORD(_FILE)"
CERTIFICATE = "INTEREST_SSL_CERT_FILE and INTEREST_SSL_KEY_FILE"


class _SpeaksTlsError(OSError):
    """TLS came where Kafka's protocol was expected."""


def answers(host: str, port: int, timeout_s: float) -> bool:
    """Whether a Kafka broker answers there without TLS: one ApiVersions request, answered within `timeout_s`."""
    try:
        with _Link(_connect(host, port, timeout_s)) as link:
            link.ask(API_VERSIONS, 0, b"")
    except OSError:
        return False
    return True


def meet(host: str, port: int, security: Security, timeout_s: float) -> None:
    """Connect and authenticate, and hang up.

    Raises:
        AccessError: the broker refuses, or is not to be trusted; one line that names the setting.
        BrokerError: there is no token to authenticate with.
        OSError: nobody answers within `timeout_s` a step, or no Kafka broker.
    """
    where = f"broker {host}:{port}"
    try:
        with _Link(_secured(host, port, security, timeout_s)) as link:
            link.ask(API_VERSIONS, 0, b"")
            if security.mechanism is None:
                _expect_no_sasl(link, where, security)
            else:
                _authenticate(link, where, host, security)
    except ssl.SSLError as error:  # TLS 1.3 refuses a client's certificate only now
        raise _refused_tls(where, security, error) from None
    except (_SpeaksTlsError, ConnectionError) as error:
        if security.tls is None and (isinstance(error, _SpeaksTlsError) or _speaks_tls(host, port, timeout_s)):
            raise AccessError(
                f"{where} speaks TLS: set INTEREST_SECURITY_PROTOCOL to ssl or sasl_ssl, got {security.protocol}"
            ) from None
        if security.tls is not None and not security.has_certificate:
            raise AccessError(
                f"{where} ends the connection after the TLS handshake: it may want a certificate of the client, set "
                f"{CERTIFICATE}"
            ) from None
        raise ConnectionError(str(error)) from None


class _Link:
    """A connection; requests, each with its answer."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def __enter__(self) -> "_Link":
        return self

    def __exit__(self, *_error: object) -> None:
        self._connection.close()

    def ask(self, request: int, version: int, body: bytes) -> bytes:
        """Send a request; what comes back, without its header.

        Raises:
            OSError: what comes is no answer of Kafka's.
        """
        header = struct.pack(">hhih", request, version, CORRELATION, -1)
        self._connection.sendall(struct.pack(">i", len(header + body)) + header + body)
        head = self._read(4)
        if head[:2] in TLS_RECORDS:
            raise _SpeaksTlsError("TLS where Kafka was expected")
        size = int.from_bytes(head, "big", signed=True)
        if not 4 <= size <= ANSWER_MAX_BYTES:
            raise OSError(f"expected an answer of Kafka's, got {head!r}")
        answer = self._read(size)
        if int.from_bytes(answer[:4], "big") != CORRELATION:
            raise OSError("expected the answer to the request that was sent, got another")
        return answer[4:]

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self._connection.recv(size - len(data))
            if not chunk:
                raise ConnectionError("the connection was closed")
            data += chunk
        return data


def _connect(host: str, port: int, timeout_s: float) -> socket.socket:
    connection = socket.create_connection((host, port), timeout_s)
    connection.settimeout(timeout_s)
    return connection


def _secured(host: str, port: int, security: Security, timeout_s: float) -> socket.socket:
    """A connection after TLS's handshake, if there is one to be."""
    connection = _connect(host, port, timeout_s)
    if security.tls is None:
        return connection
    where = f"broker {host}:{port}"
    try:
        return security.tls.wrap_socket(connection, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        connection.close()
        if error.verify_code in OTHER_NAME:
            raise AccessError(
                f"{where}: its certificate is for another name: {error.verify_message.rstrip('.')}; name the broker "
                "in INTEREST_BROKER as its certificate does"
            ) from None
        raise AccessError(
            f"{where}: its certificate is not trusted: {error.verify_message}; set INTEREST_SSL_CA_FILE to the CA "
            "that has signed it"
        ) from None
    except (ssl.SSLError, ConnectionError) as error:
        connection.close()
        if answers(host, port, timeout_s):
            wanted = "plaintext" if security.mechanism is None else "sasl_plaintext"
            raise AccessError(
                f"{where} speaks no TLS there: name its port for TLS in INTEREST_BROKER, or set "
                f"INTEREST_SECURITY_PROTOCOL={wanted}, got {security.protocol}"
            ) from None
        if isinstance(error, ConnectionError | ssl.SSLEOFError):
            raise ConnectionError("the connection was closed") from None
        raise _refused_tls(where, security, error) from None
    except BaseException:
        connection.close()
        raise


def _refused_tls(where: str, security: Security, error: ssl.SSLError) -> AccessError:
    what = f"change {CERTIFICATE}" if security.has_certificate else f"if it wants one of the client, set {CERTIFICATE}"
    reason = (error.reason or str(error)).replace("_", " ").lower()
    return AccessError(f"{where} refuses TLS: {reason}; {what}")


def _speaks_tls(host: str, port: int, timeout_s: float) -> bool:
    """Whether a TLS server answers there: sends the first message of a handshake, and looks how the answer begins."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=host)
    with suppress(ssl.SSLWantReadError):  # it has written its first message then
        hello.do_handshake()
    try:
        with _connect(host, port, timeout_s) as connection:
            connection.sendall(outgoing.read())
            return connection.recv(2) in TLS_RECORDS
    except OSError:
        return False


def _handshake(link: _Link, mechanism: str) -> tuple[int, list[str]]:
    """The error to it, and the mechanisms that the broker takes."""
    answer = link.ask(SASL_HANDSHAKE, 1, _text(mechanism))
    error, count = struct.unpack(">hi", answer[:6])
    names, rest = [], answer[6:]
    for _ in range(max(0, count)):
        size = int.from_bytes(rest[:2], "big")
        names.append(rest[2 : 2 + size].decode(errors="replace"))
        rest = rest[2 + size :]
    return error, names


def _expect_no_sasl(link: _Link, where: str, security: Security) -> None:
    """Where SASL is expected a client that knows nothing of it would be cut off, and try for ever."""
    try:
        error, names = _handshake(link, "PLAIN")
    except OSError:
        return  # it does not know the request
    if names and error in (0, UNSUPPORTED_MECHANISM):
        wanted = "sasl_plaintext" if security.tls is None else "sasl_ssl"
        raise AccessError(
            f"{where} expects SASL ({', '.join(names)}): set INTEREST_SECURITY_PROTOCOL={wanted}, got "
            f"{security.protocol}, and INTEREST_SASL_MECHANISM"
        )


def _authenticate(link: _Link, where: str, host: str, security: Security) -> None:
    assert security.mechanism is not None
    error, names = _handshake(link, security.mechanism)
    if error == ILLEGAL_STATE:
        wanted = "plaintext" if security.tls is None else "ssl"
        raise AccessError(
            f"{where} expects no SASL there: name its port for SASL in INTEREST_BROKER, or set "
            f"INTEREST_SECURITY_PROTOCOL={wanted}, got {security.protocol}"
        )
    if error:
        raise AccessError(
            f"{where} does not take SASL mechanism {security.mechanism}: set INTEREST_SASL_MECHANISM to one of "
            f"{', '.join(names)}"
        )
    refusal = f"{where} refuses {security.user}"
    options = security.kafka_python()
    steps = get_sasl_mechanism(security.mechanism)(host=host, **options)
    while not steps.is_done():
        try:
            said = steps.auth_bytes()
        except KafkaError as no_token:
            raise BrokerError(str(no_token.args[0])) from None
        answer = link.ask(SASL_AUTHENTICATE, 0, struct.pack(">i", len(said)) + said)
        error, size = struct.unpack(">hh", answer[:4])
        rest = answer[4 + max(0, size) :]
        if error:
            reason = answer[4 : 4 + max(0, size)].decode(errors="replace")
            what = CREDENTIALS if security.tokens is None else "INTEREST_SASL_TOKEN_PROVIDER"
            raise AccessError(f"{refusal}: {reason or f'error {error}'}; look at {what}")
        try:
            steps.receive(rest[4 : 4 + max(0, int.from_bytes(rest[:4], "big", signed=True))])
        except ValueError:
            raise AccessError(
                f"{where} cannot prove that it knows the password of {security.user}: it may not be the broker that "
                "INTEREST_BROKER means"
            ) from None


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">h", len(data)) + data
