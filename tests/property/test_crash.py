"""A crash at every step of a batch: the worker's own code between fakes, ended anywhere, ends in the same state.

Every await of the worker (fetch, table, model, each record sent, each acknowledgement, commit, upkeep) and the write of
the table is a step, before and after. What the logs then hold is compared with the rules applied to the events.
"""

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import cycle
from typing import Any
from unittest.mock import patch

import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from onnxruntime import InferenceSession

from models.bundle import Bundle, session
from stream import settings
from stream.encode import Encoder
from stream.settings import DAY_MS
from tests.bundles import random_bundle
from tests.crash.life import Life, Steps, end
from tests.crash.world import CHANGELOG, EVENTS, LETTERS, NOW_MS, PARTITIONS, UPDATES, Disk, World
from tests.faults.outcome import Outcome, compare
from tests.reference import Model, Rules

RULES = Rules(max_events=4, keep_events=2, max_age_ms=1000, idle_ttl_ms=2000)
USERS = (("u0", "u2"), ("u1", "u3"))
FIRST_MS = NOW_MS - 10_000
BROKEN = (b"hello", b'{"user_id": 7}', b"")
LIVES = 3
NEW_FROM = 10  # of the mixed history, the first event that comes later
TAKES_AHEAD = (True, True, False)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small model."""
    folder = tmp_path_factory.mktemp("crash") / "bundle"
    return random_bundle(folder, item_ids=["i0", "i1", "i2"], item_categories=["c", "", "c"], hidden=4, dim=4)


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> Model:
    """The same, run the slow way."""
    return Model(bundle)


@pytest.fixture(scope="module")
def graph(bundle: Bundle) -> InferenceSession:
    """One session for all."""
    return session(bundle)


@pytest.fixture(scope="module", autouse=True)
def no_exit() -> Iterator[None]:
    """A worker that ends itself must not end the tests."""
    with patch("stream.agent.end", end), patch("stream.table.end", end):
        yield


class Fleet:
    """Lives of workers on one world, and what came of it all."""

    def __init__(self, bundle: Bundle, graph: InferenceSession, model: Model, world: World) -> None:
        self._bundle = bundle
        self._graph = graph
        self._model = model
        self.world = world
        self._settings = settings.load(
            {
                "app_id": "crash",
                "event_topics": (EVENTS,),
                "update_topic": UPDATES,
                "deadletter_topic": LETTERS,
                "window_max_events": RULES.max_events,
                "window_keep_events": RULES.keep_events,
                "window_max_age_days": RULES.max_age_ms / DAY_MS,
                "idle_ttl_days": RULES.idle_ttl_ms / DAY_MS,
            }
        )

    def life(
        self,
        disk: Disk,
        steps: Steps,
        sizes: list[int],
        commits: list[bool],
        takes_ahead: Sequence[bool] = TAKES_AHEAD,
        **options: Any,
    ) -> Life:
        """The next worker."""
        encoder = Encoder(self._bundle, self._graph, 100)
        drawn = (cycle(sizes), cycle(commits), cycle(takes_ahead))
        return Life(self.world, disk, encoder, self._settings, steps, *drawn, **options)

    def outcome(self) -> Outcome:
        """The logs, compared with the events."""
        topics = (EVENTS, CHANGELOG, UPDATES, LETTERS)
        return compare(*map(self.world.read, topics), model=self._model, rules=RULES)


def fill(world: World, records: list[tuple[int, bytes, bytes]]) -> None:
    """Publish events: partition, key, value."""
    for partition, key, value in records:
        world.append(EVENTS, partition, [(key, value, ())])


def event(user: str, number: int, at: int, event_id: str | None) -> bytes:
    """A click."""
    value = {"user_id": user, "type": "click", "item_id": f"i{number % 4}", "timestamp": FIRST_MS + at}
    return orjson.dumps(value if event_id is None else {**value, "event_id": event_id})


@st.composite
def histories(draw: st.DrawFn, *, erases: bool, max_size: int = 24) -> list[tuple[int, bytes, bytes]]:
    """Events of both partitions, late ones, repeated ones and broken ones among them.

    Some pass the idle time; others have erase records instead, and event ids that come again with another time: what
    does not hold for idle users stands in the README.
    """
    records: list[tuple[int, bytes, bytes]] = []
    for number in range(draw(st.integers(1, max_size))):
        partition = draw(st.integers(0, PARTITIONS - 1))
        user = draw(st.sampled_from(USERS[partition]))
        kind = draw(st.integers(0, 11))
        if kind == 0:
            value = draw(st.sampled_from(BROKEN))
        elif kind == 1 and erases:
            value = orjson.dumps({"type": "erase", "user_id": user})
        elif kind == 2 and records:
            records.append(draw(st.sampled_from(records)))
            continue
        else:
            late = draw(st.sampled_from([0, 0, 30, 700, 700 if erases else 2300]))
            again = draw(st.sampled_from([None, None, "a", "b"]))
            if erases:
                value = event(user, number, number * 40 - late, again)
            else:
                value = event(user, number, number * 250 - late, again and f"e{number}")
        records.append((partition, user.encode(), value))
    return records


def mixed_history() -> list[tuple[int, bytes, bytes]]:
    """A fixed one with broken records, repeated ids, windows that are cut and users who fall idle."""
    records = []
    for number in range(14):
        partition = number % PARTITIONS
        user = USERS[partition][int(number > 3)]
        value = BROKEN[number % 3] if number % 6 == 5 else event(user, number, number * 250, f"e{number % 9}")
        records.append((partition, user.encode(), value))
    return records


def every_step(fleet: Fleet, records: list[tuple[int, bytes, bytes]], sizes: list[int]) -> list[str]:
    """The steps of a life without a crash, from start to end."""
    fill(fleet.world, records)
    steps = Steps()
    life = fleet.life(Disk(), steps, sizes, [True, False])
    life.run()
    assert "finished" == life.ended
    assert 2 == life.agent.totals.swept
    assert life.consumer.ahead > 1
    assert fleet.outcome().exact, str(fleet.outcome())
    return steps.names


@pytest.mark.parametrize("kept", [True, False], ids=["state kept", "state lost"])
def test_crash_at_every_step(kept: bool, bundle: Bundle, graph: InferenceSession, model: Model) -> None:
    """Whatever step is the last of a life, the next makes the end the same (P3, P4; W06, L03, L01)."""
    make = partial(Fleet, bundle, graph, model)
    records, sizes = mixed_history(), [2, 3]
    names = every_step(make(World()), records, sizes)
    assert len(names) > 100

    for last in range(len(names)):
        fleet = make(World())
        fill(fleet.world, records)
        disk = Disk()
        life = fleet.life(disk, steps := Steps(at=last), sizes, [True, False])
        life.run()
        assert "crash" == life.ended, f"at step {last}"
        if not kept:
            disk.lose()
        fleet.life(disk, Steps(), sizes, [True]).run()

        assert 0 == fleet.world.open
        outcome = fleet.outcome()
        assert outcome.exact, f"crash at step {last}, {steps.names[-1]}: {outcome}"


def test_zombie_at_every_step(bundle: Bundle, graph: InferenceSession, model: Model) -> None:
    """A worker stands still at any step while another takes over, then does what it was about to; what it writes late
    does not stay, in the changelog or the updates, for who orders them and after compaction (P2, P3; R12, R23)."""
    make = partial(Fleet, bundle, graph, model)
    records, sizes = mixed_history(), [2, 3]
    late = 0
    for at, name in enumerate(every_step(make(World()), records, sizes)):
        if name in Steps.BETWEEN:
            continue
        fleet = make(World())
        fill(fleet.world, records)
        late += Zombie(fleet, sizes, at).play()

        assert 0 == fleet.world.open
        outcome = fleet.outcome()
        assert outcome.exact, f"frozen at step {at}: {outcome}"
    assert late > 20


def test_another_works_meanwhile_at_every_step(bundle: Bundle, graph: InferenceSession, model: Model) -> None:
    """The group moves on without asking at any step, another works, and the partitions come back with new events: what
    was in hand is dropped, and nothing of it is left in memory (P2, P4; R12)."""
    records, sizes = mixed_history(), [2, 3]
    fleet = Fleet(bundle, graph, model, World())
    fill(fleet.world, records[:NEW_FROM])
    steps = Steps()
    fleet.life(Disk(), steps, sizes, [True, False]).run()
    dropped = 0
    for at, name in enumerate(steps.names):
        if name in Steps.BETWEEN:
            continue
        fleet = Fleet(bundle, graph, model, World())
        fill(fleet.world, records[:NEW_FROM])

        async def move(_name: str, fleet: Fleet = fleet) -> None:
            await fleet.life(Disk(), Steps(), [6], [True]).live()
            fill(fleet.world, records[NEW_FROM:])

        life = fleet.life(Disk(), Steps(move, at), sizes, [True, False])
        life.run()

        assert "finished" == life.ended
        assert 0 == fleet.world.open
        outcome = fleet.outcome()
        assert outcome.exact, f"moved at step {at}: {outcome}"
        dropped += life.agent.totals.dropped
    assert dropped > 20


class Zombie:
    """A worker that is frozen at a step, and another that takes over and goes on behind it."""

    def __init__(self, fleet: Fleet, sizes: list[int], at: int) -> None:
        self._fleet = fleet
        self._sizes = sizes
        self._at = at

    def play(self) -> int:
        """All of it; how many users were written again."""
        return asyncio.run(self._play())

    async def _play(self) -> int:
        self._worked, self._thawed = asyncio.Event(), asyncio.Event()
        self._batches = 0
        steps = Steps(self._take_over, self._at)
        await self._fleet.life(Disk(), steps, self._sizes, [True, False], comes_back=False).live()
        self._thawed.set()
        await self._task
        assert "finished" == self._other.ended
        return self._other.agent.totals.rewritten

    async def _take_over(self, _name: str) -> None:
        self._other = self._fleet.life(Disk(), Steps(), self._sizes, [True], before_batch=self._before_batch)
        self._task = asyncio.ensure_future(self._other.live())
        worked = asyncio.ensure_future(self._worked.wait())
        await asyncio.wait([self._task, worked], return_when=asyncio.FIRST_COMPLETED)
        worked.cancel()

    async def _before_batch(self) -> None:
        """The zombie goes on when the other has done a batch, or has nothing to do."""
        self._batches += 1
        if self._batches == 2:
            self._worked.set()
            await self._thawed.wait()


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_events_batches_and_crashes(
    data: st.DataObject, bundle: Bundle, graph: InferenceSession, model: Model
) -> None:
    """Any events in any batches with any commits, crashes anywhere, with and without the local state (P2, P3, P4)."""
    fleet = Fleet(bundle, graph, model, World())
    erases = data.draw(st.booleans())
    fill(fleet.world, data.draw(histories(erases=erases)))
    # Of a batch that spans the idle time nothing may be written in part, see the README.
    batch_records = 1 if erases else 1000
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    commits = data.draw(st.lists(st.booleans(), min_size=1, max_size=4))
    takes_ahead = data.draw(st.lists(st.booleans(), min_size=1, max_size=4))
    lives = data.draw(st.lists(st.tuples(st.integers(0, 150), st.booleans()), min_size=1, max_size=LIVES))
    disk = Disk()
    for last, kept in lives:
        fleet.life(disk, Steps(at=last), sizes, commits, takes_ahead, batch_records=batch_records).run()
        if not kept:
            disk.lose()
    fleet.life(disk, Steps(), sizes, commits, takes_ahead, batch_records=batch_records).run()

    assert 0 == fleet.world.open
    assert fleet.outcome().exact, str(fleet.outcome())
