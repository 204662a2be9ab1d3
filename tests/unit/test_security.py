"""How clients reach a cluster: the settings, what client libraries are given, and that no secret is ever shown."""

import asyncio
import logging
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import aiokafka.errors
import kafka.errors
import pytest
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from stream import logs
from stream.commands import run
from stream.demo.worker import environment
from stream.errors import BrokerError, UsageError
from stream.security import PLAINTEXT, Security
from stream.settings import SECRETS, Settings, load
from stream.tokens import Tokens

SECRET = "hunter2-and-more"
SCRAM: dict[str, Any] = {
    "security_protocol": "sasl_plaintext",
    "sasl_mechanism": "SCRAM-SHA-512",
    "sasl_username": "shop",
    "sasl_password": SECRET,
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate of its own, its key, and that key locked."""
    folder = tmp_path_factory.mktemp("keys")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for name in ("one", "two"):
        told = ("-x509", "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt")
        subprocess.run(["openssl", "req", *curve, *told], cwd=folder, check=True, capture_output=True)
    lock = ("-topk8", "-v2", "aes256", "-passout", f"pass:{SECRET}", "-in", "one.key", "-out", "locked.key")
    subprocess.run(["openssl", "pkcs8", *lock], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (
            {"security_protocol": "plaintext"},
            "sasl_mechanism needs security_protocol sasl_ssl or sasl_plaintext, got",
        ),
        ({"security_protocol": "ssl"}, "sasl_password needs security_protocol sasl_ssl or sasl_plaintext, got ssl"),
        ({"ssl_ca_file": "ca"}, "ssl_ca_file needs security_protocol ssl or sasl_ssl, got sasl_plaintext"),
        ({"sasl_mechanism": None}, "security_protocol sasl_plaintext needs sasl_mechanism"),
        ({"sasl_username": None}, "sasl_mechanism SCRAM-SHA-512 needs sasl_username"),
        ({"sasl_password": None}, "sasl_mechanism SCRAM-SHA-512 needs sasl_password or sasl_password_file"),
        ({"sasl_password_file": "file"}, "expected one of sasl_password and sasl_password_file, got both"),
        ({"sasl_token_provider": "a:b"}, "sasl_token_provider is of sasl_mechanism OAUTHBEARER, got SCRAM-SHA-512"),
        ({"sasl_mechanism": "OAUTHBEARER"}, "sasl_mechanism OAUTHBEARER needs sasl_token_provider"),
        ({"sasl_mechanism": "OAUTHBEARER"}, "sasl_mechanism OAUTHBEARER takes no username or password"),
        ({"security_protocol": "sasl_ssl", "ssl_cert_file": "c"}, "ssl_cert_file needs ssl_key_file beside it"),
        ({"security_protocol": "sasl_ssl", "ssl_key_file": "k"}, "ssl_key_file needs ssl_cert_file beside it"),
        ({"security_protocol": "sasl_ssl", "ssl_key_password": SECRET}, "ssl_key_password_file need ssl_key_file"),
        ({"security_protocol": "tls"}, "INTEREST_SECURITY_PROTOCOL: Input should be 'plaintext', 'ssl', 'sasl_pla"),
        ({"sasl_mechanism": "GSSAPI"}, "INTEREST_SASL_MECHANISM: Input should be 'PLAIN', 'SCRAM-SHA-256', 'SCRAM"),
    ],
)
def test_settings_that_do_not_fit(changed: dict[str, Any], line: str) -> None:
    """What does not go together is told by the names of the settings, in one line, without a secret."""
    with pytest.raises(UsageError) as caught:
        load(SCRAM | changed)
    assert line in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_case_of_names() -> None:
    """Names are taken as Kafka writes them, and as others do."""
    settings = load(SCRAM | {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "scram-sha-256"})
    assert ("sasl_plaintext", "SCRAM-SHA-256") == (settings.security_protocol, settings.sasl_mechanism)


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither settings nor what is made of them show a secret, nor does an error that a secret has brought about."""
    assert {"ssl_key_password", "sasl_password"} == SECRETS
    settings = load(SCRAM)
    for shown in (settings, settings.cluster, settings.model_dump(), settings.cluster.security.faust()):
        assert SECRET not in f"{shown} {shown!r}"
    with pytest.raises(ValueError, match="window_keep_events") as caught:
        Settings.model_validate(SCRAM | {"window_keep_events": 99})
    assert SECRET not in str(caught.value)
    with pytest.raises(UsageError) as wrong:
        load(SCRAM | {"sasl_password": {"of": SECRET}, "ssl_key_password": [SECRET]})
    assert "INTEREST_SASL_PASSWORD: Input should be a valid string" in str(wrong.value)
    assert SECRET not in str(wrong.value)
    monkeypatch.setenv("INTEREST_SASL_PASSWORT", SECRET)
    with pytest.raises(UsageError) as unknown:
        load()
    assert SECRET not in str(unknown.value)


def test_no_option_for_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    """Others see a process's arguments: a password cannot be told there, the path of its file can."""
    assert 0 == run(["worker", "--help"])
    options = capsys.readouterr().out
    assert "--sasl-password-file FILE" in options
    assert "--sasl-password " not in options
    assert "--ssl-key-password " not in options


@pytest.mark.parametrize(
    ("content", "password"),
    [(b"a\n", "a"), (b"a\r\n", "a"), (b"a\n\n", "a\n"), (b" a ", " a "), (b"\xc3\xa9", "é")],
)
def test_password_file(tmp_path: Path, content: bytes, password: str) -> None:
    """One line end is left out, all else is the password's."""
    (tmp_path / "password").write_bytes(content)
    settings = load(SCRAM | {"sasl_password": None, "sasl_password_file": tmp_path / "password"})
    assert password == settings.cluster.security.aiokafka()["sasl_plain_password"]


def test_password_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Each error names setting and path, never what the file holds."""
    path = tmp_path / "password"
    settings = load(SCRAM | {"sasl_password": None, "sasl_password_file": path})

    def line() -> str:
        with pytest.raises(UsageError) as caught:
            _ = settings.cluster
        return str(caught.value)

    assert f"INTEREST_SASL_PASSWORD_FILE: {path}: No such file or directory" == line()
    path.write_text("\n")
    assert f"INTEREST_SASL_PASSWORD_FILE: {path}: expected a password, got an empty file" == line()
    path.write_bytes(SECRET.encode() + b"\xff")
    assert f"INTEREST_SASL_PASSWORD_FILE: {path}: expected text in UTF-8" == line()
    path.unlink()
    path.mkdir()
    assert f"INTEREST_SASL_PASSWORD_FILE: {path}: Is a directory" == line()


def test_what_clients_are_given(keys: Path) -> None:
    """The same for each library, by the names that it has for it; certificates and names are always verified."""
    assert {"security_protocol": "PLAINTEXT"} == Security().aiokafka() == Security().kafka_python()
    assert Security().faust() is None
    told = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_plain_username": "shop", "sasl_plain_password": SECRET}
    plain = load(SCRAM).cluster.security
    assert {"security_protocol": "SASL_PLAINTEXT", **told} == plain.aiokafka() == plain.kafka_python()
    secured = load(SCRAM | {"security_protocol": "sasl_ssl", "ssl_ca_file": keys / "one.crt"}).cluster.security
    context = secured.tls
    assert context is not None
    assert (ssl.CERT_REQUIRED, True) == (context.verify_mode, context.check_hostname)
    assert ssl.TLSVersion.TLSv1_2 == context.minimum_version
    assert {"security_protocol": "SASL_SSL", "ssl_context": context, **told} == secured.aiokafka()
    for security in (plain, secured):
        given = {name: value for name, value in credentials_to_aiokafka_auth(security.faust()).items() if value}
        assert security.aiokafka() == given
    only_tls = load({"security_protocol": "ssl"}).cluster.security
    assert only_tls.aiokafka() == credentials_to_aiokafka_auth(only_tls.faust())


def test_certificates_that_cannot_be_used(keys: Path) -> None:
    """A file that is missing, no certificate, of another key, or locked by another password: named, nothing asked."""
    told: dict[str, Any] = {
        "security_protocol": "ssl",
        "ssl_cert_file": keys / "one.crt",
        "ssl_key_file": keys / "one.key",
    }

    def line(**changed: object) -> str:
        with pytest.raises(UsageError) as caught:
            _ = load(told | changed).cluster
        assert SECRET not in str(caught.value)
        return str(caught.value)

    missing = keys / "missing"
    assert f"INTEREST_SSL_CA_FILE: {missing}: No such file or directory" == line(ssl_ca_file=missing)
    assert f"INTEREST_SSL_CERT_FILE: {missing}: No such file or directory" == line(ssl_cert_file=missing)
    assert f"INTEREST_SSL_KEY_FILE: {missing}: No such file or directory" == line(ssl_key_file=missing)
    no_certificate = line(ssl_ca_file=keys / "one.key")
    assert f"INTEREST_SSL_CA_FILE: {keys / 'one.key'}: expected certificates in PEM, got " in no_certificate
    assert line(ssl_key_file=keys / "two.key").endswith(", got key values mismatch")
    for password in (None, "wrong"):
        assert "INTEREST_SSL_KEY_PASSWORD(_FILE)" in line(ssl_key_file=keys / "locked.key", ssl_key_password=password)
    assert load(
        told | {"ssl_key_file": keys / "locked.key", "ssl_key_password": SECRET}
    ).cluster.security.has_certificate


def test_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that says how long it lives is kept for most of that; aiokafka's loop does not wait for the function."""
    calls: list[str] = []
    answers: list[object] = [("first", 0.0), ("second", 1000), "third"]

    def give() -> object:
        calls.append(threading.current_thread().name)
        return answers[len(calls) - 1]

    monkeypatch.setattr("tests.acls.give", give, raising=False)
    tokens = Tokens("tests.acls:give")
    assert "first" == asyncio.run(tokens.for_aiokafka().token())
    assert threading.main_thread().name not in calls
    assert "second" == tokens.for_kafka_python().token()
    assert "second" == tokens.get()
    assert 2 == len(calls)


@pytest.mark.parametrize(
    ("answer", "described"),
    [("", "text that is no token"), (b"t", "bytes"), (("t",), "(str)"), (("t", "9"), "(str, str)"), (None, "NoneType")],
)
def test_wrong_answers(monkeypatch: pytest.MonkeyPatch, answer: object, described: str) -> None:
    """What is no token is told by its kind."""
    monkeypatch.setattr("tests.acls.give", lambda: answer, raising=False)
    with pytest.raises(BrokerError) as caught:
        Tokens("tests.acls:give").get()
    assert str(caught.value).endswith(f"or a token and the seconds that it lives, got {described}")


def test_token_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the function is told by its type; both clients take it for one that may pass."""

    def fail() -> str:
        raise RuntimeError(SECRET)

    monkeypatch.setattr("tests.acls.give", fail, raising=False)
    tokens = Tokens("tests.acls:give")
    line = "INTEREST_SASL_TOKEN_PROVIDER: tests.acls:give failed: RuntimeError"
    with pytest.raises(BrokerError, match=f"^{line}$") as caught:
        tokens.get()
    assert caught.value.__suppress_context__
    with pytest.raises(aiokafka.errors.KafkaConnectionError, match=line):
        asyncio.run(tokens.for_aiokafka().token())
    with pytest.raises(kafka.errors.KafkaConnectionError, match=line):
        tokens.for_kafka_python().token()


@pytest.mark.parametrize("name", ["module", ":f", "no.such:f", "tests.acls:nothing", "tests.acls:DOCUMENT"])
def test_no_such_provider(name: str) -> None:
    """A name that leads to no function is a wrong setting."""
    with pytest.raises(UsageError, match=r"^INTEREST_SASL_TOKEN_PROVIDER: .*(expected|cannot be imported)"):
        Tokens(name)


def test_demo_hands_on() -> None:
    """The demo's worker gets the password itself; on the demo's own broker there is none."""
    settings = load(SCRAM)
    told = environment(settings, Path("data"))
    assert (SECRET, "shop") == (told["INTEREST_SASL_PASSWORD"], told["INTEREST_SASL_USERNAME"])
    assert "INTEREST_SASL_PASSWORD" not in environment(settings.model_copy(update=dict(PLAINTEXT)), Path("data"))


def test_clients_log_no_requests() -> None:
    """At debug both clients would log what they send, a password among it; a worker never lets them."""
    before = logging.getLogger().level, logging.getLogger().handlers[:]
    try:
        logs.set_up("debug")
        assert logging.getLogger("interest").isEnabledFor(logging.DEBUG)
        for name in ("aiokafka.conn", "kafka.admin.client", "kafka.net.connection"):
            assert not logging.getLogger(name).isEnabledFor(logging.DEBUG)
    finally:
        for name in ("aiokafka", "kafka", "interest"):
            logging.getLogger(name).setLevel(logging.NOTSET)
        logging.getLogger().setLevel(before[0])
        logging.getLogger().handlers[:] = before[1]
