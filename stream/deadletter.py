"""Refused records to dead letters: as they came, with the reason beside them; and what a letter then says."""

import re
import sys
from collections.abc import Sequence
from typing import NamedTuple

import xxhash

from stream.decode import Refused

Headers = list[tuple[str, bytes | None]]

PREFIX = "interest-"
REASON = "interest-reason"
DETAIL = "interest-detail"
SOURCE = "interest-source"
#: On an event that was a dead letter: the source where it was refused first, and how many times it has been sent since.
REPLAY = "interest-replay"

_source = re.compile(rb"([A-Za-z0-9._-]{1,249})/(\d{1,10})/\d{1,19}").fullmatch
_replay = re.compile(rb"([A-Za-z0-9._-]{1,249}/\d{1,10}/\d{1,19}) (\d{1,9})").fullmatch


class Letter(NamedTuple):
    """What a dead letter says of the record that was refused."""

    #: Names the record through all attempts: where it was refused first, and a digest of its key and value, since a
    #: topic that is made anew has the same offsets again.
    identity: bytes
    attempt: int  # how many times it had been sent again when it was refused
    reason: str
    topic: str
    partition: int


def dead_letter(refused: Refused, topic: str, partition: int) -> tuple[bytes | None, bytes | None, Headers]:
    """Key, value and headers of the letter; the record's own headers come first."""
    record = refused.record
    detail = " ".join(refused.detail.split()).encode(errors="replace")
    source = f"{topic}/{partition}/{record.offset}".encode()
    added: Headers = [(REASON, refused.reason.encode()), (DETAIL, detail), (SOURCE, source)]
    return record.key, record.value, [*record.headers, *added]


def read_letter(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> Letter | None:
    """What a letter says; None if it is none that a worker wrote."""
    named = dict(headers)
    source = named.get(SOURCE) or b""
    place = _source(source)
    if place is None:
        return None
    replayed = _replay(named.get(REPLAY) or b"")
    first, attempt = (replayed[1], int(replayed[2])) if replayed else (source, 0)
    return Letter(
        identity=first + b" " + _digest(key, value),
        attempt=attempt,
        reason=sys.intern((named.get(REASON) or b"-").decode(errors="backslashreplace")),
        topic=sys.intern(place[1].decode()),
        partition=int(place[2]),
    )


def replay_headers(headers: Sequence[tuple[str, bytes | None]], identity: bytes, attempt: int) -> Headers:
    """Headers of the record when it is sent for the `attempt`-th time: its own, and which record it is."""
    own: Headers = [(name, value) for name, value in headers if not name.startswith(PREFIX)]
    return [*own, (REPLAY, identity.partition(b" ")[0] + b" %d" % attempt)]


def _digest(key: bytes | None, value: bytes | None) -> bytes:
    digest = xxhash.xxh3_64(b"%d " % (-1 if key is None else len(key)))
    digest.update(key or b"")
    digest.update(value or b"")
    return digest.hexdigest().encode()
