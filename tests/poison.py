"""Records that nobody meant to send: valid events that were changed, and bytes at random; seeded."""

import json
import re
from collections.abc import Callable
from random import Random
from typing import NamedTuple

NOW_MS = 1_760_000_000_000  # the records' own time

ODD_USERS = ("用户", "é", "e\u0301", "\U0001f600" * 3, "u\n\x01\x7f\u2028", "字" * 256, '"u1"', "null", "u" * 256, " ")


def _words(text: str) -> list[str]:
    return text.split()


NUMBERS = _words("""
0 -0 1 -1 5 5.01 0.99 1.5 -0.0 1e-400 5e-324 1e3 1E+2 0.1e-7 1e308 1.8e308 1e309 1e999 -1e999 1e99999999999
NaN Infinity -Infinity nan 01 1. .5 +1 --1 1e 0x10 1_000 00
946684799999 946684800000 1716200000 253402300800 253402300800000 15000 1760000000000.0 1760000000000e0 1.76e12
""")
LONG_NUMBERS = ("1" * 300, "1" * 310, "9" * 4299, "9" * 4301, "-" + "9" * 4301, "0." + "3" * 400, "1" * 5000 + ".0")
POWERS = [str(sign * (2**bits + more)) for bits in (31, 53, 63, 64) for sign in (1, -1) for more in (-1, 0, 1)]
TIMES = _words("""
2025-03-30T02:30:00Z 2025-03-30T02:30:00 2025-03-30T02:30:00+08:00 2025-03-30 2016-12-31T23:59:60Z 2025-02-29T00:00:00Z
2024-02-29T00:00:00.123456789Z 0000-01-01T00:00:00Z 2025-03-30T02:30:00.9999Z 2025-03-30t02:30:00z 2025-03-30T24:00:00Z
9999-12-31T23:59:59-23:59 0001-01-01T00:00:00+23:59 2025-03-30T02:30:00+24:00 2025-03-30T02:30Z 1760000000000
""")
NEAR_NOW = [str(NOW_MS + ahead) for ahead in (-86_400_000, -1, 0, 300_000, 300_001, 86_400_000)]
TEXTS = _words(r"""
a \u0000 u\u0000 \ud800 \udc00 \ud83d\ude00 \udc00\ud800 \u12 \q \/\b\f click erase review view Click u1 U1 用户
""")
ODD_TEXTS = ("", " ", "a\nb", "\0", "\x7f", "\u2028", "\ufeff", "\uffff", "e\u0301", "click ")
LONG_TEXTS = [*("a" * length for length in (127, 128, 129, 255, 256, 257, 9999, 10_001)), "字" * 129, "字" * 256]
BYTES = (b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xf4\x90\x80\x80"', b'"\xe7\x94"', b"\xff")
OTHER = _words("""
null true false [] {} [null] {"a":{"b":[1,2,{"c":"d"}]}} [[[[[[[[[[]]]]]]]]]] hello 'a' , /*a*/1
""")
#: JSON, and some that is none, for the place of any value.
FRAGMENTS: list[bytes] = [
    *(fragment.encode() for fragment in (*NUMBERS, *LONG_NUMBERS, *POWERS, str(NOW_MS * 1000), *NEAR_NOW, *OTHER)),
    *(f'"{text}"'.encode() for text in (*TIMES, *TEXTS, *ODD_TEXTS, *LONG_TEXTS)),
    *BYTES,
    *(b"", b"1 2", b"- 1", b"[" * 100_000, b'{"a":' * 10_000),
]
NAMES = (
    *("user_id", "type", "item_id", "timestamp", "event_id", "category_id", "quantity", "price", "rating", "text"),
    *("x", "", "User_id", "user_id ", "用户", "\\u0074ype", "a\\ud800"),
)
KEYS = (None, b"", b"u2", b'"u1"', b"\xff", b"\xed\xa0\x80", b"u1\0", b"U1", b" u1", b"u" * 300)
TAILS = (b"x", b"{}", b"\0", b"]", b"}", b",", b" ", b"\r\n\t", b"\xff", b"\x0b", b"null", b"//", b"\xef\xbb\xbf")
WHOLE = (
    *(b"{}", b"null", b"[]", b"1", b'"x"', b"true", b" ", b"\r\n", b"\x0b", b"\xc2\xa0", b"hello", b"\0", b"{"),
    *(b"\xef\xbb\xbf{}", b'{"a":1}{"b":2}', b"{}x", b"[" * 1000, b'{"user_id":', b"NaN", b"-", b"[" * 262_143),
    *(b'{"type":"erase","user_id":"u1"}', b'{"type":"erase"}', b'{"type":"erase","user_id":"u1\\u0000"}'),
    *(b'{"type":"erase","user_id":"u1","price":"x"}', b'{"type":"click","type":"erase","user_id":"u1"}'),
)

Keyed = tuple[bytes | None, bytes | None]


class Raw(NamedTuple):
    """A Kafka record as far as a worker reads it."""

    key: bytes | None
    value: bytes | None
    offset: int
    timestamp: int = NOW_MS
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Maker:
    """Makes records, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._chance = Random(seed)
        self._good = [self._event(number) for number in range(200)]
        self._places = {value: [m.span(1) for m in PLACE.finditer(value)] for _, value in self._good}
        self._ways: tuple[Callable[[bytes], bytes], ...] = (
            *(self._flip, self._cut, self._repeat, self._insert, self._leave_out, self._put, self._put, self._add),
            *(self._add, self._splice, self._tail, self._punctuate),
        )

    def good(self) -> tuple[bytes, bytes]:
        """Key and value of an event that must be accepted."""
        return self._chance.choice(self._good)

    def poison(self) -> Keyed:
        """Key and value of a record that was changed somehow; now and then it is still an event."""
        chance = self._chance
        draw = chance.random()
        key, value = chance.choice(self._good)
        if draw < 0.05:
            return chance.choice(KEYS), value
        if draw < 0.06:
            return key, chance.choice((None, b""))
        if draw < 0.08:
            return key, chance.choice(WHOLE)
        if draw < 0.12:
            return key, chance.randbytes(chance.randrange(60))
        value = chance.choice(self._ways)(value)
        while value and chance.random() < 0.15:
            value = chance.choice((self._flip, self._cut, self._insert, self._leave_out, self._tail))(value)
        return (key if draw < 0.97 else chance.choice(KEYS)), value

    def _event(self, number: int) -> tuple[bytes, bytes]:
        chance = self._chance
        user = ODD_USERS[number] if number < len(ODD_USERS) else f"u{number % 40}"
        fields: dict[str, object] = {
            "user_id": user,
            "type": ("click", "cart", "favorite", "purchase", "review")[number % 5],
            "item_id": f"i{chance.randrange(50)}",
            "timestamp": NOW_MS - chance.randrange(3_600_000) if number % 7 else "2025-10-09T08:50:00.25Z",
        }
        more: dict[str, object] = {
            "event_id": f"e{number}",
            "category_id": chance.choice(["phones", "手机", None]),
            "price": chance.choice([0, 12.5, 1e9, None]),
            "quantity": chance.randrange(5),
            "rating": chance.choice([1, 4.5, 5, None]),
            "text": chance.choice(["fast and light", "手机 很好用", "", None]),
            "session": {"id": [1, 2, None], "agent": "a/b"},
        }
        fields |= {name: more[name] for name in chance.sample(sorted(more), chance.randrange(len(more)))}
        names = chance.sample(sorted(fields), len(fields))
        ascii_only = bool(number % 2)
        shuffled = {name: fields[name] for name in names}
        return user.encode(), json.dumps(shuffled, ensure_ascii=ascii_only, separators=(",", ":")).encode()

    def _flip(self, value: bytes) -> bytes:
        changed = bytearray(value)
        for _ in range(self._chance.choice((1, 1, 1, 2, 5))):
            changed[self._at(value, -1)] ^= 1 << self._chance.randrange(8)
        return bytes(changed)

    def _cut(self, value: bytes) -> bytes:
        at = self._at(value)
        return value[:at] if self._chance.random() < 0.8 else value[at:]

    def _repeat(self, value: bytes) -> bytes:
        start, to = self._at(value), self._at(value)
        return value[:to] + value[start : start + self._chance.randrange(1, 40)] + value[to:]

    def _insert(self, value: bytes) -> bytes:
        at = self._at(value)
        return value[:at] + self._chance.randbytes(self._chance.choice((1, 1, 2, 8))) + value[at:]

    def _leave_out(self, value: bytes) -> bytes:
        at = self._at(value)
        return value[:at] + value[at + self._chance.choice((1, 1, 2, 10)) :]

    def _put(self, value: bytes) -> bytes:
        """Another value, or a name, in the place of one."""
        start, end = self._chance.choice(self._places[value])
        return value[:start] + self._chance.choice(FRAGMENTS) + value[end:]

    def _add(self, value: bytes) -> bytes:
        """A field more, known or not, in front or behind."""
        pair = b'"%s":%s' % (self._chance.choice(NAMES).encode(), self._chance.choice(FRAGMENTS))
        return b"{" + pair + b"," + value[1:] if self._chance.random() < 0.5 else value[:-1] + b"," + pair + b"}"

    def _splice(self, value: bytes) -> bytes:
        other = self._chance.choice(self._good)[1]
        return value[: self._at(value)] + other[self._at(other) :]

    def _tail(self, value: bytes) -> bytes:
        more = self._chance.choice(TAILS)
        return value + more if self._chance.random() < 0.7 else more + value

    def _punctuate(self, value: bytes) -> bytes:
        at = self._at(value, -1)
        return (
            value[:at] + self._chance.choice((b'"', b"{", b"}", b"[", b"]", b":", b",", b"\\", b"-")) + value[at + 1 :]
        )

    def _at(self, value: bytes, beyond: int = 0) -> int:
        return int(self._chance.random() * (len(value) + 1 + beyond))


#: The place of a value that is not composed, between its name and what follows.
PLACE = re.compile(rb'":("(?:[^"\\]|\\.)*"|[^,"{}\[\]]+)')
