"""The comparison is content with topics that are right, and sees each thing that is not."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import orjson
import pytest

from stream.contract import EVENT_TYPES, hash64
from tests.bundles import random_bundle
from tests.faults.outcome import Outcome, compare
from tests.reference import Event, Model, Reference, Rules, Shown

RULES = Rules(max_events=4, keep_events=2)
TIME = 1_700_000_000_000
REFUSED = b"events/0/3"
CLICK = Event(0, item=hash64("i1"), type=EVENT_TYPES["click"])


@dataclass(frozen=True)
class Record:
    """What the comparison looks at."""

    key: bytes
    value: bytes | None
    offset: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()
    topic: str = "events"
    partition: int = 0
    timestamp: int = TIME


@dataclass
class Topics:
    """The records of each topic."""

    model: Model
    events: list[Record]
    changelog: list[Record]
    updates: list[Record]
    letters: list[Record]

    def compared(self) -> Outcome:
        """What the comparison says."""
        return compare(self.events, self.changelog, self.updates, self.letters, model=self.model, rules=RULES)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A small model."""
    folder = tmp_path_factory.mktemp("outcome") / "bundle"
    return Model(random_bundle(folder, item_ids=["i1", "i2"], item_categories=["c", ""], hidden=4, dim=4))


@pytest.fixture
def topics(model: Model) -> Topics:
    """Six clicks of one user, the fourth record broken, as a worker that took each alone leaves them."""
    reference = Reference(RULES)
    topics = Topics(model, [], [], [], [Record(b"u", b"{}", headers=letter(REFUSED, b"unknown_type"))])
    for offset in range(7):
        time = TIME + 1000 * offset
        fields = {"user_id": "u", "type": "look" if offset == 3 else "click", "item_id": "i1", "timestamp": time}
        topics.events.append(Record(b"u", orjson.dumps(fields), offset))
        if offset == 3:
            continue
        reference.accept(0, offset, TIME, b"u", replace(CLICK, timestamp=time))
        user = reference.users[b"u"]
        shown = reference.shown(b"u")
        assert shown is not None
        topics.changelog.append(Record(b"u", stored(shown)))
        said = {"user_id": "u", "version": user.version, "timestamp": time, "model": model.bundle.version}
        vector = model.vectors([user.events])[0].tolist()
        topics.updates.append(Record(b"u", orjson.dumps({**said, "events": len(user.events), "vector": vector})))
    return topics


def stored(shown: Shown) -> bytes:
    """A table value, by its layout."""
    value = struct.pack("<BQqBH", 1, shown.version, shown.floor, len(shown.positions), len(shown.events))
    value += b"".join(struct.pack("<Qq", *position) for position in shown.positions)
    for event in shown.events:
        value += struct.pack("<qQQIBBBB", event.timestamp, event.item, 0, 0, event.type, 0, 0, 0)
    return value


def letter(source: bytes, reason: bytes) -> tuple[tuple[str, bytes], ...]:
    """The headers of a dead letter."""
    return ("interest-source", source), ("interest-reason", reason)


def changed(record: Record, **fields: Any) -> Record:
    """An update that says something else."""
    assert record.value is not None
    return replace(record, value=orjson.dumps({**orjson.loads(record.value), **fields}))


def test_content(topics: Topics) -> None:
    """Topics as they must be; also with updates and letters written twice."""
    topics.updates += topics.updates[-2:]
    topics.letters *= 2

    outcome = topics.compared()

    assert outcome.exact, str(outcome)
    assert (7, 6, 1) == (outcome.events, outcome.accepted, outcome.users)


SPOILED: dict[str, tuple[Callable[[Topics], object], tuple[int, int, int, int]]] = {
    # lost, twice, users that differ, letters missing
    "an event is missing everywhere": (lambda t: (t.changelog.pop(), t.updates.pop()), (1, 0, 1, 0)),
    "a stale value is last in the changelog": (lambda t: t.changelog.append(t.changelog[0]), (5, 0, 1, 0)),
    "a stale update is last": (lambda t: t.updates.append(t.updates[3]), (2, 0, 0, 0)),
    "no update": (lambda t: t.updates.clear(), (6, 0, 0, 0)),
    "counted twice": (lambda t: t.updates.append(changed(t.updates[-1], version=8)), (0, 2, 0, 0)),
    "forgotten": (lambda t: t.changelog.append(Record(b"u", None)), (6, 0, 0, 0)),
    "a user who never was": (lambda t: t.updates.append(replace(t.updates[-1], key=b"v")), (0, 6, 0, 0)),
    "another window": (lambda t: t.events.__setitem__(-1, changed(t.events[-1], item_id="i2")), (0, 0, 3, 0)),
    "another vector": (lambda t: t.updates.append(changed(t.updates[-1], vector=[1, 0, 0, 0])), (0, 0, 2, 0)),
    "another model": (lambda t: t.updates.append(changed(t.updates[-1], model="x")), (0, 0, 2, 0)),
    "no letter": (lambda t: t.letters.clear(), (0, 0, 0, 1)),
    "a letter for another reason": (
        lambda t: t.letters.append(replace(t.letters[0], headers=letter(REFUSED, b"empty"))),
        (0, 0, 0, 0),
    ),
    "a letter of a good event": (
        lambda t: t.letters.append(replace(t.letters[0], headers=letter(b"events/0/1", b"empty"))),
        (0, 0, 0, 0),
    ),
}


@pytest.mark.parametrize("how", SPOILED)
def test_not_content(how: str, topics: Topics) -> None:
    """Each thing that is amiss is counted where it belongs."""
    spoil, numbers = SPOILED[how]
    spoil(topics)

    outcome = topics.compared()

    assert not outcome.exact
    assert numbers == (outcome.lost, outcome.twice, outcome.different, outcome.letters_missing), str(outcome)
