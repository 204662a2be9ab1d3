"""TLS, SASL and ACLs on a real broker: who may come in does, and who may not is told why in one line."""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import orjson
import pytest

from stream import topics
from stream.access import Need
from stream.commands import run
from stream.errors import AccessError
from stream.groups import members
from stream.security import Cluster
from stream.settings import load
from tests.acls import by_table
from tests.bundles import random_bundle
from tests.integration.secured import SESSION_S, Secured, secured
from tests.integration.workers import command, wait_for

ROLES = by_table()
#: Commands of the roles that change nothing, or what may change again.
COMMANDS = {
    "publisher": ["publish", "{events}"],
    "consumer": ["watch", "--from-beginning", "--limit", "1"],
    "topics-create": ["topics", "create"],
    "erase": ["erase", "nobody"],
    "deadletters-list": ["deadletters", "list"],
    "deadletters-replay": ["deadletters", "replay", "--send", "--again"],
    "republish": ["republish", "--model", "{model}"],
    "export": ["export", "--output", "{new}"],
    "inspect": ["inspect", "u1"],
    "topics-grow": ["topics", "grow", "--partitions", "8", "--send"],
}
TOKENS = """
import base64, json, time

def part(content):
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

def token():
    now = int(time.time())
    return part({"alg": "none"}) + "." + part({"sub": "publisher", "iat": now, "exp": now + 60}) + ".", 60

def refused():
    return "of.no.use"

def fails():
    raise RuntimeError("the-token-itself")
"""


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """The broker, with a user for each role who may do exactly what the document lists."""
    with secured(tmp_path_factory.mktemp("secured")) as broker:
        for role, needs in ROLES.items():
            broker.add_user(role)
            broker.grant(role, needs)
        yield broker


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, events, one of which is refused, and functions that give tokens."""
    folder = tmp_path_factory.mktemp("files")
    random_bundle(folder / "model", item_ids=["i1", "i2"], item_categories=["c1", "c1"])
    now = int(time.time() * 1000)
    events: list[dict[str, object]] = [
        {"user_id": f"u{number}", "type": "click", "item_id": "i1", "timestamp": now} for number in range(9)
    ]
    events.append({"user_id": "bad"})
    (folder / "events").write_bytes(b"\n".join(map(orjson.dumps, events)))
    (folder / "gives_tokens.py").write_text(TOKENS)
    return folder


def by_password(kafka: Secured, user: str, **changed: object) -> dict[str, str]:
    """The environment of a user with TLS and SCRAM."""
    told: dict[str, object] = {
        "broker": kafka.at("SASL_SSL"),
        "security_protocol": "sasl_ssl",
        "ssl_ca_file": kafka.keys / "ca.crt",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_username": user,
        "sasl_password": kafka.password,
    }
    return environment(told | changed)


def by_certificate(kafka: Secured, **changed: object) -> dict[str, str]:
    """The environment of a user with TLS and a certificate."""
    told: dict[str, object] = {
        "broker": kafka.at("SSL"),
        "security_protocol": "ssl",
        "ssl_ca_file": kafka.keys / "ca.crt",
    }
    told |= {"ssl_cert_file": kafka.keys / "client.crt", "ssl_key_file": kafka.keys / "client.key"}
    return environment(told | changed)


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """INTEREST_ variables; None leaves one out."""
    return {f"INTEREST_{name.upper()}": str(value) for name, value in settings.items() if value is not None}


class Shell:
    """Runs commands here, each with an environment of its own."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kafka: Secured, folder: Path
    ) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self._kafka = kafka
        self._folder = folder
        self._number = 0

    def __call__(self, arguments: Sequence[str], env: Mapping[str, str]) -> tuple[int, str, str]:
        """Exit code, standard output and standard error; in none of them a password."""
        self._number += 1
        told = {name: str(self._folder / name) for name in ("events", "model")}
        told |= {"new": str(self._folder / f"{time.monotonic_ns()}")}
        with self._monkeypatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            code = run([argument.format(**told) for argument in arguments])
        said = self._capsys.readouterr()
        assert self._kafka.password not in said.out + said.err
        return code, said.out, said.err

    def refused(self, arguments: Sequence[str], env: Mapping[str, str]) -> str:
        """The one line that a command ends with."""
        code, _, error = self(arguments, env)
        assert 1 == code, error
        (line,) = error.splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ")


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kafka: Secured, files: Path) -> Shell:
    """See Shell."""
    monkeypatch.syspath_prepend(str(files))
    return Shell(monkeypatch, capsys, kafka, files)


@pytest.fixture(scope="module")
def worked(kafka: Secured, files: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Topics were made, events published, and a worker has taken them; each as its own user."""
    for role in ("topics-create", "publisher"):
        arguments = [argument.format(events=files / "events") for argument in COMMANDS[role]]
        env = by_password(kafka, role)
        done = subprocess.run([command(), *arguments], env=inherited(env), capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stderr
    with Process(kafka, files, tmp_path_factory.mktemp("worker"), log_level="debug") as worker:
        wait_for(lambda: "ready: partitions [0, 1, 2, 3]" in worker.said, 30)
        watch = ["watch", "--from-beginning", "--limit", "9"]
        env = inherited(by_password(kafka, "consumer"))
        seen = subprocess.run([command(), *watch], env=env, capture_output=True, text=True, timeout=60, check=False)
        assert 9 == len(seen.stdout.splitlines()), seen.stderr
        worker.process.terminate()
        assert 0 == worker.process.wait(30)
        assert kafka.password not in worker.said


class Process:
    """A worker as the user `worker`, its lines in a file."""

    def __init__(self, kafka: Secured, files: Path, folder: Path, user: str = "worker", **settings: object) -> None:
        self._log = folder / "log"
        env = by_password(kafka, user, model=files / "model", data_dir=folder / "data", **settings)
        with self._log.open("wb") as output:
            self.process = subprocess.Popen([command(), "worker"], env=inherited(env), stdout=output, stderr=output)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if error is not None:
            error.add_note(f"worker said:\n{self.said[-5000:]}")

    @property
    def said(self) -> str:
        """All lines so far."""
        return self._log.read_text()


def inherited(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child process."""
    return {**os.environ, **env}


@pytest.mark.parametrize(
    ("mechanism", "user"), [("SCRAM-SHA-512", "publisher"), ("SCRAM-SHA-256", "older"), ("PLAIN", "plain")]
)
@pytest.mark.usefixtures("worked")
def test_passwords(kafka: Secured, shell: Shell, tmp_path: Path, mechanism: str, user: str) -> None:
    """Each mechanism lets in whoever knows the password, from a file too, and says who was refused with a wrong one."""
    if user != "publisher":
        kafka.add_user("older", mechanism="SCRAM-SHA-256")
        kafka.grant(user, ROLES["publisher"])
    (tmp_path / "password").write_text(kafka.password + "\n")
    told = {"sasl_mechanism": mechanism, "sasl_password": None, "sasl_password_file": tmp_path / "password"}
    code, said, error = shell(COMMANDS["publisher"], by_password(kafka, user, **told))
    assert (0, "") == (code, error)
    assert said.startswith("published 10 events to user-events")
    line = shell.refused(COMMANDS["publisher"], by_password(kafka, user, sasl_mechanism=mechanism, sasl_password="no"))
    assert line.startswith(f"broker {kafka.at('SASL_SSL')} refuses user '{user}': Authentication failed")
    assert line.endswith("; look at INTEREST_SASL_USERNAME and INTEREST_SASL_PASSWORD(_FILE)")


@pytest.mark.usefixtures("worked")
def test_in_the_clear(kafka: Secured, shell: Shell) -> None:
    """SASL without TLS works, and warns once."""
    told = {"security_protocol": "sasl_plaintext", "broker": kafka.at("SASL_PLAINTEXT"), "ssl_ca_file": None}
    code, _, error = shell(COMMANDS["publisher"], by_password(kafka, "publisher", **told))
    assert 0 == code
    assert ["warning: INTEREST_SECURITY_PROTOCOL=sasl_plaintext:"] == [
        " ".join(line.split()[:2]) for line in error.splitlines()
    ]


@pytest.mark.usefixtures("worked")
def test_certificates(kafka: Secured, shell: Shell) -> None:
    """A client's certificate lets it in, with a locked key too; without one, a line says that it is wanted."""
    kafka.grant("CN=client", ROLES["publisher"])
    locked = {"ssl_key_file": kafka.keys / "locked.key", "ssl_key_password": "of-the-key"}
    for changed in ({}, locked):
        assert 0 == shell(COMMANDS["publisher"], by_certificate(kafka, **changed))[0]
    line = shell.refused(COMMANDS["publisher"], by_certificate(kafka, ssl_cert_file=None, ssl_key_file=None))
    assert line.startswith(f"broker {kafka.at('SSL')} refuses TLS: ")
    assert line.endswith("if it wants one of the client, set INTEREST_SSL_CERT_FILE and INTEREST_SSL_KEY_FILE")


@pytest.mark.usefixtures("worked")
def test_tokens(kafka: Secured, shell: Shell) -> None:
    """A function's token lets its subject in; one that is refused, and a function that fails, are told by name."""
    told = {"sasl_mechanism": "OAUTHBEARER", "sasl_username": None, "sasl_password": None}

    def env(function: str) -> dict[str, str]:
        return by_password(kafka, "", **told, sasl_token_provider=f"gives_tokens:{function}")

    assert 0 == shell(COMMANDS["publisher"], env("token"))[0]
    refused = "refuses the user of gives_tokens:refused's token: "
    assert refused in shell.refused(COMMANDS["publisher"], env("refused"))
    failed = "INTEREST_SASL_TOKEN_PROVIDER: gives_tokens:fails failed: RuntimeError"
    assert failed == shell.refused(COMMANDS["publisher"], env("fails"))


@pytest.mark.usefixtures("worked")
def test_not_trusted(kafka: Secured, shell: Shell) -> None:
    """An unknown CA, and a name that is not in the certificate, at first or as the broker gives it out."""
    listed = COMMANDS["deadletters-list"]
    other = shell.refused(listed, by_password(kafka, "deadletters-list", ssl_ca_file=kafka.keys / "other.crt"))
    assert other == (
        f"broker {kafka.at('SASL_SSL')}: its certificate is not trusted: unable to get local issuer certificate; set "
        "INTEREST_SSL_CA_FILE to the CA that has signed it"
    )
    name = shell.refused(listed, by_password(kafka, "deadletters-list", broker=kafka.at("SASL_SSL", "localhost")))
    assert name.startswith(f"broker {kafka.at('SASL_SSL', 'localhost')}: its certificate is for another name: Hostname")
    assert name.endswith("; name the broker in INTEREST_BROKER as its certificate does")
    given = shell.refused(listed, by_certificate(kafka, broker=kafka.at("RENAMED")))
    assert "sends its clients to a name that its certificate is not for" in given


@pytest.mark.usefixtures("worked")
def test_wrong_port(kafka: Secured, shell: Shell) -> None:
    """TLS where there is none, none where it is, and the same of SASL: each line names the setting."""
    listed = COMMANDS["deadletters-list"]
    plain = {"ssl_ca_file": None, "security_protocol": "plaintext", "sasl_mechanism": None, "sasl_username": None}
    plain["sasl_password"] = None
    here, there, bare = kafka.at("SASL_SSL"), kafka.address, kafka.at("SASL_PLAINTEXT")
    assert f"broker {there} speaks no TLS there: " in shell.refused(listed, by_password(kafka, "worker", broker=there))
    assert f"broker {here} speaks TLS: set INTEREST_SECURITY_PROTOCOL to ssl or sasl_ssl, got plaintext" == (
        shell.refused(listed, by_password(kafka, "worker", **plain))
    )
    assert f"broker {bare} expects SASL (" in shell.refused(listed, by_password(kafka, "worker", **plain, broker=bare))
    assert f"broker {kafka.at('RENAMED')} expects no SASL there: " in (
        shell.refused(listed, by_password(kafka, "worker", broker=kafka.at("RENAMED")))
    )


@pytest.mark.usefixtures("worked")
def test_worker_without_each_right(
    kafka: Secured, files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The check before a worker's start names exactly what its user may not do; the worker ends with that line."""
    for name, value in by_password(kafka, "worker", model=files / "model", data_dir=tmp_path).items():
        monkeypatch.setenv(name, value)
    for need in ROLES["worker"]:
        kafka.revoke("worker", need)
        with pytest.raises(AccessError) as caught:
            topics.check(load())
        # Who has lost the last right that goes with Describe may not know of the topic: then all are named.
        assert f"{need.operation} {need.kind} {need.name}" in str(caught.value)
        assert str(caught.value).endswith(f"--{need.kind} {need.name}")
        if need.kind == "group":
            with Process(kafka, files, tmp_path) as worker:
                assert 1 == worker.process.wait(30)
            assert [f"error: {told(kafka, 'worker', need)}"] == [
                line for line in worker.said.splitlines() if " INFO " not in line
            ]
        kafka.grant("worker", [need])
    assert set(load().event_topics) < set(topics.check(load()))


def told(kafka: Secured, user: str, need: Need) -> str:
    """The line for one operation that is missing."""
    return (
        f"user '{user}' may not {need.operation} {need.kind} {need.name}: grant it by kafka-acls.sh --bootstrap-server "
        f"{kafka.at('SASL_SSL')} --add --allow-principal User:{user} --operation {need.operation} "
        f"--{need.kind} {need.name}"
    )


@pytest.mark.usefixtures("worked")
def test_stops_after_its_session(kafka: Secured, files: Path, tmp_path: Path) -> None:
    """A worker whose connections the broker ends, each at its next request, as it stops: it ends as any other."""
    with Process(kafka, files, tmp_path) as worker:
        wait_for(lambda: "ready: partitions [0, 1, 2, 3]" in worker.said, 30)
        time.sleep(SESSION_S)
        worker.process.terminate()
        assert 0 == worker.process.wait(30)


@pytest.mark.usefixtures("worked")
def test_worker_loses_rights(kafka: Secured, files: Path, tmp_path: Path) -> None:
    """One that runs ends with the line of what it may not do any more, and without traces."""
    kafka.add_user("losing")
    kafka.grant("losing", ROLES["worker"])
    read = Need("Read", "topic", "user-events")
    with Process(kafka, files, tmp_path, "losing", session_timeout_s=6) as worker:
        wait_for(lambda: "ready: partitions" in worker.said, 30)
        kafka.revoke("losing", read)
        assert 1 == worker.process.wait(30)
        assert worker.said.endswith(f"CRITICAL {told(kafka, 'losing', read)}\n")
        assert "Traceback" not in worker.said


@pytest.mark.usefixtures("worked")
def test_worker_is_refused(kafka: Secured, files: Path, tmp_path: Path) -> None:
    """Brokers make clients connect anew at times: a worker whose password was changed ends then, and says so."""
    kafka.add_user("changing")
    kafka.grant("changing", ROLES["worker"])
    with Process(kafka, files, tmp_path, "changing", session_timeout_s=6) as worker:
        wait_for(lambda: "ready: partitions" in worker.said, 30)
        kafka.add_user("changing", password="another")
        assert 1 == worker.process.wait(60)
        line = worker.said.splitlines()[-1]
        assert f"CRITICAL broker {kafka.at('SASL_SSL')} refuses user 'changing': " in line
        assert kafka.password not in worker.said


@pytest.mark.usefixtures("worked")
@pytest.mark.parametrize("role", [*COMMANDS])
def test_each_role(kafka: Secured, shell: Shell, role: str) -> None:
    """Without a right of its list a command ends with the line that names it; with exactly these it does its work."""
    arguments, env = COMMANDS[role], by_password(kafka, role)
    wait_for(lambda: not members(Cluster(kafka.address), "interest"), 30)  # of workers that ended in tests before
    # Create comes first, as long as a topic is not there; those of topics-create are, see below.
    needs = [need for need in ROLES[role] if need.operation == "Create" and role != "topics-create"]
    needs += [need for need in ROLES[role] if need.operation != "Create"]
    for need in needs:
        kafka.revoke(role, need)
        line = shell.refused(arguments, env)
        assert f"user '{role}' may not " in line
        assert f"{need.operation} {need.kind} {need.name}" in line
        kafka.grant(role, [need])
    code, _, error = shell(arguments, env)
    assert 0 == code, error


def test_create_is_named(kafka: Secured, shell: Shell) -> None:
    """Who may not make a topic, or not know of it, is told all that is missing at once."""
    kafka.add_user("nobody")
    line = shell.refused(["topics", "create", "--app-id", "fresh"], by_password(kafka, "nobody"))
    assert "Create topic fresh-users-changelog, Describe topic fresh-users-changelog, " in line
    kafka.grant("nobody", [need for need in ROLES["topics-create"] if need.operation != "Create"])
    kafka.grant("nobody", [Need("Describe", "topic", "made"), Need("DescribeConfigs", "topic", "made")])
    line = shell.refused(["topics", "create", "--update-topic", "made"], by_password(kafka, "nobody"))
    assert "user 'nobody' may not Create topic made: grant it by " in line
