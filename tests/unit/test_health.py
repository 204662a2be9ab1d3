"""The probes and the metrics of a worker, asked over HTTP."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from stream import health
from stream.errors import InterestError, UsageError
from stream.progress import Phase, Progress, Reached

STALL_S = 60.0


@pytest.fixture
def progress() -> Progress:
    """Of a worker that starts."""
    return Progress(time.monotonic())


@pytest.fixture
def address(progress: Progress) -> Iterator[str]:
    """Where it is asked."""
    with health.serve("127.0.0.1:0", progress, STALL_S, lambda: b"interest_records_total 5\n") as where:
        yield where


def ask(address: str, path: str, method: str = "GET") -> tuple[int, str, dict[str, str]]:
    """Status, body and headers of an answer."""
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def test_it_lives(address: str) -> None:
    """A process that answers lives, whatever it is about: a stall is for the watchdog, a restart helps no recovery."""
    assert (200, "alive\n") == ask(address, "/livez")[:2]


def test_ready_when_it_runs(address: str, progress: Progress) -> None:
    """Not ready until it runs, with the reason; ready then; red again while it stops (P8)."""
    time.sleep(0.01)
    progress.tick(time.monotonic())
    status, body, _ = ask(address, "/readyz")
    assert 503 == status
    assert body.startswith("starting: joining the group for ")

    progress.enter(Phase.RUNNING, time.monotonic())
    assert (200, "ready\n") == ask(address, "/readyz")[:2]

    progress.enter(Phase.DRAINING, time.monotonic())
    assert 503 == ask(address, "/readyz")[0]


def test_started_once_it_has_run(address: str, progress: Progress) -> None:
    """A start probe is red while the worker loads, joins and recovers, with how far that is; then green for ever,
    whatever comes (O05)."""
    progress.begin("loading the model", time.monotonic())
    status, body, _ = ask(address, "/startupz")
    assert 503 == status
    assert body.startswith("starting: loading the model for ")

    progress.enter(Phase.RECOVERING, time.monotonic())
    assert (503, "recovering: asking where the changelog ends\n") == ask(address, "/startupz")[:2]
    progress.recover({("log", 3): Reached(12_000, 80_000), ("log", 1): Reached(29_000, 20_000)})
    assert (503, "recovering: log/3 at 12,000 of 80,000 (41 % of all)\n") == ask(address, "/startupz")[:2]

    for phase in (Phase.RUNNING, Phase.REBALANCING, Phase.RECOVERING, Phase.DRAINING):
        progress.enter(phase, time.monotonic())
        assert (200, "started\n") == ask(address, "/startupz")[:2]


def test_stopped_before_it_had_started(address: str, progress: Progress) -> None:
    """Who is told to stop while it recovers has never started, and says what it is about."""
    progress.enter(Phase.RECOVERING, time.monotonic())
    progress.enter(Phase.DRAINING, time.monotonic())
    time.sleep(0.01)
    progress.tick(time.monotonic())

    status, body, _ = ask(address, "/startupz")

    assert 503 == status
    assert body.startswith("draining: stopping for ")


def test_a_stall_turns_it_red(address: str, progress: Progress) -> None:
    """A partition that stands still makes the worker unready, and is named; it goes on living (P8)."""
    since = time.monotonic() - 500
    progress.enter(Phase.RUNNING, since)
    progress.reach({("events", 3): Reached(17, 40)}, since)
    progress.reach({("events", 3): Reached(17, 40)}, time.monotonic())
    progress.tick(time.monotonic())

    status, body, _ = ask(address, "/readyz")

    assert 503 == status
    assert "running: events/3 at offset 17, end 40, no progress for 500 s\n" == body
    assert 200 == ask(address, "/livez")[0]


def test_metrics(address: str) -> None:
    """The metrics come as Prometheus reads them; a query is nothing to it."""
    status, body, headers = ask(address, "/metrics?name=interest")

    assert (200, "interest_records_total 5\n") == (status, body)
    assert headers["content-type"].startswith("text/plain; version=0.0.4")


def test_nothing_else(address: str) -> None:
    """Any other path is not there, and the answer says what is."""
    for path in ("/", "/live", "/livez/", "/metrics/x", "/../etc/passwd", "/table/users"):
        assert (404, "there are /livez, /readyz, /startupz and /metrics\n") == ask(address, path)[:2]


def test_head(address: str) -> None:
    """HEAD answers as GET does, without a body."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as asking:
        asking.sendall(b"HEAD /livez HTTP/1.0\r\n\r\n")
        head, _, body = asking.makefile("rb").read().partition(b"\r\n\r\n")

    assert b"HTTP/1.0 200 OK" == head.splitlines()[0]
    assert b"Content-Length: 6" in head.splitlines()
    assert b"" == body


def test_nothing_can_be_sent(address: str) -> None:
    """The port only answers questions."""
    for method in ("POST", "PUT", "DELETE"):
        assert 501 == ask(address, "/livez", method)[0]


@pytest.mark.parametrize("wrong", ["8080", ":8080", "host", "host:", "host:http", "host:70000", "[]:80", "host:-1"])
def test_wrong_address(wrong: str, progress: Progress) -> None:
    """An address that is not HOST:PORT is a wrong call, and named."""
    with (
        pytest.raises(UsageError, match=r"^wrong health address '.*': expected HOST:PORT$") as caught,
        health.serve(wrong, progress, STALL_S, bytes),
    ):
        pass

    assert repr(wrong) in str(caught.value)


def test_taken_port(address: str, progress: Progress) -> None:
    """A port that another process has ends the start with a line that says what to do."""
    with (
        pytest.raises(InterestError) as caught,
        health.serve(address, progress, STALL_S, bytes),
    ):
        pass

    assert f"health address {address}: Address already in use; name another by --health-address HOST:PORT" == str(
        caught.value
    )


def test_unknown_host(progress: Progress) -> None:
    """So does a host that is not this machine's."""
    with (
        pytest.raises(InterestError, match=r"^health address 192\.0\.2\.1:0: .*; name another by --health-address"),
        health.serve("192.0.2.1:0", progress, STALL_S, bytes),
    ):
        pass


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6; run it on one that has")
def test_ipv6(progress: Progress) -> None:
    """An IPv6 address is written as in a URL."""
    with health.serve("[::1]:0", progress, STALL_S, bytes) as where:
        assert where.startswith("[::1]:")
        assert 200 == ask(where, "/livez")[0]


def test_a_slow_client_stops_no_other(monkeypatch: pytest.MonkeyPatch, progress: Progress) -> None:
    """Who connects and says nothing, or half of it, keeps nobody waiting."""
    monkeypatch.setattr(health, "SLOW_CLIENT_S", 600.0)
    with health.serve("127.0.0.1:0", progress, STALL_S, bytes) as address:
        ask_beside_slow_ones(address)


def ask_beside_slow_ones(address: str) -> None:
    """Ask while two connections are open that send nothing more."""
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port))) as silent,
        socket.create_connection((host, int(port))) as halting,
    ):
        halting.sendall(b"GET /live")
        assert 200 == ask(address, "/livez")[0]
        assert silent.fileno() >= 0


def test_a_slow_client_is_let_go(monkeypatch: pytest.MonkeyPatch, progress: Progress) -> None:
    """A connection on which nothing comes is closed, so that they don't gather."""
    monkeypatch.setattr(health, "SLOW_CLIENT_S", 0.05)
    with health.serve("127.0.0.1:0", progress, STALL_S, bytes) as where:
        host, _, port = where.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=60) as silent:
            assert b"" == silent.recv(1)


def test_it_ends_with_the_block(progress: Progress) -> None:
    """Afterwards nothing listens and no thread is left, and the port can be had again."""
    with health.serve("127.0.0.1:0", progress, STALL_S, bytes) as where:
        assert 200 == ask(where, "/livez")[0]
    with pytest.raises(ConnectionRefusedError):
        ask(where, "/livez")
    assert "health" not in {thread.name for thread in threading.enumerate()}

    with health.serve(where, progress, STALL_S, bytes) as again:
        assert where == again
