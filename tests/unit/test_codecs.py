"""What is compressed can be read, whoever has compressed it."""

from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record import MemoryRecords

CODECS = ("GZIP", "SNAPPY", "LZ4", "ZSTD")


@pytest.mark.parametrize("codec", CODECS)
def test_commands_read_what_producers_compress(codec: str) -> None:
    """kafka-python reads every codec: the changelog's zstd for `inspect`, events of any producer for `topics grow`."""
    builder: Any = DefaultRecordBatchBuilder(
        2, getattr(DefaultRecordBatch, f"CODEC_{codec}"), False, -1, -1, 0, 1 << 20
    )
    for offset in range(100):
        builder.append(offset, 1, b"u%d" % offset, b"value" * 20, [])

    found = [(record.key, record.value) for record in MemoryRecords(bytes(builder.build())).next_batch()]

    assert [(b"u%d" % offset, b"value" * 20) for offset in range(100)] == found
