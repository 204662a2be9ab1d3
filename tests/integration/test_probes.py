"""What a cluster's probes are told from a worker's first second to its last."""

import json
import re
import uuid
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.bundles import random_bundle
from tests.faults.broker import FaultyBroker
from tests.faults.proxy import Proxy, free_port
from tests.integration.conftest import Names
from tests.integration.probes import answer, found, metrics
from tests.integration.sender import Keyed, send
from tests.integration.workers import Topics, Worker, create_topics, wait_for

TIME_MS = 1_760_000_000_000
USERS = 30_000
#: Of the broker to a client: the changelog of so many users takes seconds.
SLOW_BYTES_S = 500_000
DRAINING_LOOKS = 20
#: The worker's state is in memory: a start reads the whole changelog.
SETTINGS: dict[str, object] = {"store": "memory", "session_timeout_s": 3, "heartbeat_s": 0.5, "standby_replicas": 0}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random model."""
    folder = tmp_path_factory.mktemp("m") / "bundle"
    return random_bundle(folder, item_ids=["i0", "i1"], item_categories=["c", "c"]).folder


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyBroker]:
    """A broker of its own behind a proxy."""
    with Proxy() as proxy, FaultyBroker(tmp_path_factory.mktemp("broker") / "data", proxy) as broker:
        yield broker


@pytest.fixture
def names(faulty: FaultyBroker) -> Names:
    """Names of this test alone."""
    tag = uuid.uuid4().hex[:12]
    return Names(faulty.address, f"app-{tag}", f"events-{tag}", f"updates-{tag}", f"dead-{tag}")


def clicks(users: Iterable[int]) -> list[Keyed]:
    """A click of each user."""
    made = {"type": "click", "item_id": "i0", "timestamp": TIME_MS}
    return [(b"u%d" % user, json.dumps(made | {"user_id": f"u{user}"}).encode()) for user in users]


def test_from_the_first_second_to_the_last(names: Names, faulty: FaultyBroker, model: Path, tmp_path: Path) -> None:
    """/startupz is red while a worker starts and recovers, with how far that is, and green for ever once it runs, also
    on a spare worker without partitions. While it drains, /livez is 200 and /readyz 503, until all is committed (P8,
    O05)."""
    create_topics(names, 1)
    port, spare_port = free_port(), free_port()
    ask = partial(answer, port)
    with Topics(names) as topics:
        send(names.broker, names.event_topic, clicks(range(USERS)))
        with Worker(names, model, tmp_path / "a" / "state", **SETTINGS) as worker:
            topics.wait_done(worker)
            assert 0 == worker.stop()

        faulty.proxy.slow(bytes_s=SLOW_BYTES_S)
        place = {"broker": faulty.proxied, "health_address": f"127.0.0.1:{port}"}
        with Worker(names, model, tmp_path / "a" / "state", **SETTINGS, **place) as worker:

            def look(code: int, text: str) -> bool:
                """Whether a start probe is answered so; what comes before it is no answer, or a red one."""
                found_code, said = ask("/startupz")
                assert found_code in {0, 503, code}, said
                return found_code == code and re.search(text, said) is not None

            wait_for(lambda: look(503, "^starting: "), 60, [worker])
            assert (200, 503) == (ask("/livez")[0], ask("/readyz")[0])
            assert 1 == metrics(port)['interest_phase{phase="starting"}']
            place_read = rf"^recovering: {names.changelog_topic}/0 at [1-9][\d,]* of 30,0\d\d \(\d+ % of all\)\n$"
            wait_for(lambda: look(503, place_read), 60, [worker])
            assert 0 < found(port, "interest_recovery_position")[0] < found(port, "interest_recovery_end")[0]
            assert [] == found(port, "interest_lag")
            assert (200, 503) == (ask("/livez")[0], ask("/readyz")[0])
            faulty.proxy.slow()
            wait_for(lambda: look(200, "^started\n$"), 60, [worker])
            wait_for(lambda: ask("/readyz")[0] == 200 and found(port, "interest_lag") == [0], 60, [worker])
            assert found(port, "interest_recovery_position") == found(port, "interest_recovery_end")
            assert [USERS] == found(port, "interest_recovered_records_total")

            with Worker(
                names, model, tmp_path / "b" / "state", **SETTINGS, health_address=f"127.0.0.1:{spare_port}"
            ) as spare:
                wait_for(lambda: answer(spare_port, "/startupz")[0] == 200, 60, [worker, spare])
                wait_for(lambda: answer(spare_port, "/readyz")[0] == 200, 60, [worker, spare])
                wait_for(lambda: found(port, "interest_lag") == [0], 60, [worker, spare])
                assert [] == found(spare_port, "interest_lag")
                assert 200 == ask("/startupz")[0]
                assert 0 == spare.stop()
            wait_for(lambda: found(port, "interest_lag") == [0], 60, [worker])

            send(names.broker, names.event_topic, clicks([USERS]))  # a producer that was never answered sends nothing
            topics.wait_done(worker)
            faulty.proxy.hold("acknowledgements")
            updates = topics.updates()
            send(names.broker, names.event_topic, clicks(range(USERS, USERS + 20)))
            wait_for(lambda: topics.updates() > updates, 60, [worker])
            worker.process.terminate()
            wait_for(lambda: ask("/readyz")[1].startswith("draining: "), 60, [worker])
            for _ in range(DRAINING_LOOKS):
                assert [200, 503, 200, 200] == [ask(path)[0] for path in ("/livez", "/readyz", "/startupz", "/metrics")]
            assert topics.lag() > 0
            faulty.proxy.release()
            codes = {200}
            while 0 not in codes:
                codes.add(ask("/livez")[0])
            assert {200, 0} == codes
            assert 0 == topics.lag()
            assert 0 == worker.process.wait(60)
