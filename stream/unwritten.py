"""The table as it will be when the batch on its way is written: what the batch behind it is prepared from."""

from collections.abc import Iterable, Mapping, Sequence

from stream.batch import PartitionResult
from stream.table import SequenceTable


class Unwritten:
    """Values and partition times of one batch that is not acknowledged yet, in front of the table's."""

    def __init__(self, table: SequenceTable) -> None:
        self._table = table
        self._values: dict[int, dict[bytes, bytes]] = {}
        self._times: dict[int, int] = {}

    def set(self, results: Mapping[int, PartitionResult]) -> None:
        """These results will be written; the ones before are."""
        self._values = {partition: dict(result.values) for partition, result in results.items() if result.values}
        self._times = {partition: results[partition].partition_time for partition in self._values}

    def clear(self) -> None:
        """They are written, or will never be."""
        self._values, self._times = {}, {}

    def read(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of some users of a partition, None for who is not known."""
        values = self._table.read(partition, keys)
        ahead = self._values.get(partition)
        return [ahead.get(key, value) for key, value in zip(keys, values, strict=True)] if ahead else values

    def partition_times(self, partitions: Iterable[int]) -> dict[int, int]:
        """Partition time of those that have one, ms."""
        store, ahead = self._table.store, self._times
        found = {p: ahead[p] if p in ahead else store.partition_time(p) for p in partitions}
        return {partition: time_ms for partition, time_ms in found.items() if time_ms is not None}
