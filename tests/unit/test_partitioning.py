"""Which partitioner put a key where it lies: both partitioners' own values, counts, and keys of a former number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as of_kafka_python

from stream.partitioning import Placement, crc32, moved_from, murmur2, place


@given(st.lists(st.binary(max_size=40)))
def test_murmur2_is_kafkas(keys: list[bytes]) -> None:
    """The hashes of keys of any length are those of Kafka's clients (K03)."""
    assert [of_kafka_python(key) & 0xFFFFFFFF for key in keys] == murmur2(keys).tolist()


@pytest.mark.parametrize(
    ("key", "partitions", "java", "librdkafka"),
    [
        (b"TT0124", 15, 10, 9),
        (b"354afe16-939a-4ea8-8e17-8bb0840b6886", 10, 4, 9),
        (b"fd7af248-ce5c-46a5-93d7-1c0c9005b99d", 32, 26, 23),
    ],
)
def test_where_clients_put_keys(key: bytes, partitions: int, java: int, librdkafka: int) -> None:
    """Partitions that the clients of Java and librdkafka were seen to take (K02, K03)."""
    assert java == (int(murmur2([key])[0]) & 0x7FFFFFFF) % partitions
    assert librdkafka == int(crc32([key])[0]) % partitions
    assert Placement(murmur2=1) == place([key], java, partitions)
    assert Placement(crc32=1) == place([key], librdkafka, partitions)
    other = next(p for p in range(partitions) if p not in (java, librdkafka))
    assert Placement(neither=1) == place([key], other, partitions)


def test_a_negative_hash() -> None:
    """The sign bit is taken off before the remainder (K03)."""
    assert Placement(murmur2=1) == place([b"wu"], 0, 10)


def test_one_partition_tells_nothing() -> None:
    """Where there is one partition every partitioner takes it."""
    assert Placement(both=3) == place([b"a", b"b", b"c"], 0, 1)
    assert 0 == place([b"a", b"b", b"c"], 0, 1).kinds


def test_mixed() -> None:
    """Keys of both kinds on a partition are two kinds, those of one kind are one (K02)."""
    keys = [f"u{number}".encode() for number in range(400)]
    by_java = [key for key in keys if (int(murmur2([key])[0]) & 0x7FFFFFFF) % 4 == 2]
    by_librdkafka = [key for key in keys if int(crc32([key])[0]) % 4 == 2]

    assert 1 == place(by_java, 2, 4).kinds
    assert 1 == place(by_librdkafka, 2, 4).kinds
    assert 2 == place(by_java, 2, 4).plus(place(by_librdkafka, 2, 4)).kinds


@pytest.mark.parametrize(("former", "now"), [(4, 6), (4, 8), (6, 7)])
def test_keys_of_a_former_number(former: int, now: int) -> None:
    """A partition whose keys were placed for fewer partitions is seen to be, by either partitioner (K10)."""
    keys = [f"u{number}".encode() for number in range(1000)]
    for hashes in (murmur2(keys) & 0x7FFFFFFF, crc32(keys)):
        for partition in range(former):
            held = [key for key, h in zip(keys, hashes.tolist(), strict=True) if h % former == partition]
            assert former == moved_from(held, partition, now)
            assert moved_from(held, partition, former) is None
            assert moved_from(held[:19], partition, now) is None


def test_keys_that_no_number_explains() -> None:
    """Keys of mixed partitioners are not taken for those of a topic that grew (K02, K10)."""
    keys = [f"u{number}".encode() for number in range(1000)]

    assert moved_from(keys, 2, 4) is None
