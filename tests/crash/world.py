"""What survives a crash: the logs of a broker that never fails, and the local state of each worker."""

import copy
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from stream.store import MemoryStore

EVENTS, UPDATES, LETTERS, APP = "events", "updates", "letters", "crash"
CHANGELOG = f"{APP}-users-changelog"
PARTITIONS = 2
NOW_MS = 1_700_000_000_000


@dataclass(frozen=True)
class Record:
    """A record as consumers see it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp: int = NOW_MS
    timestamp_type: int = 0


@dataclass
class World:
    """Topics, committed offsets, and the generation of the group."""

    logs: defaultdict[tuple[str, int], list[Record]] = field(default_factory=lambda: defaultdict(list))
    committed: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(PARTITIONS), 0))
    generation: int = 0

    def append(self, topic: str, partition: int, entries: Any) -> int:
        """Write key, value, headers each, all at once; the offset of the first."""
        log = self.logs[topic, partition]
        first = len(log)
        for key, value, headers in entries:
            log.append(Record(topic, partition, len(log), key, value, tuple(headers)))
        return first

    def read(self, topic: str) -> list[Record]:
        """All records of a topic, each partition in its order."""
        return [record for at in sorted(self.logs) if at[0] == topic for record in self.logs[at]]

    @property
    def open(self) -> int:
        """Events that are not committed."""
        return sum(len(self.logs[EVENTS, partition]) - offset for partition, offset in self.committed.items())


class Disk:
    """What the store of a worker has written; it outlives the process."""

    def __init__(self) -> None:
        self._kept: tuple[Any, ...] | None = None

    def save(self, store: MemoryStore) -> None:
        """Keep what is written so far."""
        self._kept = copy.deepcopy((store._values, store._offsets, store._times))

    def load(self, store: MemoryStore) -> None:
        """Give it to the store of the next process."""
        if self._kept is not None:
            store._values, store._offsets, store._times = copy.deepcopy(self._kept)

    def lose(self) -> None:
        """The folder is gone."""
        self._kept = None
