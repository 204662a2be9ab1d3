"""How every client reaches a cluster: its addresses, TLS, and who the client is. One value, for each client library."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import SecretStr

from stream.errors import UsageError

if TYPE_CHECKING:
    from stream.settings import Settings
    from stream.tokens import Tokens

Protocol = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]

TLS = ("ssl", "sasl_ssl")
SASL = ("sasl_plaintext", "sasl_ssl")

#: The settings of clients of a broker that knows neither TLS nor SASL, as that of `interest broker`.
PLAINTEXT: Mapping[str, object] = {
    "security_protocol": "plaintext",
    **dict.fromkeys(("ssl_ca_file", "ssl_cert_file", "ssl_key_file", "ssl_key_password", "ssl_key_password_file")),
    **dict.fromkeys(("sasl_mechanism", "sasl_username", "sasl_password", "sasl_password_file", "sasl_token_provider")),
}

#: What `sasl_plaintext` calls for, once a process.
IN_THE_CLEAR = (
    "warning: INTEREST_SECURITY_PROTOCOL=sasl_plaintext: whoever is on the way can read all that is sent, with "
    "INTEREST_SASL_MECHANISM=PLAIN the password too; sasl_ssl encrypts it"
)


@dataclass(frozen=True)
class Security:
    """TLS and SASL of a client. Certificates and host names are always verified; TLS 1.2 is the least."""

    protocol: Protocol = "plaintext"
    tls: ssl.SSLContext | None = None
    mechanism: Mechanism | None = None
    username: str | None = None
    password: SecretStr | None = None
    tokens: "Tokens | None" = None  # of OAUTHBEARER
    has_certificate: bool = False  # of its own, for the broker to know the client by

    @classmethod
    def of(cls, settings: "Settings") -> "Security":
        """Read what the settings name: certificates, files with passwords, the function that gives tokens.

        Raises:
            UsageError: one of them cannot be read; names the setting and the path, never what is in it.
        """
        tokens = None
        if settings.sasl_token_provider is not None:
            from stream.tokens import Tokens  # brings both client libraries along

            tokens = Tokens(settings.sasl_token_provider)
        return cls(
            protocol=settings.security_protocol,
            tls=_context(settings) if settings.security_protocol in TLS else None,
            mechanism=settings.sasl_mechanism,
            username=settings.sasl_username,
            password=_secret(settings, "sasl_password"),
            tokens=tokens,
            has_certificate=settings.ssl_cert_file is not None,
        )

    def aiokafka(self) -> dict[str, Any]:
        """Keyword arguments of a client of aiokafka."""
        told: dict[str, Any] = {"security_protocol": self.protocol.upper()}
        if self.tls is not None:
            told["ssl_context"] = self.tls
        if self.mechanism is not None:
            told["sasl_mechanism"] = self.mechanism
        if self.password is not None:
            told |= {"sasl_plain_username": self.username, "sasl_plain_password": self.password.get_secret_value()}
        if self.tokens is not None:
            told["sasl_oauth_token_provider"] = self.tokens.for_aiokafka()
        return told

    def kafka_python(self) -> dict[str, Any]:
        """Keyword arguments of a client of kafka-python, whose names are the same."""
        told = self.aiokafka()
        if self.tokens is not None:
            told["sasl_oauth_token_provider"] = self.tokens.for_kafka_python()
        return told

    def faust(self) -> Any:
        """Faust's credentials, which it hands to aiokafka; None without TLS and SASL."""
        from faust import auth

        if self.tokens is not None:
            return auth.OAuthCredentials(oauth_cb=self.tokens.for_aiokafka(), ssl_context=self.tls)
        if self.password is not None:
            return auth.SASLCredentials(
                mechanism=self.mechanism,
                username=self.username,
                password=self.password.get_secret_value(),
                ssl_context=self.tls,
            )
        return None if self.tls is None else auth.SSLCredentials(self.tls)

    @property
    def user(self) -> str:
        """Who the client is, for an error."""
        if self.username is not None:
            return f"user {self.username!r}"
        if self.tokens is not None:
            return f"the user of {self.tokens.name}'s token"
        return "the user of INTEREST_SSL_CERT_FILE" if self.has_certificate else "user 'ANONYMOUS'"

    @property
    def principal(self) -> str:
        """The user as ACLs name it; in capitals what only the broker can tell."""
        if self.username is not None:
            return f"User:{self.username}"
        if self.tokens is not None:
            return "User:SUBJECT_OF_THE_TOKEN"
        return "'User:NAME_IN_THE_CERTIFICATE'" if self.has_certificate else "User:ANONYMOUS"


@dataclass(frozen=True)
class Cluster:
    """A Kafka cluster as a client reaches it. As text it is its addresses."""

    address: str  # HOST:PORT, comma between several
    security: Security = field(default_factory=Security)

    def __str__(self) -> str:
        return self.address


def problems(settings: "Settings") -> list[str]:
    """What of the settings for TLS and SASL does not go together, a line each; no file is read."""
    protocol, there = settings.security_protocol, _told(settings)
    of_tls = [name for name in there if name.startswith("ssl_")] if protocol not in TLS else []
    of_sasl = [name for name in there if name.startswith("sasl_")] if protocol not in SASL else []
    found = [f"{name} needs security_protocol ssl or sasl_ssl, got {protocol}" for name in of_tls]
    found += [f"{name} needs security_protocol sasl_ssl or sasl_plaintext, got {protocol}" for name in of_sasl]
    for one, other in (("ssl_cert_file", "ssl_key_file"), ("ssl_key_file", "ssl_cert_file")):
        if one in there and other not in there:
            found.append(f"{one} needs {other} beside it")
    for name in ("ssl_key_password", "sasl_password"):
        if {name, f"{name}_file"} <= there.keys():
            found.append(f"expected one of {name} and {name}_file, got both")
    if "ssl_key_file" not in there and any(name.startswith("ssl_key_password") for name in there):
        found.append("ssl_key_password and ssl_key_password_file need ssl_key_file")
    if protocol in SASL:
        found += _who(settings.sasl_mechanism, protocol, there)
    return found


def _told(settings: "Settings") -> dict[str, object]:
    """The settings of this file that are set."""
    named = {name: getattr(settings, name) for name in PLAINTEXT if name != "security_protocol"}
    return {name: value for name, value in named.items() if value is not None}


def _who(mechanism: Mechanism | None, protocol: Protocol, there: Mapping[str, object]) -> list[str]:
    password = there.keys() & {"sasl_password", "sasl_password_file"}
    if mechanism is None:
        return [f"security_protocol {protocol} needs sasl_mechanism"]
    found = []
    if mechanism == "OAUTHBEARER":
        if "sasl_token_provider" not in there:
            found.append("sasl_mechanism OAUTHBEARER needs sasl_token_provider")
        if password or "sasl_username" in there:
            found.append("sasl_mechanism OAUTHBEARER takes no username or password: the token says who it is")
        return found
    if "sasl_username" not in there:
        found.append(f"sasl_mechanism {mechanism} needs sasl_username")
    if not password:
        found.append(f"sasl_mechanism {mechanism} needs sasl_password or sasl_password_file")
    if "sasl_token_provider" in there:
        found.append(f"sasl_token_provider is of sasl_mechanism OAUTHBEARER, got {mechanism}")
    return found


def _context(settings: "Settings") -> ssl.SSLContext:
    if settings.ssl_ca_file is None:
        context = ssl.create_default_context()
    else:
        _readable("INTEREST_SSL_CA_FILE", settings.ssl_ca_file)
        try:
            context = ssl.create_default_context(cafile=str(settings.ssl_ca_file))
        except ssl.SSLError as error:
            raise UsageError(
                f"INTEREST_SSL_CA_FILE: {settings.ssl_ca_file}: expected certificates in PEM, got {_reason(error)}"
            ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    certificate, key = settings.ssl_cert_file, settings.ssl_key_file
    if certificate is not None and key is not None:
        _readable("INTEREST_SSL_CERT_FILE", certificate)
        _readable("INTEREST_SSL_KEY_FILE", key)
        password = _secret(settings, "ssl_key_password")
        try:
            # Never None: OpenSSL would ask for the password on the terminal.
            context.load_cert_chain(certificate, key, password.get_secret_value() if password else "")
        except (ssl.SSLError, ValueError) as error:
            reason = _reason(error) if isinstance(error, ssl.SSLError) else "a password that cannot be one"
            raise UsageError(
                f"INTEREST_SSL_CERT_FILE: {certificate}, INTEREST_SSL_KEY_FILE: {key}: expected a certificate in PEM "
                f"and its private key, and INTEREST_SSL_KEY_PASSWORD(_FILE) if that is encrypted, got {reason}"
            ) from None
    return context


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "an unreadable file").replace("_", " ").lower()


def _readable(setting: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise UsageError(f"{setting}: {path}: {error.strerror}") from None


def _secret(settings: "Settings", name: str) -> SecretStr | None:
    """A password that is told, or that a file holds."""
    told: SecretStr | None = getattr(settings, name)
    path: Path | None = getattr(settings, f"{name}_file")
    if path is None:
        return told
    setting = f"INTEREST_{name.upper()}_FILE"
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise UsageError(f"{setting}: {path}: {error.strerror}") from None
    except UnicodeDecodeError:  # which holds the content
        raise UsageError(f"{setting}: {path}: expected text in UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise UsageError(f"{setting}: {path}: expected a password, got an empty file")
    return SecretStr(text)
