"""What growing does with names, windows and updates: pure functions."""

from typing import Any

import numpy as np
import orjson

from stream.contract import EVENT_DTYPE
from stream.publisher import partition_of
from stream.rekey import choose_update, grown_name, merge, rekey
from stream.rules import Rules
from stream.value import UserState

RULES = Rules(max_events=6, keep_events=3, max_age_ms=1000, idle_ttl_ms=10_000)
NONE = np.empty(0, EVENT_DTYPE)


def state(*times: int, version: int | None = None, floor: int = 0, ids: Any = 0, tokens: Any = ()) -> UserState:
    """A user with events at these times."""
    events = np.zeros(len(times), EVENT_DTYPE)
    events["timestamp"] = times
    events["event_id"] = ids
    events["item"] = times
    return UserState(len(times) if version is None else version, floor, {7: 40}, events, list(tokens))


def marker(floor: int) -> UserState:
    """A user who was erased."""
    return UserState(0, floor, {7: 41}, NONE)


def shown(found: UserState) -> tuple[int, int, list[int]]:
    """Version, floor and times."""
    assert {} == found.positions
    assert found.events["item"].tolist() == found.events["timestamp"].tolist()
    return found.version, found.floor, found.events["timestamp"].tolist()


def test_names() -> None:
    """A name tells the number of partitions at its end, once."""
    assert "interest-6" == grown_name("interest", 4, 6)
    assert "interest-12" == grown_name("interest-6", 6, 12)
    assert "interest-6-12" == grown_name("interest-6", 4, 12)
    assert "shop16-32" == grown_name("shop16", 6, 32)


def test_merge_is_as_if_all_had_come_to_one() -> None:
    """Windows of one user become one by the rules: order, sum of versions, highest floor, positions dropped (K02)."""
    assert (2, 5, [10, 20]) == shown(merge([state(10, 20, floor=5)], RULES))
    assert (5, 0, [10, 15, 20, 25, 30]) == shown(merge([state(15, 25), state(10, 20, 30)], RULES))
    # What one has cut, or an erasure, is late in the other; what was accepted still counts.
    assert (12, 15, [20, 25]) == shown(merge([state(10, 20), state(25, version=10, floor=15)], RULES))
    assert (2, 15, [20]) == shown(merge([state(10, 20), marker(15)], RULES))
    # Seven: the newest three stay.
    assert (7, 5, [5, 6, 7]) == shown(merge([state(1, 2, 3, 4), state(5, 6, 7)], RULES))
    assert (2, 2, [2000]) == shown(merge([state(1), state(2000)], RULES))


def test_merge_counts_an_id_once() -> None:
    """The same event id on two partitions is one event (W09); texts stay with their events."""
    one, two = state(10, 20, ids=[1, 2], tokens=[[1], []]), state(10, 30, ids=[1, 3], tokens=[[1], [3]])
    found = merge([one, two], RULES)

    assert (3, 0, [10, 20, 30]) == shown(found)
    assert [[1], [], [3]] == found.tokens
    assert [10, 20, 30] == merge([state(10, 20), two], RULES).events["timestamp"].tolist()[1:]


def test_rekey() -> None:
    """A user goes where murmur2 puts the key (K03); a marker too, and to all if it was everywhere."""
    home = partition_of(b"u1", 6)
    assert {home: (2, 0, [1, 2])} == {
        partition: shown(found) for partition, found in rekey(b"u1", {3: state(1, 2)}, 4, 6, RULES).items()
    }
    assert [home] == list(rekey(b"u1", {0: marker(9)}, 4, 6, RULES))

    everywhere = {partition: marker(partition) for partition in range(4)}
    for states, wanted in (
        (everywhere, (0, 3, [])),
        (everywhere | {2: state(7, 8, floor=2)}, (2, 3, [7, 8])),
    ):
        found = rekey(b"u1", states, 4, 6, RULES)
        assert wanted == shown(found.pop(home))
        assert [(0, 3, [])] * 5 == [shown(rest) for rest in found.values()]


def test_updates() -> None:
    """The newest of several updates is carried; a tombstone where nothing is left of the user."""
    old, new = (orjson.dumps({"timestamp": t, "version": v}) for t, v in ((5, 9), (6, 1)))
    assert new == choose_update([old, new], alive=True)
    assert old == choose_update([None, old], alive=True)
    assert b"as it is" == choose_update([b"as it is"], alive=True)
    assert choose_update([None], alive=True) is None
    assert choose_update([old], alive=False) is None
