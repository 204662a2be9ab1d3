"""What a worker does when Kafka does not take what it has to say: it waits or ends, commits nothing, is not silent.

Afterwards, with all in order again, the outcome is what the rules say.
"""

import json
import re
import time
import uuid
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from stream.connect import admin
from stream.publisher import partition_of
from stream.topics import describe
from tests.bundles import random_bundle
from tests.faults.broker import FaultyBroker
from tests.faults.outcome import compare, read, read_outcome
from tests.faults.proxy import Proxy, free_port
from tests.integration.conftest import Names
from tests.integration.probes import answer, found, metrics
from tests.integration.sender import Keyed, send
from tests.integration.workers import Topics, Worker, create_topics, wait_for
from tests.reference import Model, Rules

TIME_MS = 1_760_000_000_000
ITEMS = 20
EXIT_STALL = 73
#: Events, and bytes of each.
BURST, SIZE = 300, 200_000
RULES = Rules()
SETTINGS: dict[str, object] = {"session_timeout_s": 3, "heartbeat_s": 0.5, "commit_interval_s": 0.2}
STALL: dict[str, object] = {"stall_s": 2, "stall_exit_s": 7}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A small random model."""
    items = [f"i{n}" for n in range(ITEMS)]
    return Model(random_bundle(tmp_path_factory.mktemp("m") / "bundle", item_ids=items, item_categories=["c"] * ITEMS))


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyBroker]:
    """A broker of its own behind a proxy."""
    with Proxy() as proxy, FaultyBroker(tmp_path_factory.mktemp("broker") / "data", proxy) as broker:
        yield broker


@pytest.fixture
def names(faulty: FaultyBroker) -> Iterator[Names]:
    """Names of this test alone; broker and proxy are mended afterwards."""
    tag = uuid.uuid4().hex[:12]
    yield Names(faulty.address, f"app-{tag}", f"events-{tag}", f"updates-{tag}", f"dead-{tag}")
    faulty.proxy.mend()
    faulty.mend()


def events(numbers: Iterable[int], users: int = 5, **fields: object) -> list[Keyed]:
    """Clicks of several users, `number` seconds after the start."""
    records: list[Keyed] = []
    for number in numbers:
        user = f"u{number % users}"
        made = {"user_id": user, "type": "click", "item_id": f"i{number % ITEMS}", "timestamp": TIME_MS + 1000 * number}
        records.append((user.encode(), json.dumps(made | fields).encode()))
    return records


def limit(names: Names, topic: str, size: int) -> None:
    """Set the largest record batch that a topic takes."""
    with admin(names.cluster) as client:
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(size)})])
    wait_for(lambda: describe(names.cluster, [topic])[topic].configs["max.message.bytes"] == str(size), 30)


def peak_bytes(worker: Worker) -> int:
    """The most memory that the worker has had."""
    line = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{worker.process.pid}/status").read_text())
    assert line is not None
    return int(line[1]) * 1024


def test_topics_refuse(names: Names, model: Model, tmp_path: Path) -> None:
    """Updates that their topic does not take end the worker, which names the topic; a topic of dead letters that is
    gone is a stall, and it tells the partition and where it stands. The commit never goes past; once all is mended, all
    is exact (P4, P5, P8; L01)."""
    create_topics(names, 1)
    start = partial(Worker, names, model.bundle.folder, tmp_path / "state", **SETTINGS)
    with Topics(names) as topics:
        send(names.broker, names.event_topic, [(b"u1", b"hello"), *events(range(10))])
        limit(names, names.update_topic, 200)
        with start() as worker:
            assert 1 == worker.process.wait(60)
            last = worker.said.splitlines()[-1]
            assert f"batch ({names.event_topic}/0 from 0) failed: " in last
            assert f"{names.update_topic}/0 does not take what is sent" in last
            assert "MessageSizeTooLarge" in last
            assert "Traceback" not in worker.said
        assert {0: 0} == topics.committed()
        limit(names, names.update_topic, 1_048_588)

        with start(stall_s=2) as worker:
            topics.wait_done(worker)
            letters = read(names.broker, names.deadletter_topic)
            with admin(names.cluster) as client:
                client.delete_topics([names.deadletter_topic])
            send(names.broker, names.event_topic, [(b"u1", b"hello"), *events(range(10, 15))])
            wait_for(lambda: f"stalled: {names.event_topic}/0 at offset 11, end 17, " in worker.said, 60, [worker])
            worker.kill()
        assert {0: 11} == topics.committed()

        create_topics(names, 1)
        with start() as worker:
            topics.wait_done(worker)
            assert 0 == worker.stop()

    letters += read(names.broker, names.deadletter_topic)
    source, changelog, updates = (
        read(names.broker, topic) for topic in (names.event_topic, names.changelog_topic, names.update_topic)
    )
    outcome = compare(source, changelog, updates, letters, model=model, rules=RULES)
    assert outcome.exact, str(outcome)
    assert 15 == outcome.accepted


def test_broker_silent_and_slow(names: Names, faulty: FaultyBroker, model: Model, tmp_path: Path) -> None:
    """What waits for acknowledgements turns /readyz red, which tells the partition and where it stands, until they
    come. A broker that answers nothing does too; then the worker ends with 73 and says so. A burst behind a slow
    network costs no memory, it only takes long. While a worker that was told to stop waits, it is alive, not ready, and
    says why; then it ends with 0. All is exact (P3, P4, P8; L01, L07, O05)."""
    create_topics(names, 4)
    port = free_port()
    start = partial(
        Worker,
        names,
        model.bundle.folder,
        tmp_path / "state",
        broker=faulty.proxied,
        health_address=f"127.0.0.1:{port}",
        **SETTINGS,
    )
    with Topics(names) as topics:
        with start(**STALL) as worker:
            send(names.broker, names.event_topic, events(range(20)))
            topics.wait_done(worker)
            wait_for(lambda: sum(found(port, "interest_position")) == 20, 60, [worker])
            assert 200 == answer(port, "/readyz")[0]
            faulty.proxy.hold("acknowledgements")
            place = partition_of(b"u0", 4)
            before = topics.ends(names.event_topic)[place]
            send(names.broker, names.event_topic, events(range(20, 25), users=1))
            wait_for(lambda: answer(port, "/readyz")[0] == 503, 60, [worker])
            assert f"{names.event_topic}/{place} at offset {before}, end {before + 5}" in answer(port, "/readyz")[1]
            assert 0 == metrics(port)["interest_ready"]
            faulty.proxy.release()
            topics.wait_done(worker)
            wait_for(lambda: answer(port, "/readyz")[0] == 200, 60, [worker])
            faulty.pause()
            wait_for(lambda: answer(port, "/readyz")[0] == 503, 60, [worker])
            assert "no answer from the broker" in answer(port, "/readyz")[1]
            assert 200 == answer(port, "/livez")[0]
            assert worker.process.wait(60) == EXIT_STALL
            assert "no answer from the broker" in worker.said.splitlines()[-1]
            assert names.event_topic in worker.said.splitlines()[-1]
            faulty.resume()

        with start(batch_max_events=500) as worker:
            worker.wait_ready()
            before = peak_bytes(worker)
            faulty.proxy.slow(bytes_s=1_000_000)
            send(names.broker, names.event_topic, events(range(25, BURST), unknown="x" * SIZE))
            time.sleep(2)
            assert topics.lag() > BURST / 2
            faulty.proxy.slow()
            topics.wait_done(worker)
            assert peak_bytes(worker) - before < BURST * SIZE / 2

            faulty.proxy.hold("acknowledgements")
            send(names.broker, names.event_topic, events(range(BURST, BURST + 20), users=1))
            wait_for(lambda: topics.updates() > 0, 60, [worker])
            worker.process.terminate()
            wait_for(lambda: "draining" in answer(port, "/readyz")[1], 60, [worker])
            assert (200, 503) == (answer(port, "/livez")[0], answer(port, "/readyz")[0])
            values = metrics(port)
            assert 1 == values['interest_phase{phase="draining"}']
            assert BURST - 25 == values['interest_events_total{outcome="accepted"}']
            assert BURST - 25 == values["interest_records_total"]
            assert 0 < values["interest_batches_total"] <= values["interest_updates_total"]
            faulty.proxy.release()
            assert 0 == worker.process.wait(60)

    outcome = read_outcome(names, model, RULES)
    assert outcome.exact, str(outcome)
    assert BURST + 20 == outcome.accepted
