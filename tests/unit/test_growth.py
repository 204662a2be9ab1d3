"""A worker ends when its users lie where fewer partitions would have put them; the store is a double."""

from collections.abc import Mapping
from typing import NoReturn, cast

import numpy as np
import pytest

import stream.growth
from stream.contract import EVENT_DTYPE
from stream.ending import EXIT_MOVED
from stream.growth import SAMPLE_USERS, check_table
from stream.publisher import partition_of
from stream.table import SequenceTable
from stream.value import UserState, pack

USERS = [b"user-%d" % number for number in range(400)]
LIVE = pack(UserState(1, 0, {1: 1}, np.ones(1, EVENT_DTYPE)))
MARKER = pack(UserState(0, 1_700_000_000_000, {1: 1}, np.empty(0, EVENT_DTYPE)))


class Store:
    """Holds values by partition and user."""

    def __init__(self, values: Mapping[int, Mapping[bytes, bytes]]) -> None:
        self._values = values
        self.asked: list[int] = []

    def scan(self, partition: int, after: bytes | None, count: int) -> list[tuple[bytes, bytes]]:
        assert after is None
        self.asked.append(partition)
        return sorted(self._values.get(partition, {}).items())[:count]


class Table:
    """A table with such a store."""

    changelog_topic_name = "app-users-changelog"

    def __init__(self, store: Store) -> None:
        self.store = store


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the process said when it ended; the process goes on."""
    said: list[str] = []

    def end(code: int, message: str, *arguments: object) -> NoReturn:
        assert EXIT_MOVED == code
        said.append(message % arguments)
        raise SystemExit(code)

    monkeypatch.setattr(stream.growth, "end", end)
    return said


def placed(partitions: int, value: bytes = LIVE) -> dict[int, dict[bytes, bytes]]:
    """All users where so many partitions put them."""
    values: dict[int, dict[bytes, bytes]] = {}
    for user in USERS:
        values.setdefault(partition_of(user, partitions), {})[user] = value
    return values


def check(values: Mapping[int, Mapping[bytes, bytes]], partitions: list[int], count: int) -> Store:
    """Check a table with these values; the store afterwards."""
    store = Store(values)
    check_table(cast(SequenceTable, Table(store)), partitions, count)
    return store


def test_keys_in_place(ended: list[str]) -> None:
    """Users who lie where they should, partitions of others and empty ones end nothing (K10)."""
    store = check(placed(6), [0, 2, 5], 6)
    check({}, [0, 1], 6)
    check(placed(4), [], 6)

    assert [0, 2, 5] == store.asked
    assert [] == ended


def test_keys_have_moved(ended: list[str]) -> None:
    """Users of four partitions under six: topic, partition, both numbers and what to do are named (K10)."""
    with pytest.raises(SystemExit):
        check(placed(4), [1], 6)

    assert [
        "keys have moved: the users of app-users-changelog/1 lie there for 4 partitions, the topics have 6; "
        "stop all workers and run `interest topics grow`"
    ] == ended


def test_erased_users_tell_nothing(ended: list[str]) -> None:
    """Markers lie on every partition: they neither look moved, nor hide that others have."""
    everyone = dict.fromkeys((b"erased-%03d" % number for number in range(SAMPLE_USERS // 2)), MARKER)
    check({0: everyone}, [0], 6)
    assert [] == ended

    with pytest.raises(SystemExit):
        check({0: everyone | placed(4)[0]}, [0], 6)
    assert 1 == len(ended)
