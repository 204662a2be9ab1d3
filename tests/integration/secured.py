"""A real broker with TLS, SASL and ACLs, its certificates and users made for the test; nothing else is brought."""

import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    UserScramCredentialUpsertion,
)

from stream.access import Need
from stream.broker import HOST, Broker
from stream.connect import admin
from stream.security import Cluster

#: Listeners beside the plain one of the development broker, where whoever comes is the super user.
LISTENERS = ("SASL_SSL", "SSL", "SASL_PLAINTEXT", "RENAMED")

#: After this long the broker ends a connection with SASL and TLS at its next request, as where tokens are short-lived.
SESSION_S = 3

PROPERTIES = """
listeners=PLAINTEXT://{{host}}:{{port}},CONTROLLER://{{host}}:{{controller}},{listeners}
advertised.listeners=PLAINTEXT://{{host}}:{{port}},CONTROLLER://{{host}}:{{controller}},{advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL,\
SASL_PLAINTEXT:SASL_PLAINTEXT,RENAMED:SSL
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN,OAUTHBEARER
{jaas}
ssl.keystore.type=PEM
ssl.keystore.location={keys}/server.pem
ssl.truststore.type=PEM
ssl.truststore.location={keys}/ca.crt
listener.name.ssl.ssl.client.auth=required
listener.name.sasl_ssl.connections.max.reauth.ms={session_ms}
"""

JAAS = """\
listener.name.{name}.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.{name}.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.{name}.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
user_plain="{password}";
listener.name.{name}.oauthbearer.sasl.jaas.config=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
"""


@dataclass(frozen=True)
class Secured:
    """A broker that runs: where each listener is, the certificates, and the password of its users."""

    address: str  # of the super user
    ports: dict[str, int]
    keys: Path
    password: str

    def at(self, listener: str, host: str = HOST) -> str:
        """HOST:PORT of a listener."""
        return f"{host}:{self.ports[listener]}"

    def add_user(self, name: str, password: str | None = None, mechanism: str = "SCRAM-SHA-512") -> None:
        """A user with the password that all have, or another."""
        with admin(Cluster(self.address)) as client:
            answer = client.alter_user_scram_credentials(
                [UserScramCredentialUpsertion(name, mechanism, password or self.password, iterations=4096)]
            )
        assert {name: None} == answer

    def grant(self, user: str, needs: Sequence[Need]) -> None:
        """Allow a user these operations; they hold when this returns."""
        acls = [_acl(user, need) for need in needs]
        with admin(Cluster(self.address)) as client:
            client.create_acls(acls)
            _wait(lambda: all(client.describe_acls(_filter(acl))[0] for acl in acls))

    def revoke(self, user: str, need: Need) -> None:
        """Take one operation away again; it is gone when this returns."""
        wanted = _filter(_acl(user, need))
        with admin(Cluster(self.address)) as client:
            client.delete_acls([wanted])
            _wait(lambda: not client.describe_acls(wanted)[0])


def _wait(true: Callable[[], bool]) -> None:
    """The broker's authorizer takes what the controller has written a moment later."""
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def _filter(acl: ACL) -> ACLFilter:
    pattern = acl.resource_pattern
    wanted = ResourcePatternFilter(pattern.resource_type, pattern.resource_name, pattern.pattern_type)
    return ACLFilter(acl.principal, acl.host, acl.operation, acl.permission_type, wanted)


def _acl(user: str, need: Need) -> ACL:
    upper = "".join(f"_{letter}" if letter.isupper() else letter for letter in need.operation).strip("_").upper()
    kind = ResourceType[need.kind.replace("-", "_").upper()]
    resource = ResourcePattern(kind, need.name, ACLResourcePatternType.LITERAL)
    return ACL(f"User:{user}", "*", ACLOperation[upper], ACLPermissionType.ALLOW, resource)


@contextmanager
def secured(folder: Path) -> Iterator[Secured]:
    """The broker, for as long as the block; certificates lie in `folder`."""
    keys = folder / "keys"
    make_keys(keys)
    password = secrets.token_hex(12)
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in LISTENERS]
        for one in sockets:
            one.bind((HOST, 0))
        ports = dict(zip(LISTENERS, (one.getsockname()[1] for one in sockets), strict=True))
    where = {name: f"{name}://{HOST}:{port}" for name, port in ports.items()}
    # The name that this one gives out is not in the certificate.
    told = where | {"RENAMED": f"RENAMED://localhost:{ports['RENAMED']}"}
    properties = PROPERTIES.format(
        listeners=",".join(where.values()),
        advertised=",".join(told.values()),
        jaas="".join(JAAS.format(name=name, password=password) for name in ("sasl_ssl", "sasl_plaintext")),
        keys=keys,
        session_ms=SESSION_S * 1000,
    )
    with Broker(properties=properties) as broker:
        yield Secured(broker.address, ports, keys, password)


def make_keys(folder: Path) -> None:
    """A CA, the broker's certificate for 127.0.0.1, a client's, an encrypted key of it, and another CA."""
    folder.mkdir()

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "other"):
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", f"/CN=test {name}", "-keyout", f"{name}.key", "-out", f"{name}.crt"),
        )
    for name, extension in (("server", "subjectAltName=IP:127.0.0.1"), ("client", "extendedKeyUsage=clientAuth")):
        (folder / f"{name}.ext").write_text(extension)
        openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.crt"),
        )
    encrypted = ("-v2", "aes256", "-passout", "pass:of-the-key")
    openssl("pkcs8", "-topk8", *encrypted, "-in", "client.key", "-out", "locked.key")
    (folder / "server.pem").write_text((folder / "server.key").read_text() + (folder / "server.crt").read_text())
