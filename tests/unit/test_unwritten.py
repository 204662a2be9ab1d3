"""What the batch behind one that is on its way is prepared from."""

from types import SimpleNamespace
from typing import Any, cast

from stream.batch import PartitionResult
from stream.unwritten import Unwritten


def unwritten() -> Unwritten:
    """In front of a table that holds a and b on partition 0, with a time, and nothing on partition 1."""
    held = {0: {b"a": b"a1", b"b": b"b1"}}
    table = SimpleNamespace(
        read=lambda partition, keys: [held.get(partition, {}).get(key) for key in keys],
        store=SimpleNamespace(partition_time={0: 10}.get),
    )
    return Unwritten(cast(Any, table))


def test_in_front_of_the_table() -> None:
    """Values and partition time are those of the batch on its way; of its other partitions the table's."""
    ahead = unwritten()
    ahead.set({0: PartitionResult(20, values=[(b"b", b"b2"), (b"c", b"c1")]), 1: PartitionResult(30)})

    assert [b"a1", b"b2", b"c1", None] == ahead.read(0, [b"a", b"b", b"c", b"d"])
    assert [None] == ahead.read(1, [b"b"])
    assert {0: 20} == ahead.partition_times([0, 1])


def test_nothing_is_left_of_it() -> None:
    """Once it is written or dropped the table alone counts, as before it, and the next is in front of that."""
    ahead = unwritten()
    assert [b"b1"] == ahead.read(0, [b"b"])
    ahead.set({0: PartitionResult(20, values=[(b"b", b"b2")])})
    ahead.set({1: PartitionResult(40, values=[(b"x", b"x1")])})
    assert [b"b1"] == ahead.read(0, [b"b"])
    assert {0: 10, 1: 40} == ahead.partition_times([0, 1])

    ahead.clear()
    assert [None] == ahead.read(1, [b"x"])
    assert {0: 10} == ahead.partition_times([0, 1])
