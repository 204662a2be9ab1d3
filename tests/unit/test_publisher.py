"""The partition of a key, by vectors from Java's client and from public reports of clients that got it wrong."""

import pytest

from stream.publisher import partition_of


@pytest.mark.parametrize(
    ("key", "partitions", "expected"),
    [
        ("TT0124", 15, 10),
        ("wu", 10, 0),
        ("354afe16-939a-4ea8-8e17-8bb0840b6886", 10, 4),
        ("fd7af248-ce5c-46a5-93d7-1c0c9005b99d", 32, 26),
        ("u1", 12, 4),
        ('"u1"', 12, 11),
    ],
)
def test_java_partitioner(key: str, partitions: int, expected: int) -> None:
    """As Java's murmur2 has it, sign bit and seed included (K02, K03, K05)."""
    assert partition_of(key.encode(), partitions) == expected
