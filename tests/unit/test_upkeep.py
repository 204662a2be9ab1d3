"""Between batches: who is idle for too long is forgotten, and what a worker that lost its partitions left is mended."""

import asyncio
import json
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, cast

import faust
import numpy as np
import pytest
from aiokafka.errors import KafkaConnectionError
from faust.types import TP

from models import bundle as bundles
from stream import settings, upkeep
from stream.consumer import NotOwnerError
from stream.contract import EVENT_DTYPE
from stream.encode import Encoder
from stream.errors import TableValueError
from stream.metrics import Totals
from stream.outbox import Outbox
from stream.producer import Entry, Sent
from stream.serving import Serving, Shadow
from stream.settings import TABLE
from stream.table import SequenceTable
from stream.update import UpdateFormat
from stream.upkeep import LOOK_EVERY, Upkeep, idle, is_behind, is_older
from stream.value import UserState, pack
from stream.worker import STORES
from tests.bundles import random_bundle

DAY_MS = 86_400_000
NOW_MS = 1_700_000_000_000
APP, UPDATES, CHANGELOG = "app", "updates", "app-users-changelog"
SOURCE = 7
SETTINGS = settings.load(
    {"app_id": APP, "update_topic": UPDATES, "idle_ttl_days": 2, "window_max_age_days": 1, "sweep_users": 10}
)


def value(version: int, newest_ms: int = NOW_MS, *, offset: int | None = None) -> bytes:
    """A table value: so many events, a minute apart, the last of them from offset `version` unless told."""
    events = np.zeros(version, EVENT_DTYPE)
    events["timestamp"] = newest_ms - 60_000 * np.arange(version)[::-1]
    events["type"] = 1
    return pack(UserState(version, 0, {SOURCE: version if offset is None else offset}, events))


def marker(floor_ms: int) -> bytes:
    """Of a user who was erased at offset 9."""
    return pack(UserState(0, floor_ms, {SOURCE: 9}, np.zeros(0, EVENT_DTYPE)))


def update(version: int, newest_ms: int = NOW_MS) -> bytes:
    """The update of that many events; its vector is not looked at."""
    return json.dumps({"user_id": "?", "version": version, "timestamp": newest_ms}).encode()


# -- what is idle, behind, older


def test_idle_by_partition_time() -> None:
    """Who is older than partition time - idle_ttl is idle, to the millisecond; a marker by its floor (P7)."""
    rows = [
        (b"alive", value(3, NOW_MS - 100)),
        (b"edge", value(1, NOW_MS - 1000)),
        (b"idle", value(2, NOW_MS - 1001)),
        (b"marker", marker(NOW_MS - 1000)),
        (b"old marker", marker(NOW_MS - 1001)),
    ]

    assert [b"idle", b"old marker"] == idle(rows, NOW_MS, 1000)


def test_nobody_is_idle_without_a_time() -> None:
    """Where no event was accepted yet there is no time, so nobody is idle."""
    assert [] == idle([(b"u", value(1, 0)), (b"v", marker(0))], None, 1000)


def test_a_value_that_cannot_be_read() -> None:
    """A bad value is named by its user, whatever bytes the name has (W04)."""
    with pytest.raises(TableValueError, match=r"^user 'u.*xff' in the table: format byte is 7f"):
        idle([(b"a", value(1)), (b"u\xff", b"\x7fbroken")], NOW_MS, 1000)


@pytest.mark.parametrize(
    ("theirs", "behind"),
    [
        (value(4), True),
        (value(5), False),
        (value(6), False),
        (value(5, offset=4), True),
        (None, True),
        (b"", True),
        (b"\x7fbroken", True),
        (value(5)[:20], True),
        (value(5)[:-1], True),
    ],
)
def test_values_behind_ours(theirs: bytes | None, behind: bool) -> None:
    """A changelog value of less than ours is behind it, as is a tombstone or what nobody can read."""
    assert behind == is_behind(theirs, value(5))


@pytest.mark.parametrize(
    ("theirs", "older"),
    [
        (update(5), False),
        (update(4), True),
        (update(5, NOW_MS - 1), True),
        (update(9, NOW_MS - 1), True),
        (update(4, NOW_MS + 1), False),
        (None, True),
        (b"", True),
        (b"no json", True),
        (b"[]", True),
        (b'{"version": 5}', True),
        (b'{"version": "5", "timestamp": 1}', True),
    ],
)
def test_updates_older_than_ours(theirs: bytes | None, older: bool) -> None:
    """Updates are ordered by (timestamp, version) as consumers do; a tombstone is behind a user with events."""
    assert older == is_older(theirs, value(5))


@pytest.mark.parametrize(("value_theirs", "update_theirs"), [(value(5), update(5)), (b"\x7fbroken", b"no json")])
def test_whom_we_do_not_hold(value_theirs: bytes, update_theirs: bytes) -> None:
    """Behind a user who was swept belong tombstones, and nothing else."""
    assert is_behind(value_theirs, None)
    assert is_older(update_theirs, None)
    assert not is_behind(None, None)
    assert not is_older(None, None)


def test_updates_of_an_erased_user() -> None:
    """Behind a marker belongs a tombstone, and nothing else."""
    assert not is_older(None, marker(NOW_MS))
    assert is_older(update(5), marker(NOW_MS))


# -- with a table, an outbox, and topics that the test can write to


class World:
    """The topics, a worker that owns partitions 0 and 1, and what happens at each check of the owner."""

    def __init__(self, encoder: Encoder) -> None:
        self.logs: dict[tuple[str, int], list[tuple[bytes, bytes | None]]] = {}
        self.lost_at: int | None = None  # at which check the partitions are another's
        self.checks = 0
        self.away = False
        self.positions = {TP("events", 0): 0, TP("events", 1): 0}
        app = faust.App(
            APP,
            broker="batchkafka://127.0.0.1:9",
            store=STORES["memory"],
            autodiscover=False,
            topic_disable_leader=True,
            Table=SequenceTable,
        )
        app.tables = cast(Any, SimpleNamespace(add=lambda table: table))
        app.producer = cast(Any, self)
        self.table = SequenceTable(app, name=TABLE, partitions=2)
        self.totals = Totals()
        self.outbox = Outbox(SETTINGS, self.table, lambda: cast(Any, self))
        self.outbox.begin({0: 0, 1: 0})
        self.encoder = encoder
        self.serving = Serving(encoder, self.totals)
        self.upkeep = Upkeep(SETTINGS, [SOURCE], self.serving, self.table, self.outbox, self._run)

    async def _run(self, call: Callable[[], Any]) -> Any:
        return call()

    async def send_batches(
        self, topic: str, partition: int, entries: Iterable[Entry], _time_ms: int, _codec: str = "none"
    ) -> list[Sent]:
        """As the producer, acknowledged at once."""
        wanted = [(cast(bytes, key), value) for key, value, _ in entries]
        if not wanted:
            return []
        future = asyncio.get_running_loop().create_future()
        future.set_result(SimpleNamespace(offset=self.write(topic, partition, *wanted)))
        return [(future, len(wanted))]

    async def check_owner(self, _generation: int) -> None:
        """As the consumer."""
        self.checks += 1
        if self.lost_at == self.checks:
            raise NotOwnerError("the group has moved on")

    async def ends(self, tps: Iterable[TP]) -> dict[TP, int]:
        """As the consumer; raises while the broker is away."""
        if self.away:
            raise KafkaConnectionError("away")
        return {tp: len(self.logs.get((tp.topic, tp.partition), [])) for tp in tps}

    def write(self, topic: str, partition: int, *records: tuple[bytes, bytes | None]) -> int:
        """Records of whoever; the offset of the first."""
        log = self.logs.setdefault((topic, partition), [])
        log.extend(records)
        return len(log) - len(records)

    def hold(self, partition: int, time_ms: int = NOW_MS, **users: bytes) -> None:
        """The worker has accepted events of users: values in the changelog and the table, updates behind."""

        async def publish() -> None:
            rows = [(name.encode(), one) for name, one in users.items()]
            acknowledged = await self.outbox.publish_values(partition, rows)
            self.upkeep.gaps[partition] = self.table.write(partition, rows, acknowledged, time_ms)
            await self.outbox.publish_updates(partition, [(key, b"ours") for key, _ in rows])

        asyncio.run(publish())

    def tend(self, slices: int = 1) -> None:
        """Do the upkeep."""

        async def slice_by_slice() -> None:
            for _ in range(slices):
                await self.upkeep.mend(cast(Any, self), 1)
                await self.upkeep.sweep(cast(Any, self), 1)

        asyncio.run(slice_by_slice())

    def last(self, topic: str, partition: int = 0) -> dict[bytes, bytes | None]:
        """The last record of each user, as compaction keeps it."""
        return dict(self.logs.get((topic, partition), []))

    def held(self, partition: int = 0) -> set[bytes]:
        """Users in the table."""
        return {key for key, _ in self.table.store.scan(partition, None, 1000)}

    def records(self) -> int:
        """How many records there are."""
        return sum(map(len, self.logs.values()))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """A small random model."""
    bundle = random_bundle(tmp_path_factory.mktemp("model") / "bundle", item_ids=["i1"], item_categories=["c1"])
    return Encoder(bundle, bundles.session(bundle), 100)


@pytest.fixture
def world(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world whose topics the upkeep reads."""
    world = World(encoder)

    def read_range(_broker: str, topic: str, partition: int, first: int, end: int) -> list[Any]:
        log = world.logs[topic, partition]
        assert first < end <= len(log)
        return [SimpleNamespace(key=key, value=value) for key, value in log[first:end]]

    monkeypatch.setattr(upkeep, "read_range", read_range)
    return world


OLD_MS = NOW_MS - 3 * DAY_MS  # idle


def test_sweep_forgets_idle_users(world: World) -> None:
    """Tombstones in updates and changelog, gone from the table; others are untouched (P7, W01)."""
    world.hold(0, idle1=value(2, OLD_MS), alive=value(2), erased=marker(NOW_MS))
    world.hold(1, idle2=value(2, OLD_MS), edge=value(1, NOW_MS - 2 * DAY_MS))
    world.tend(3)

    assert {b"alive", b"erased"} == world.held(0)
    assert {b"edge"} == world.held(1)
    for topic, kept in ((UPDATES, b"ours"), (CHANGELOG, value(2))):
        assert (None, kept) == (world.last(topic, 0)[b"idle1"], world.last(topic, 0)[b"alive"])
        assert world.last(topic, 1)[b"idle2"] is None
    assert (2, 0, 2) == (world.totals.swept, world.totals.rewritten, world.totals.updates)


def test_sweep_publishes_once(world: World) -> None:
    """Who is forgotten is forgotten: the next pass has nothing to say."""
    world.hold(0, idle=value(2, OLD_MS), alive=value(2))
    world.tend(3)
    before = world.records()
    world.tend(10)

    assert before == world.records()


def test_sweep_sees_everybody(world: World) -> None:
    """Slice by slice, a few users each second, all users are seen, also who comes while a pass is on (P7)."""
    world.hold(0, NOW_MS, **{f"u{number:03}": value(1, OLD_MS if number % 2 else NOW_MS) for number in range(100)})
    world.tend(4)
    assert 0 < world.totals.swept < 50
    world.hold(0, a=value(1, OLD_MS), z=value(1, OLD_MS))
    world.tend(60)

    assert 52 == world.totals.swept
    assert {f"u{number:03}".encode() for number in range(0, 100, 2)} == world.held()


def test_sweep_by_each_partitions_own_time(world: World) -> None:
    """What is idle in one partition may be new in another that is behind (rule 0)."""
    world.hold(0, NOW_MS, u=value(1, OLD_MS))
    world.hold(1, OLD_MS, u=value(1, OLD_MS))
    world.tend()

    assert set() == world.held(0)
    assert {b"u"} == world.held(1)


def test_sweep_forgets_kept_states(world: World) -> None:
    """The model's state of a user who is forgotten goes too: another may come under the name."""
    forgotten: list[Any] = []
    kept = world.encoder.cache
    cast(Any, world.encoder).cache = SimpleNamespace(forget=forgotten.extend)
    try:
        world.hold(0, idle=value(2, OLD_MS), alive=value(1))
        world.tend()
    finally:
        world.encoder.cache = kept

    assert [(0, b"idle")] == forgotten


def test_sweep_reaches_the_second_models_topic(world: World) -> None:
    """Who is forgotten gets a tombstone where a second model runs, if among its share; nobody else does."""
    world.serving.shadow = Shadow(None, 0.5, UpdateFormat(), world.totals)
    users = [f"u{number}" for number in range(40)]
    world.hold(0, NOW_MS, alive=value(1), **{user: value(2, OLD_MS) for user in users})
    world.tend(20)

    among = {user.encode() for user in users if world.serving.shadow.has(user.encode())}
    assert 0 < len(among) < len(users)
    assert dict.fromkeys(among) == world.last(SETTINGS.shadow_topic)


@pytest.mark.parametrize("check", [1, 2, 3])
def test_sweep_of_a_partition_that_is_lost(check: int, world: World) -> None:
    """Whenever the partitions go, the table is left alone; a consumer's tombstone comes before the changelog's (R23).

    So a user whose tombstones are half written is still in the changelog, to be swept by who has the partition next.
    """
    world.hold(0, idle=value(2, OLD_MS), alive=value(1))
    world.checks, world.lost_at = 0, check

    with pytest.raises(NotOwnerError):
        world.tend()

    assert {b"idle", b"alive"} == world.held()
    assert (check >= 2) == (world.last(UPDATES)[b"idle"] is None)
    assert (check >= 3) == (world.last(CHANGELOG)[b"idle"] is None)
    assert 0 == world.totals.swept


def test_sweep_goes_on_after_that(world: World) -> None:
    """Where the partitions come back, the user is swept at last."""
    world.hold(0, idle=value(2, OLD_MS), alive=value(1))
    world.lost_at = 2
    with pytest.raises(NotOwnerError):
        world.tend()
    world.tend(3)

    assert {b"alive"} == world.held()
    assert world.last(UPDATES)[b"idle"] is None
    assert world.last(CHANGELOG)[b"idle"] is None


def test_sweep_meets_a_bad_value(world: World) -> None:
    """A value that cannot be read is an error that names the user, and nobody is forgotten in its slice (W04)."""
    world.hold(0, bad=b"\x7fbroken", idle=value(2, OLD_MS))

    with pytest.raises(TableValueError, match="user 'bad' in the table"):
        world.tend()

    assert {b"bad", b"idle"} == world.held()


# -- mending


def assert_mended(world: World, **users: bytes | None) -> None:
    """The last records of users in changelog and updates are the newest ones."""
    for name, newest in users.items():
        assert newest == world.last(CHANGELOG)[name.encode()]
        found = world.last(UPDATES)[name.encode()]
        if newest is None or newest == marker(NOW_MS):
            assert found is None
            continue
        shown = json.loads(found or b"")
        assert (name, newest[1], NOW_MS) == (shown["user_id"], shown["version"], shown["timestamp"])
        assert pytest.approx(1.0, abs=1e-5) == np.linalg.norm(shown["vector"])


def test_stale_records_are_written_over(world: World) -> None:
    """A late value and a late update are met when the worker writes next; ours are written behind them (P2)."""
    world.hold(0, u1=value(5), u2=value(5), u3=value(5))
    world.write(CHANGELOG, 0, (b"u1", value(3)), (b"u2", value(4)))
    world.write(UPDATES, 0, (b"u1", update(3)), (b"u3", update(4)))
    world.hold(0, other=value(1))
    world.tend()

    assert_mended(world, u1=value(5), u2=value(5), u3=value(5))
    assert b"ours" == world.last(UPDATES)[b"other"]
    assert 3 == world.totals.rewritten


def test_stale_records_behind_an_idle_worker(world: World) -> None:
    """Who never writes again meets them all the same, within a few slices (P2)."""
    world.hold(0, u1=value(5), u2=value(5))
    world.tend()
    world.write(CHANGELOG, 0, (b"u1", value(3)))
    world.write(UPDATES, 0, (b"u2", update(4)))
    world.write(UPDATES, 1, (b"swept", update(4)))
    world.tend(LOOK_EVERY)

    assert_mended(world, u1=value(5), u2=value(5))
    assert (0, 3, 3) == (world.totals.swept, world.totals.rewritten, world.totals.updates)


def test_mended_once(world: World) -> None:
    """What is mended is not looked at again, and our own records are nobody's to mend."""
    world.hold(0, u1=value(5))
    world.write(CHANGELOG, 0, (b"u1", value(3)))
    world.write(UPDATES, 0, (b"u1", update(3)))
    world.tend(LOOK_EVERY + 1)
    before = world.records()
    world.tend(3 * LOOK_EVERY)

    assert before == world.records()
    assert 1 == world.totals.rewritten


def test_a_foreign_tombstone(world: World) -> None:
    """A late tombstone of a sweep would make consumers and the next owner forget a user: ours is written again."""
    world.hold(0, u1=value(5), u2=value(5))
    world.write(CHANGELOG, 0, (b"u1", None))
    world.write(UPDATES, 0, (b"u2", None))
    world.tend(LOOK_EVERY)

    assert_mended(world, u1=value(5), u2=value(5))


def test_an_erased_user_stays_erased(world: World) -> None:
    """A late value or update of a user who was erased gets the marker and a tombstone behind it."""
    world.hold(0, u1=marker(NOW_MS), u2=marker(NOW_MS))
    world.write(CHANGELOG, 0, (b"u1", value(3)))
    world.write(UPDATES, 0, (b"u2", update(3)))
    world.tend(LOOK_EVERY)

    assert_mended(world, u1=marker(NOW_MS), u2=marker(NOW_MS))


def test_a_user_who_is_not_held_is_gone(world: World) -> None:
    """A late value or update of a user whom we do not hold, swept perhaps, gets a tombstone behind it."""
    world.hold(0, u1=value(5))
    world.write(CHANGELOG, 0, (b"swept", value(2)))
    world.write(UPDATES, 0, (b"swept", update(2)))
    world.tend(LOOK_EVERY)

    assert_mended(world, swept=None)


def test_records_that_harm_nobody(world: World) -> None:
    """Records between ours that are as new as ours, or tombstones of whom we do not hold, are left as they are."""
    world.hold(0, u1=value(5))
    world.write(CHANGELOG, 0, (b"u1", value(5)), (b"swept", None))
    world.write(UPDATES, 0, (b"u1", update(5)), (b"swept", None))
    before = world.records()
    world.tend(LOOK_EVERY + 1)

    assert before == world.records()
    assert 0 == world.totals.rewritten


def test_offset_waits_for_the_mending(world: World) -> None:
    """Until a gap is mended the copy says it is complete up to there only, so that a crash meets the gap again."""
    tp = TP(CHANGELOG, 0)
    world.hold(0, u1=value(5))
    assert 0 == world.table.persisted_offset(tp)
    world.write(CHANGELOG, 0, (b"u1", value(3)))
    world.hold(0, u2=value(1))
    assert 0 == world.table.persisted_offset(tp)
    world.tend()

    assert 3 == world.table.persisted_offset(tp)
    assert (b"u1", value(5)) == world.logs[CHANGELOG, 0][3]


@pytest.mark.parametrize("check", [1, 2, 3, 4])
def test_mending_a_partition_that_is_lost(check: int, world: World) -> None:
    """Whenever the partitions go, the offset stays in front of the gap, so that whoever is next meets it (R23)."""
    world.hold(0, u1=value(5))
    world.write(CHANGELOG, 0, (b"u1", value(3)))
    world.write(UPDATES, 0, (b"u1", update(3)))
    world.hold(0, u2=value(1))
    world.checks, world.lost_at = 0, check

    with pytest.raises(NotOwnerError):
        world.tend()

    assert 0 == world.table.persisted_offset(TP(CHANGELOG, 0))
    assert 0 == world.totals.rewritten
    assert (check > 2) == (world.last(UPDATES)[b"u1"] != update(3))
    assert (check > 3) == (world.last(CHANGELOG)[b"u1"] == value(5))


def test_users_met_in_recovery(world: World) -> None:
    """Users of whom recovery has met stale records get their updates again, then are done with (P2)."""
    world.hold(0, u1=value(5), u2=marker(NOW_MS))
    world.table.healed[0] = [b"u1", b"u2"]
    world.table.healed[5] = [b"of a partition that is not ours"]
    world.tend()

    assert_mended(world, u1=value(5), u2=marker(NOW_MS))
    assert [5] == list(world.table.healed)


def test_the_broker_is_away(world: World) -> None:
    """Where nobody answers, the look comes later; the worker goes on."""
    world.hold(0, u1=value(5))
    world.away = True
    world.tend(LOOK_EVERY)
    world.write(CHANGELOG, 0, (b"u1", value(3)))
    world.away = False
    world.tend(LOOK_EVERY)

    assert value(5) == world.last(CHANGELOG)[b"u1"]


def test_the_broker_does_not_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it wait for an answer for long: a batch waits meanwhile."""

    async def never(_tps: Iterable[TP]) -> dict[TP, int]:
        await asyncio.Event().wait()
        return {}

    monkeypatch.setattr(upkeep, "ANSWER_S", 0.01)
    monkeypatch.setattr(world, "ends", never)
    world.hold(0, u1=value(5))
    world.tend(LOOK_EVERY + 1)

    assert {b"u1"} == world.held()


def test_no_partitions(world: World) -> None:
    """A worker that got no partition has nothing to do."""
    world.positions = {}
    world.tend(LOOK_EVERY + 1)

    assert 0 == world.records()
