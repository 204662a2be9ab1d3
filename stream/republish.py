"""A vector of the model that serves for every user whose last update is of another one.

Only the worker that has a user's partition may publish updates of the user: from anywhere else an older vector could
come to lie behind a newer one. So each such user gets a republish record on the partition of the update, and the worker
answers it with an update as it makes them now, between events, in their order.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import orjson

from stream.consume import read_all, read_range
from stream.errors import InterestError, TopicError
from stream.eventfile import Record
from stream.groups import committed
from stream.intime import reach
from stream.publisher import Publisher
from stream.security import Cluster
from stream.settings import Settings
from stream.topics import CREATE, TopicInfo, describe

SLICE_S = 0.1
LOOK_S = 0.5
#: The workers have come on no offset for so long: none is there, or it is stuck.
SILENT_S = 60.0


@dataclass
class Republished:
    """What became of the users whose last update was of another model."""

    users: int = 0  # with an update, whatever the model
    asked: int = 0  # of these, for whom an update was asked for
    renewed: int = 0  # have a vector of the model now
    gone: int = 0  # nobody knows them any more: a tombstone
    unanswered: int = 0  # nothing came; their vector is not fit
    others: set[str] = field(default_factory=set)  # models that answered in its place


def republish(
    settings: Settings, model: str, users_a_second: float, report: Callable[[str], None] = lambda _line: None
) -> Republished:
    """Ask for updates of all users whose last one is of another model than `model`, and wait for them.

    Args:
        settings: broker, group, topics.
        model: version of the bundle that the workers serve.
        users_a_second: so many are asked for, at most.
        report: told how far it is.

    Raises:
        TopicError: a topic is missing, or their partitions differ.
        BrokerError: no broker answers, or something was not acknowledged.
        InterestError: the workers do not come on.
    """
    cluster = settings.cluster  # read once: certificates and tokens come with it
    events, updates = _topics(cluster, settings)
    done = Republished()
    asked: dict[int, set[bytes]] = {}
    begun: dict[int, int] = {}  # where the updates of each partition ended when they were read
    with asyncio.Runner() as runner:
        publisher = Publisher(cluster, events)
        runner.run(publisher.__aenter__())
        try:
            for partition in range(updates.partitions):
                stale, users, begun[partition] = _stale(cluster, updates, partition, model)
                asked[partition] = set(stale)
                done.users += users
                for some in _slices(stale, users_a_second):
                    runner.run(_send(publisher, partition, some))
                    done.asked += len(some)
                    report(f"{done.asked:,} users asked for, partition {partition + 1} of {updates.partitions}")
        finally:
            runner.run(publisher.__aexit__())
    if done.asked:
        _wait(cluster, settings.app_id, events, report)
        _count(cluster, updates, model, asked, begun, done)
    return done


def _topics(cluster: Cluster, settings: Settings) -> tuple[TopicInfo, TopicInfo]:
    names = settings.event_topics[0], settings.update_topic
    there = describe(cluster, names[:1], "Write") | describe(cluster, names[1:], "Read")
    committed(cluster, settings.app_id)  # what may not be asked for is told before anything is sent
    missing = [name for name in names if name not in there]
    if missing:
        raise TopicError(f"missing on {cluster}: {', '.join(missing)}; make what is missing with {CREATE}")
    events, updates = (there[name] for name in names)
    if events.partitions != updates.partitions:
        raise TopicError(
            f"partition counts differ: {events.name} has {events.partitions}, {updates.name} {updates.partitions}; "
            "name the topics that the workers use"
        )
    return events, updates


def _stale(cluster: Cluster, updates: TopicInfo, partition: int, model: str) -> tuple[list[bytes], int, int]:
    """Users of a partition whose last update is of another model; how many have one; the offset behind the last."""
    last: dict[bytes, bool] = {}
    end = 0
    for record in read_all(cluster, updates.name, [partition]):
        end = record.offset + 1
        if not _is_user(record.key):
            continue  # no worker wrote this
        if record.value is None:
            last.pop(record.key, None)
        else:
            last[record.key] = _model(record.value) != model
    return [key for key, stale in last.items() if stale], len(last), end


def _is_user(key: bytes | None) -> bool:
    try:
        return bool(key and key.decode())
    except UnicodeDecodeError:
        return False


def _model(update: bytes) -> str:
    """The model that an update names; "?" where that cannot be told: such a one is asked for again."""
    try:
        return str(orjson.loads(update)["model"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "?"


def _slices(keys: list[bytes], a_second: float) -> Iterator[list[bytes]]:
    """Some keys at a time, at no more than `a_second`."""
    size = max(1, int(a_second * SLICE_S))
    due = time.monotonic()
    for start in range(0, len(keys), size):
        time.sleep(max(0.0, due - time.monotonic()))
        some = keys[start : start + size]
        due = max(due, time.monotonic()) + len(some) / a_second
        yield some
    time.sleep(max(0.0, due - time.monotonic()))


async def _send(publisher: Publisher, partition: int, keys: list[bytes]) -> None:
    records = (Record(0, key, orjson.dumps({"type": "republish", "user_id": key.decode()}), None) for key in keys)
    await publisher.send_to(partition, records)
    await publisher.flush()


def _wait(cluster: Cluster, group: str, events: TopicInfo, report: Callable[[str], None]) -> None:
    """Return once the workers have committed all that is on the event topic now: its updates are acknowledged then."""
    _, ends = reach(cluster, [events.name])
    reached, moved = -1, time.monotonic()
    while True:
        offsets = committed(cluster, group)
        left = sum(max(0, end - offsets.get(place, 0)) for place, end in ends.items())
        if not left:
            return
        report(f"{left:,} records left for the workers")
        if left != reached:
            reached, moved = left, time.monotonic()
        if time.monotonic() - moved > SILENT_S:
            raise InterestError(
                f"the workers of group {group} have not moved for {SILENT_S:.0f} s, {left:,} records of "
                f"{events.name} are left; see whether they run, then run this again"
            )
        time.sleep(LOOK_S)


def _count(
    cluster: Cluster,
    updates: TopicInfo,
    model: str,
    asked: dict[int, set[bytes]],
    begun: dict[int, int],
    done: Republished,
) -> None:
    """What was answered since the updates were read."""
    _, ends = reach(cluster, [updates.name])
    for partition, keys in asked.items():
        since = read_range(cluster, updates.name, partition, begun[partition], ends[updates.name, partition])
        last = {record.key: record.value for record in since}
        for key in keys:
            if key not in last:
                done.unanswered += 1
            elif (value := last[key]) is None:
                done.gone += 1
            elif (found := _model(value)) == model:
                done.renewed += 1
            else:
                done.others.add(found)
