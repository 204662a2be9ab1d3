"""Which partitioner put a key where it lies. One user's events from two kinds of clients end up on two partitions.

Java's client and all that follow it take murmur2 of the key without its sign bit, librdkafka by default its CRC32, each
modulo the number of partitions.
"""

import zlib
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

#: Fewer keys than this prove nothing about how many partitions there once were.
PROOF_KEYS = 20

_SEED = 0x9747B28C
_M = np.uint32(0x5BD1E995)
_POSITIVE = np.uint32(0x7FFFFFFF)

Hashes = NDArray[np.uint32]


class Placement(NamedTuple):
    """How many keys lie where a partitioner would put them."""

    murmur2: int = 0  # only murmur2 would
    crc32: int = 0  # only CRC32 would
    both: int = 0  # tells nothing
    neither: int = 0

    def plus(self, other: Self) -> "Placement":
        """The two together."""
        return Placement(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    @property
    def kinds(self) -> int:
        """How many kinds of partitioners it took at least."""
        return sum(count > 0 for count in (self.murmur2, self.crc32, self.neither))


def murmur2(keys: Sequence[bytes]) -> Hashes:
    """Kafka's murmur2 of each key, uint32 [keys] (Austin Appleby's MurmurHash2, 32 bits, Kafka's seed)."""
    length = np.fromiter(map(len, keys), np.int64, len(keys))
    words = int(length.max(initial=0)) // 4 + 1  # one more, so that the rest of each key is in a word too
    data = np.frombuffer(b"".join([key.ljust(4 * words, b"\0") for key in keys]), "<u4").reshape(-1, words)
    h = np.uint32(_SEED) ^ length.astype(np.uint32)
    whole = length // 4
    for word in range(words):
        # uint32 arithmetic wraps, as the hash wants it.
        k = data[:, word] * _M
        k ^= k >> np.uint32(24)
        k *= _M
        h = np.where(word < whole, (h * _M) ^ k, h)
    rest = data[np.arange(len(keys)), whole]
    h = np.where(length % 4 > 0, (h ^ rest) * _M, h)
    h ^= h >> np.uint32(13)
    h *= _M
    h ^= h >> np.uint32(15)
    return h.astype(np.uint32)


def crc32(keys: Sequence[bytes]) -> Hashes:
    """CRC32 of each key, uint32 [keys]."""
    return np.fromiter(map(zlib.crc32, keys), np.uint32, len(keys))


def place(keys: Sequence[bytes], partition: int, partitions: int) -> Placement:
    """By which partitioner keys came to a partition."""
    java = (murmur2(keys) & _POSITIVE) % np.uint32(partitions) == partition
    librdkafka = crc32(keys) % np.uint32(partitions) == partition
    return Placement(
        murmur2=int((java & ~librdkafka).sum()),
        crc32=int((~java & librdkafka).sum()),
        both=int((java & librdkafka).sum()),
        neither=int((~java & ~librdkafka).sum()),
    )


def moved_from(keys: Sequence[bytes], partition: int, partitions: int) -> int | None:
    """The number of partitions that the keys of a table's partition were placed for, if it is another than now.

    A topic that grows leaves what it has where it is: its keys lie right for the former number, some of them wrong for
    the new one. None: each lies right by either partitioner, or there are too few to tell, or no number explains them.
    """
    if len(keys) < PROOF_KEYS:
        return None
    hashes = murmur2(keys) & _POSITIVE, crc32(keys)
    here = (hashes[0] % np.uint32(partitions) == partition) | (hashes[1] % np.uint32(partitions) == partition)
    if here.all():
        return None
    for former in range(partitions - 1, partition, -1):
        if any(bool((some % np.uint32(former) == partition).all()) for some in hashes):
            return former
    return None
