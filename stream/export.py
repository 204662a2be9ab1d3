"""An event topic as Parquet files: what a worker read and took for events, in the order in which it read them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from stream.consume import read_all, reader
from stream.decode import decode
from stream.errors import UsageError
from stream.security import Cluster

#: Rows of a file; a piece of this size is in memory at a time.
ROWS: Final = 100_000
TEXTS: Final = ("user_id", "item_id", "type", "category_id", "event_id", "text", "item_name", "category_name")
AMOUNTS: Final = ("price", "quantity", "rating")


#: The fields as the worker's decoder found them, which has judged the event before; all else is passed over.
_Fields = msgspec.defstruct("_Fields", [(name, object, None) for name in (*TEXTS, *AMOUNTS)], gc=False)
_fields = msgspec.json.Decoder(_Fields).decode


@dataclass
class Exported:
    """What became of the records of a topic."""

    events: int = 0
    refused: int = 0  # no events of the contract
    erased: int = 0  # events of users before their erase record, and those records
    files: int = 0


def export(broker: Cluster, topic: str, output: Path, report: Callable[[Exported], None] = lambda _: None) -> Exported:
    """Write all events of a topic, up to where it ends now, into `output`, a folder that is new or empty.

    The files are part-00000.parquet and so on; each appears when it is whole. Columns are the fields of an event (ids,
    type and text as text; `timestamp` in ms, int64; amounts float64; null: not said), and `partition` and `offset`. A
    user's events stand in the order in which they came. What a user has had erased is not written.

    Raises:
        UsageError: polars is not installed, or the folder holds something.
        TopicError: no such topic.
        BrokerError: no broker answers.
    """
    try:
        import polars as pl
    except ImportError as error:
        raise UsageError("Parquet needs polars: pip install 'interest-stream[train]'") from error
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output}: expected a new or empty folder")
    schema: dict[str, Any] = dict.fromkeys(TEXTS, pl.String)
    schema |= {"timestamp": pl.Int64, **dict.fromkeys(AMOUNTS, pl.Float64), "partition": pl.Int32, "offset": pl.Int64}
    with reader(broker, topic) as consumer:
        partitions = sorted(tp.partition for tp in consumer.assignment())
    exported = Exported()
    rows = _rows(broker, topic, partitions, exported)
    output.mkdir(parents=True, exist_ok=True)
    while piece := list(islice(rows, ROWS)):
        whole = output / f"part-{exported.files:05}.parquet"
        begun = whole.with_suffix(".part")
        pl.DataFrame(piece, schema=schema, orient="row").write_parquet(begun)
        begun.rename(whole)
        exported.files += 1
        exported.events += len(piece)
        report(exported)
    return exported


def _rows(broker: Cluster, topic: str, partitions: list[int], exported: Exported) -> Iterator[tuple[Any, ...]]:
    for partition in partitions:
        erased = _erased(broker, topic, partition)
        records = read_all(broker, topic, [partition])
        while batch := list(islice(records, ROWS)):
            decoded = decode(batch)
            exported.refused += len(decoded.refused)
            values = {record.offset: record.value for record in batch}
            for key, offset, erase, time_ms in zip(
                decoded.keys,
                decoded.offset.tolist(),
                decoded.erase.tolist(),
                decoded.events["timestamp"].tolist(),
                strict=True,
            ):
                if erase or offset <= erased.get(key, -1):
                    exported.erased += 1
                    continue
                event = _fields(values[offset])
                texts = (_text(getattr(event, name)) for name in TEXTS)
                yield (*texts, time_ms, *(getattr(event, name) for name in AMOUNTS), partition, offset)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _erased(broker: Cluster, topic: str, partition: int) -> dict[bytes, int]:
    """Offset of the last erase record of each user who has one."""
    # Most records need no look: the word stands there as it is, or escaped.
    records = (
        one
        for one in read_all(broker, topic, [partition])
        if one.value and (b"erase" in one.value or b"\\u" in one.value)
    )
    erased: dict[bytes, int] = {}
    while batch := list(islice(records, ROWS)):
        decoded = decode(batch)
        found = zip(decoded.keys, decoded.offset.tolist(), decoded.erase.tolist(), strict=True)
        erased |= {key: offset for key, offset, erase in found if erase}
    return erased
