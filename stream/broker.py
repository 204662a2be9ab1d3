"""The development broker: Apache Kafka itself, one KRaft node on 127.0.0.1, started and stopped with its owner."""

import base64
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Self

from stream import guarded
from stream.connect import admin
from stream.errors import BrokerError
from stream.handshake import answers
from stream.jars import fetch_jars, find_java
from stream.security import Cluster

HOST = "127.0.0.1"
START_S = 60.0
ATTEMPTS = 3  # a free port can be taken by another between our look and Kafka's bind

# For one developer on one machine: one replica, few internal partitions, nothing removed by age, no wait for a
# group's members, sessions down to a second for tests. The cleaner's buffer is a quarter of the heap by default.
PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers={host}:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=data
log.retention.ms=-1
log.cleaner.dedupe.buffer.size=16777216
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
"""

LOGGING = """\
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
"""


class Broker:
    """One Kafka broker for as long as a `with` block, or from `start` to `stop`.

    `port` and `data` are free and temporary unless told; a folder that is told is kept, a temporary one removed.
    `report` is told in one line what takes long. `properties` are lines that come after PROPERTIES and win over them.
    The broker ends with this process, even if that is killed.
    """

    def __init__(
        self,
        port: int | None = None,
        data: Path | None = None,
        report: Callable[[str], None] = lambda _line: None,
        properties: str = "",
    ) -> None:
        self._told_port = port
        self._told_data = data
        self._report = report
        self._properties = PROPERTIES + properties
        self._folder: Path | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self.port = port or 0

    @property
    def address(self) -> str:
        """HOST:PORT, once started."""
        return f"{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start, and return once the broker answers.

        Raises:
            BrokerError: Java, Maven or the port cannot be had, or the broker ends or is silent for 60 s; with the
                end of its log.
        """
        java = find_java()
        jars = fetch_jars(self._report)
        if self._told_port is not None and not is_free(self._told_port):
            raise BrokerError(f"port {self._told_port} on {HOST} is taken; name another with --port")
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._launch(java, jars)
                self._wait()
                return
            except BaseException as error:
                clash = isinstance(error, BrokerError) and "Address already in use" in self._log_tail(200)
                self.stop()
                if not clash or attempt == ATTEMPTS or not is_free(self._told_port or 0):
                    raise

    def stop(self) -> None:
        """End the broker and remove its folder if that is temporary. Nothing happens if it does not run."""
        if self._guard is not None:
            guarded.stop(self._guard)
            self._guard = None
        if self._folder is not None and self._told_data is None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    def check(self) -> None:
        """Raises BrokerError, with the end of its log, if the broker has ended by itself."""
        code = None if self._guard is None else self._guard.poll()
        if code is not None:
            raise BrokerError(
                f"the broker ended with {guarded.how_ended(code)}; the end of its log:\n{self._log_tail(12)}"
            )

    def _launch(self, java: str, jars: Path) -> None:
        self._folder = folder = self._make_folder()
        self.port, controller = _free_ports(self._told_port)
        (folder / "tmp").mkdir(exist_ok=True)
        (folder / "server.properties").write_text(
            self._properties.format(host=HOST, port=self.port, controller=controller)
        )
        (folder / "log4j2.properties").write_text(LOGGING)
        # Without perf data and with a tmpdir of its own, Java leaves nothing in /tmp.
        base = [java, "-XX:-UsePerfData", f"-Djava.io.tmpdir={folder / 'tmp'}", "-Djava.net.preferIPv4Stack=true"]
        base += ["-Dlog4j2.configurationFile=log4j2.properties", "-cp", f"{jars}/*"]
        self._format(base)
        command = [base[0], "-Xms128m", "-Xmx512m", "-XX:+ExitOnOutOfMemoryError", *base[1:]]
        command += ["kafka.Kafka", "server.properties"]
        self._guard = guarded.start(command, folder, folder / "broker.log", temporary=self._told_data is None)

    def _make_folder(self) -> Path:
        if self._told_data is None:
            return Path(mkdtemp(prefix="interest-broker-"))
        try:
            self._told_data.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BrokerError(f"data folder {self._told_data}: {error.strerror}") from error
        return self._told_data.resolve()

    def _format(self, base: list[str]) -> None:
        """Give the folder its cluster id, unless it has one."""
        assert self._folder is not None
        if (self._folder / "data" / "meta.properties").exists():
            return
        tool = ["kafka.tools.StorageTool", "format", "--standalone", "-t", _new_id(), "-c", "server.properties"]
        answer = subprocess.run(
            [base[0], "-XX:TieredStopAtLevel=1", *base[1:], *tool],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode != 0:
            raise BrokerError(f"Kafka could not format {self._folder}:\n{answer.stdout}{answer.stderr}".rstrip())

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while (found := self._cluster_id()) is None:
            self.check()
            if time.monotonic() > deadline:
                raise BrokerError(f"the broker did not answer in {START_S:.0f} s; its log:\n{self._log_tail(12)}")
            time.sleep(0.1)
        assert self._folder is not None
        if f"cluster.id={found}" not in (self._folder / "data" / "meta.properties").read_text():
            raise BrokerError(f"another broker (cluster {found}) answers at {self.address}")

    def _cluster_id(self) -> str | None:
        """What the broker says; None: nothing yet. On a busy machine it takes connections before it answers all."""
        if not answers(HOST, self.port, 1.0):
            return None
        try:
            with admin(Cluster(self.address)) as client:
                return str(client.describe_cluster()["cluster_id"])
        except BrokerError:
            return None

    def _log_tail(self, lines: int) -> str:
        log = None if self._folder is None else self._folder / "broker.log"
        if log is None or not log.exists():
            return ""
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _new_id() -> str:
    """A cluster id as Kafka writes them: 16 random bytes in URL-safe base64, without a dash in front."""
    while (name := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return name


def is_free(port: int) -> bool:
    """Whether a listener could take the port on 127.0.0.1 now; 0 stands for any."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError:
            return False
    return True


def _free_ports(told: int | None) -> tuple[int, int]:
    """A port for clients, `told` if there is one, and one for the controller."""
    with socket.socket() as first, socket.socket() as second:
        first.bind((HOST, 0))
        second.bind((HOST, 0))
        return told or first.getsockname()[1], second.getsockname()[1]
