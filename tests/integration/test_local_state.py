"""Local copies that must not be used: whatever lies in the data folder, what comes out is what the events say."""

import json
import resource
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import rocksdict
from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from stream import localstate, store
from stream.connect import admin
from stream.contract import EVENT_DTYPE
from stream.ending import EXIT_FAILURE
from stream.localstate import Note
from stream.publisher import partition_of
from stream.store import RocksStore
from stream.topics import COMPACT_CONFIG, describe
from stream.value import UserState, pack
from tests.bundles import random_bundle
from tests.faults.outcome import read_outcome
from tests.integration.conftest import Names
from tests.integration.sender import Keyed, send
from tests.integration.workers import Topics, Worker, create_topics, last_values, read, wait_for
from tests.reference import Model, Rules, read_value

TIME_MS = 1_700_000_000_000
USERS = [*(f"u{number}" for number in range(40)), "\x01\n", "名\u2028", '"u1"']
SETTINGS = {"session_timeout_s": 3, "heartbeat_s": 0.5, "commit_interval_s": 0.2}

Database = rocksdict.Rdict


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A small random model."""
    items = [f"i{number}" for number in range(20)]
    return Model(
        random_bundle(tmp_path_factory.mktemp("model") / "b", item_ids=items, item_categories=["c"] * len(items))
    )


def events(users: Iterable[str], first: int, count: int = 1) -> list[Keyed]:
    """Clicks of each user, seconds `first` and on after the start."""
    return [
        (user.encode(), json.dumps({"user_id": user, "type": "click", "item_id": f"i{at % 23}", **when(at)}).encode())
        for at in range(first, first + count)
        for user in users
    ]


def when(second: int) -> dict[str, int]:
    """The time field."""
    return {"timestamp": TIME_MS + 1000 * second}


def ghosts(partitions: int) -> list[str]:
    """A user of each partition who has no events yet."""
    named = [f"ghost{number}" for number in range(100)]
    return [next(name for name in named if partition_of(name.encode(), partitions) == p) for p in range(partitions)]


def copy_of(folder: Path, partition: int) -> Path:
    """Where a worker keeps its copy of a partition."""
    return folder / "v1" / "tables" / f"users-{partition}.db"


def haunt(copy: Path, ghost: str, spoil: Callable[[Database], None] | None = None) -> None:
    """Put a user into a copy that the changelog does not know, and do what else makes it unfit.

    Whoever uses the copy counts the user's first event as his eighth.
    """
    database = rocksdict.Rdict(str(copy), options=rocksdict.Options(raw_mode=True))
    database.put(ghost.encode(), pack(UserState(7, 0, {}, np.zeros(1, EVENT_DTYPE))))
    if spoil is not None:
        spoil(database)
    database.flush()
    database.close()


def make_old(database: Database) -> None:
    """Written four days ago, of seven for which tombstones are kept."""
    note = localstate.unpack(cast(bytes, database.get(store._NOTE_KEY)))
    older = Note(note.format, note.changelog, note.topic_id, note.written_ms - 4 * 86_400_000)
    database.put(store._NOTE_KEY, localstate.pack(older))


def put_ahead(database: Database) -> None:
    """Thousands of records ahead of the changelog."""
    database.put(RocksStore.offset_key, b"5000")


def put_back(database: Database) -> None:
    """At the changelog's second record."""
    database.put(RocksStore.offset_key, b"1")


def forget_note(database: Database) -> None:
    """As a version wrote it that kept no note."""
    database.delete(store._NOTE_KEY)


def make_newer(database: Database) -> None:
    """As a later version may write it."""
    database.put(store._NOTE_KEY, b'{"format":9}')


def cut(copy: Path) -> None:
    """Every file with values lacks its second half."""
    for table in copy.glob("*.sst"):
        table.write_bytes(table.read_bytes()[: table.stat().st_size // 2])


def assert_exact(names: Names, model: Model) -> None:
    """Nothing lost, nothing twice, all vectors the model's."""
    outcome = read_outcome(names, model, Rules())
    assert outcome.exact, outcome


def test_unfit_copies(names: Names, model: Model, tmp_path: Path) -> None:
    """Six copies, each unfit in another way: each is thrown away with its reason, and all is exact (R10, R01, P2, P3).

    Ahead of the changelog, behind its start, of an older and of a later format, too old, half written. Users of any
    characters survive that (K06), and one whom the changelog has forgotten stays forgotten (P7).
    """
    create_topics(names, partitions=6)
    state, who = tmp_path / "state", ghosts(6)
    send(names.broker, names.event_topic, events(USERS, 0))
    with Worker(names, model.bundle.folder, state, **SETTINGS) as worker, Topics(names) as topics:
        topics.wait_done(worker)
        send(names.broker, names.event_topic, events(USERS, 10, 2))
        topics.wait_done(worker)
        assert 0 == worker.stop()
        middle = topics.ends(names.changelog_topic)[2] // 2
    spoil = [make_old, put_ahead, put_back, forget_note, make_newer, None]
    for partition, how in enumerate(spoil):
        haunt(copy_of(state, partition), who[partition], how)
    cut(copy_of(state, 5))
    trim(names, 2, middle)

    send(names.broker, names.event_topic, events([*USERS, *who], 20))
    with Worker(names, model.bundle.folder, state, **SETTINGS) as worker, Topics(names) as topics:
        topics.wait_done(worker)
        assert 0 == worker.stop()
        said = worker.said

    reasons = [
        "it was last written 96.",
        "it is ahead of the changelog: it expects offset 5001 next",
        f"the changelog was trimmed: it starts at offset {middle}, 2 is missing here",
        "it does not say of which changelog it is",
        "it is of format 9, expected 1",
        "it cannot be opened: Corruption",
    ]
    for partition, reason in enumerate(reasons):
        assert f"partition {partition}: the local copy is thrown away" in said
        assert reason in said
    assert 6 == said.count("thrown away")
    assert "Traceback" not in said
    assert_exact(names, model)


def trim(names: Names, partition: int, before: int) -> None:
    """Let the changelog of a partition begin at offset `before`; only one that is not compacted can be trimmed."""
    with admin(names.cluster) as client:
        for policy in ("delete", "compact"):
            change = ConfigResource(ConfigResourceType.TOPIC, names.changelog_topic, {"cleanup.policy": policy})
            client.alter_configs([change])
            wait_for(partial(has_policy, names, policy), 60)
            if policy == "delete":
                client.delete_records({TopicPartition(names.changelog_topic, partition): before})


def has_policy(names: Names, policy: str) -> bool:
    """Whether the changelog is cleaned up so."""
    return describe(names.cluster, [names.changelog_topic])[names.changelog_topic].configs["cleanup.policy"] == policy


def test_folder_of_another(names: Names, model: Model, tmp_path: Path) -> None:
    """Another application's folder, then one whose changelog was made anew: the changelog alone counts (R10, P2).

    What only the old changelog held is gone with it: these users start anew.
    """
    other = Names(names.broker, f"{names.app_id}-b", f"{names.event_topic}-b", f"{names.update_topic}-b", "dead-b")
    state = tmp_path / "state"
    for each in (names, other):
        create_topics(each, partitions=2)
    send(names.broker, names.event_topic, events(USERS, 0, 3))
    with Worker(names, model.bundle.folder, state, **SETTINGS) as worker, Topics(names) as topics:
        topics.wait_done(worker)
        assert 0 == worker.stop()
        assert "thrown away" not in worker.said

    send(names.broker, other.event_topic, events(USERS, 1, 2))
    with Worker(other, model.bundle.folder, state, **SETTINGS) as worker, Topics(other) as topics:
        topics.wait_done(worker)
        assert 0 == worker.stop()
        assert 2 == worker.said.count(f"it is of changelog {names.changelog_topic}, expected {other.changelog_topic}")
    assert_exact(other, model)
    assert_exact(names, model)

    make_anew(other)
    send(names.broker, other.event_topic, events(USERS[::2], 9))
    with Worker(other, model.bundle.folder, state, **SETTINGS) as worker, Topics(other) as topics:
        topics.wait_done(worker)
        assert 0 == worker.stop()
        assert 2 == worker.said.count("the topic was made anew")
    stored = last_values(read(other.broker, other.changelog_topic))
    assert dict.fromkeys(sorted(user.encode() for user in USERS[::2]), 1) == {
        key: read_value(record.value).version for key, record in sorted(stored.items())
    }


def make_anew(names: Names) -> None:
    """Delete the changelog, and make it again."""
    with admin(names.cluster) as client:
        client.delete_topics([names.changelog_topic])
        wait_for(lambda: bool(client.describe_topics([names.changelog_topic])[0]["error_code"]), 60)
        new = {"num_partitions": 2, "replication_factor": 1, "configs": COMPACT_CONFIG}
        client.create_topics({names.changelog_topic: new})
        client.wait_for_topics([names.changelog_topic])


def test_full_disk_and_damage(names: Names, model: Model, tmp_path: Path) -> None:
    """No room for local state, then other bytes on the disk: plain lines, non-zero exits, then exact (P3, P4, W06)."""
    create_topics(names, partitions=1)
    state, (ghost,) = tmp_path / "state", ghosts(1)
    folder = copy_of(state, 0).parent
    send(names.broker, names.event_topic, events(USERS, 0))
    with Worker(names, model.bundle.folder, state, **SETTINGS) as worker, Topics(names) as topics:
        topics.wait_done(worker)
        resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (32_768, 32_768))
        for second in range(1, 200, 10):
            if worker.process.poll() is None:
                send(names.broker, names.event_topic, events(USERS, second, 10))
        assert EXIT_FAILURE == worker.process.wait(60)
        assert f"data folder {folder}: there is no room to write" in worker.said
        assert "Traceback" not in worker.said

    with Worker(names, model.bundle.folder, state, **SETTINGS) as worker, Topics(names) as topics:
        topics.wait_done(worker)
        assert 0 == worker.stop()
        assert "thrown away" not in worker.said
    assert_exact(names, model)

    haunt(copy_of(state, 0), ghost)
    garble(copy_of(state, 0))
    send(names.broker, names.event_topic, events([*USERS, ghost], 500))
    with Worker(names, model.bundle.folder, state, **SETTINGS) as worker:
        assert EXIT_FAILURE == worker.process.wait(60)
        assert f"data folder {folder}: the local copy of partition 0 cannot be used (Corruption" in worker.said
        assert "Traceback" not in worker.said

    with Worker(names, model.bundle.folder, state, **SETTINGS) as worker, Topics(names) as topics:
        topics.wait_done(worker)
        assert 0 == worker.stop()
        assert "thrown away and recovered whole from the changelog: it could not be read: Corruption" in worker.said
    assert_exact(names, model)


def garble(copy: Path) -> None:
    """Some bytes of the values are others, in the largest file, behind its first block."""
    table = max(copy.glob("*.sst"), key=lambda path: path.stat().st_size)
    data = bytearray(table.read_bytes())
    place = len(data) // 3
    data[place : place + 100] = bytes(100)
    table.write_bytes(data)
