"""Names, limits and hashes that events, table, graph and updates agree on. Frozen: changing one changes stored data."""

import math
from enum import StrEnum
from typing import Final

import numpy as np
import xxhash

# The code of a type is what the table stores. 0 is never stored; a bundle uses it for "other".
EVENT_TYPES: Final = {"click": 1, "cart": 2, "favorite": 3, "purchase": 4, "review": 5}

ID_MAX_CHARS: Final = 256
EVENT_ID_MAX_CHARS: Final = 128
RECORD_MAX_BYTES: Final = 256 * 1024
TEXT_MAX_CHARS: Final = 10_000
TEXT_MAX_TOKENS: Final = 64

TIME_MIN_MS: Final = 946_684_800_000  # 2000-01-01T00:00:00Z: anything before is a clock or a unit gone wrong
TIME_AHEAD_MS: Final = 300_000  # how far an event may run ahead of its record's own time

#: One event as the table stores it, 32 bytes, little-endian. `timestamp` ms since the epoch; `item`, `event_id` and
#: `category` are hashes (0: none); `rating` is 10 times the rating (0: none); `price` and `quantity` are codes of
#: :func:`amount_code`.
EVENT_DTYPE: Final = np.dtype(
    [
        ("timestamp", "<i8"),
        ("item", "<u8"),
        ("event_id", "<u8"),
        ("category", "<u4"),
        ("type", "u1"),
        ("rating", "u1"),
        ("price", "u1"),
        ("quantity", "u1"),
    ]
)


class Reason(StrEnum):
    """Why a record was refused; the value of the header `interest-reason`."""

    MISSING_KEY = "missing_key"
    KEY_MISMATCH = "key_mismatch"
    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"
    UNKNOWN_TYPE = "unknown_type"
    TIMESTAMP_IN_FUTURE = "timestamp_in_future"
    TIMESTAMP_TOO_OLD = "timestamp_too_old"
    TOO_LARGE = "too_large"
    EMPTY = "empty"


def hash64(text: str) -> int:
    """xxh3, unseeded, of the UTF-8 bytes; never 0, which the table keeps for "none"."""
    return xxhash.xxh3_64_intdigest(text.encode()) or 1


def hash32(text: str) -> int:
    """The low 32 bits of xxh3, unseeded, of the UTF-8 bytes; never 0, which the table keeps for "none"."""
    return (xxhash.xxh3_64_intdigest(text.encode()) & 0xFFFFFFFF) or 1


def amount_code(amount: float | None) -> int:
    """A price or quantity as one byte: 0 for none, else 1 + round(8 · log2(1 + amount)), at most 255.

    Steps of 9 %, exact for 0, up to about 3.6e9; anything above is taken as that.
    """
    if amount is None:
        return 0
    return min(255, 1 + round(8 * math.log2(1 + amount)))


#: log2(1 + amount) for each code of :func:`amount_code`, float32 [256]; -1 where there is none.
AMOUNT_LOG2: Final = np.concatenate([[-1.0], np.arange(255) / 8]).astype(np.float32)
