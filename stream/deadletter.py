"""Refused records to dead letters: as they came, with the reason beside them."""

from stream.decode import Refused

Headers = list[tuple[str, bytes | None]]

REASON = "interest-reason"
DETAIL = "interest-detail"
SOURCE = "interest-source"


def dead_letter(refused: Refused, topic: str, partition: int) -> tuple[bytes | None, bytes | None, Headers]:
    """Key, value and headers of the letter; the record's own headers come first."""
    record = refused.record
    detail = " ".join(refused.detail.split()).encode(errors="replace")
    source = f"{topic}/{partition}/{record.offset}".encode()
    added: Headers = [(REASON, refused.reason.encode()), (DETAIL, detail), (SOURCE, source)]
    return record.key, record.value, [*record.headers, *added]
