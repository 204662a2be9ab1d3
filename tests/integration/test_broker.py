"""The development broker: it answers, listens on this machine only, and leaves nothing behind however it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stream.broker import Broker, is_free
from stream.connect import admin
from stream.errors import BrokerError
from stream.handshake import answers
from stream.security import Cluster

INTEREST = [sys.executable, "-c", "from stream.commands import main; main()"]


@contextmanager
def interest(temporary: Path, *arguments: str) -> "Iterator[tuple[subprocess.Popen[str], str]]":
    """A running `interest broker` whose temporary folders are made under `temporary`, and its address."""
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(
        [*INTEREST, "broker", *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline().strip()
            if not ready.startswith("broker ready at 127.0.0.1:"):
                pytest.fail(f"{ready}, then: {process.communicate()[1]}")
            yield process, ready.removeprefix("broker ready at ")
        finally:
            process.kill()


def processes_with(text: str) -> list[int]:
    """Processes, zombies aside, whose command line contains `text`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue  # it ended while we looked
    return found


def wait_until_gone(temporary: Path) -> None:
    """Until no process names the folder and nothing lies in it; 20 s."""
    deadline = time.monotonic() + 20
    while left := [str(pid) for pid in processes_with(str(temporary))] + [str(path) for path in temporary.iterdir()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_answers_on_this_machine_only(broker: str) -> None:
    """The session's broker is one node that names 127.0.0.1 as its address."""
    with admin(Cluster(broker)) as client:
        nodes = client.describe_cluster()["brokers"]
    assert [f"{node['host']}:{node['port']}" for node in nodes] == [broker]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end `interest broker` with exit code 0; no process and no folder stay."""
    with interest(tmp_path) as (process, address):
        host, port = address.split(":")
        assert answers(host, int(port), 5)
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(number)
        assert process.wait(20) == 0
        assert list(tmp_path.iterdir()) == []
        assert processes_with(str(tmp_path)) == []


def test_killed_owner_takes_the_broker_along(tmp_path: Path) -> None:
    """After kill -9 of its owner the broker ends by itself and its temporary folder goes."""
    with interest(tmp_path) as (process, _):
        assert processes_with(str(tmp_path))
        process.kill()
        process.wait(5)
    wait_until_gone(tmp_path)


def test_killed_guard_takes_the_broker_along(tmp_path: Path) -> None:
    """If the process between owner and broker is killed, the broker ends and the command says so, with exit code 1."""
    with interest(tmp_path) as (process, _):
        guard = next(pid for pid in processes_with(str(tmp_path)) if b"guard.py" in cmdline(pid))
        os.kill(guard, signal.SIGKILL)
        assert process.wait(20) == 1
        assert process.stderr is not None
        assert "error: the broker ended with code -9; the end of its log:" in process.stderr.read()
    wait_until_gone(tmp_path)


def cmdline(pid: int) -> bytes:
    """The command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_told_folder_keeps_topics(tmp_path: Path) -> None:
    """A folder that is told stays, and a broker on it later, on other ports, has the topics of the first."""
    data = tmp_path / "with space"
    with Broker(data=data) as first, admin(Cluster(first.address)) as client:
        client.create_topics({"kept": {"num_partitions": 3, "replication_factor": 1}})
    with Broker(data=data) as second, admin(Cluster(second.address)) as client:
        assert second.address != first.address
        assert client.list_topics() == ["kept"]
    assert data.is_dir()


def test_taken_port(broker: str) -> None:
    """A port that is taken is named, before anything starts."""
    port = int(broker.split(":")[1])
    assert not is_free(port)
    with pytest.raises(BrokerError, match=rf"^port {port} on 127\.0\.0\.1 is taken; name another with --port$"):
        Broker(port).start()


def test_death_at_start_shows_the_log(tmp_path: Path) -> None:
    """A broker that dies while it starts gives an error with the end of its log."""
    with Broker(data=tmp_path):
        pass
    meta = tmp_path / "data" / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
    with pytest.raises(BrokerError, match=r"(?s)^the broker ended with code 1; the end of its log:\n.*node"):
        Broker(data=tmp_path).start()
