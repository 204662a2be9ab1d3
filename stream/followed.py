"""What Faust's recovery and standby are handed of a changelog: whole fetches."""

from collections.abc import Sequence
from typing import cast

from aiokafka import ConsumerRecord
from faust.types import TP
from faust.types.tuples import ConsumerMessage


def changelog_message(tp: TP, records: Sequence[ConsumerRecord], next_offset: int, generation: int) -> ConsumerMessage:
    """One message with all records, be it none; its offset is the last that was passed, for recovery to compare.

    That may be the marker of a transaction, which is no record: recovery would wait for it without end.
    """
    last = records[-1] if records else None
    return ConsumerMessage(
        tp.topic,
        tp.partition,
        next_offset - 1,
        last.timestamp / 1000.0 if last else 0.0,
        last.timestamp_type if last else 0,
        None,
        None,
        cast(bytes, records),
        None,
        0,
        0,
        tp,
        generation_id=generation,
    )
