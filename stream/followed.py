"""What Faust's recovery and standby are handed of a changelog: whole fetches."""

from collections.abc import Sequence
from typing import cast

from aiokafka import ConsumerRecord
from faust.types import TP
from faust.types.tuples import ConsumerMessage

_FROM = "interest-fetched-from"


def changelog_message(
    tp: TP, start: int, records: Sequence[ConsumerRecord], next_offset: int, generation: int
) -> ConsumerMessage:
    """One message with all records from offset `start` on, be it none; its offset is the last that was passed.

    That is what recovery compares, and may be the marker of a transaction, which is no record: it would be waited for
    without end.
    """
    last = records[-1] if records else None
    return ConsumerMessage(
        tp.topic,
        tp.partition,
        next_offset - 1,
        last.timestamp / 1000.0 if last else 0.0,
        last.timestamp_type if last else 0,
        [(_FROM, str(start).encode())],
        None,
        cast(bytes, records),
        None,
        0,
        0,
        tp,
        generation_id=generation,
    )


def fetched_from(message: ConsumerMessage) -> int:
    """The offset from which on a message of :func:`changelog_message` holds all that there is."""
    return int(dict(cast(list[tuple[str, bytes]], message.headers))[_FROM])
