"""Lines of event files: which are sent, as what, and why the others are not."""

import gzip
import io
import json
import sys
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from stream.errors import InterestError
from stream.eventfile import Parse, Record, Unfit, open_events, parse_json, parse_taobao, read_events


class Trickle(io.RawIOBase):
    """A pipe that gives one piece at a time, as a slow writer makes them."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self.pieces.pop(0) if self.pieces else b""
        buffer[: len(piece)] = piece
        return len(piece)


def pipe(*pieces: bytes) -> BufferedReader:
    """A buffered reader of such a pipe, as standard input is one."""
    return BufferedReader(cast(io.FileIO, Trickle(*pieces)))


def read(data: bytes, parse: Parse = parse_json) -> list[Record | Unfit]:
    """Every line of some bytes."""
    return [line for chunk in read_events(io.BytesIO(data), parse) for line in chunk]


def records(data: bytes, parse: Parse = parse_json) -> list[Record]:
    """Every line of some bytes, all of which must be fit."""
    found = [line for line in read(data, parse) if isinstance(line, Record)]
    assert found == read(data, parse)
    return found


def unfit(line: bytes, parse: Parse = parse_json) -> str:
    """Why a line is not sent."""
    (found,) = read(line, parse)
    assert isinstance(found, Unfit)
    return found.reason


@pytest.mark.parametrize(
    "line",
    [
        b'{"user_id":"u1","type":"click"}',
        b' {"type": 5, "user_id" : "u1"} ',
        b'{"user_id":"u1","price":NaN}',
        b'{"user_id":"u1","price":1e999,"quantity":' + b"9" * 5000 + b"}",
        b'{"user_id":"u1","text":"\xff"}',
        b'{"user_id":"u1","text":"\\ud800"}',
        b'{"user_id":5,"user_id":"u1"}',
    ],
)
def test_a_line_with_a_user_is_sent_as_it_is(line: bytes) -> None:
    """Whatever else is wrong with it is for the worker to say; not a byte is changed."""
    assert [record[:3] for record in records(line + b"\n")] == [(1, b"u1", line)]


def test_keys_are_raw_utf8() -> None:
    """The key is the user id itself, never quoted, whatever it holds (K05)."""
    users = ["u1", '"u1"', "用户", "a\0b", "", " "]
    found = records(b"\n".join(orjson.dumps({"user_id": user}) for user in users))
    assert [record.key for record in found] == [user.encode() for user in users]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"hello", "expected a JSON object with a string user_id: Expecting value: line 1 column 1 (char 0)"),
        (b'{"user_id":"u1"', "expected a JSON object with a string user_id: Expecting ',' delimiter"),
        (b"[" * 100_000, "expected a JSON object with a string user_id: maximum recursion depth exceeded"),
        (b"[1]", "expected a JSON object with a string user_id, got an array"),
        (b"null", "expected a JSON object with a string user_id, got null"),
        (b"{}", "expected a string user_id, got none"),
        (b'{"user_id":null}', "expected a string user_id, got null"),
        (b'{"user_id":18446744073709551616}', "expected a string user_id, got a number"),
        (b'{"user_id":true}', "expected a string user_id, got true or false"),
        (b'{"user_id":"\\ud800"}', "expected a user_id that UTF-8 can hold, got an unpaired surrogate or raw bytes"),
        (b'{"user_id":"\xff"}', "expected a user_id that UTF-8 can hold, got an unpaired surrogate or raw bytes"),
    ],
)
def test_a_line_without_a_user(line: bytes, reason: str) -> None:
    """Each says what was expected and what came."""
    assert unfit(line).startswith(reason)


def test_lines_are_counted_from_one() -> None:
    """Blank lines count, and are passed over; Windows line ends are no part of the line."""
    found = read(b'{"user_id":"a"}\r\n\r\n  \nx\n{"user_id":"b"}')
    assert [line.line for line in found] == [1, 4, 5]
    assert found[0] == Record(1, b"a", b'{"user_id":"a"}', None)


@pytest.mark.parametrize(
    ("time", "time_ms"),
    [
        (1511658000123, 1511658000123),
        ("2017-11-26T09:00:00.123+08:00", 1511658000123),
        ("2017-11-26T01:00:00Z", 1511658000000),
        ("2017-11-26T01:00:00", None),
        ("yesterday", None),
        (1.5, None),
        (True, None),
        (None, None),
    ],
)
def test_times(time: object, time_ms: int | None) -> None:
    """Both forms of a time are read, for the sake of order; anything else has none."""
    (found,) = records(json.dumps({"user_id": "a", "timestamp": time}).encode())
    assert found.time_ms == time_ms


def test_taobao() -> None:
    """A row of the Tianchi file as an event of the contract."""
    found = records(b"1,2268318,2520377,pv,1511544070\n1,3,4,buy,15\r\n9,3,4,cart,1\n9,3,4,fav,-1", parse_taobao)
    events = [orjson.loads(record.value) for record in found]
    assert events[0] == {
        "user_id": "1",
        "type": "click",
        "item_id": "2268318",
        "category_id": "2520377",
        "timestamp": 1511544070000,
    }
    assert [event["type"] for event in events] == ["click", "purchase", "cart", "favorite"]
    assert [event["timestamp"] for event in events] == [1511544070000, 15000, 1000, -1000]
    assert [record.key for record in found] == [b"1", b"1", b"9", b"9"]


@pytest.mark.parametrize("row", [b"1,2,3,pv", b"1,2,3,view,5", b"1,2,3,pv,noon", b"1,2,3,pv,5,6", b"\xff,2,3,pv,5"])
def test_taobao_rows_that_are_none(row: bytes) -> None:
    """The row is shown with what was expected."""
    assert unfit(row, parse_taobao).startswith("expected user,item,category,pv|cart|fav|buy,seconds, got '")


def test_lines_come_as_they_are_written() -> None:
    """What is piped slowly is given line by line, without waiting for more."""
    slow = pipe(b'{"user_id":"a"}\n', b'{"user_', b'id":"b"}\n{"user_id":"c"}')
    assert [[line[1] for line in chunk] for chunk in read_events(slow, parse_json)] == [[b"a"], [], [b"b"], [b"c"]]


def test_gzip_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    """Compressed or not, whatever the file's name."""
    plain, packed = tmp_path / "a.gz", tmp_path / "b.json"
    plain.write_bytes(b'{"user_id":"a"}\n')
    packed.write_bytes(gzip.compress(b'{"user_id":"a"}\n'))
    for path in (plain, packed):
        with open_events(str(path)) as stream:
            assert list(read_events(stream, parse_json)) == [[Record(1, b"a", b'{"user_id":"a"}', None)]]


def test_cut_gzip(tmp_path: Path) -> None:
    """A compressed file that was cut gives the lines it has, then says so."""
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(b"".join(b'{"user_id":"%d"}\n' % number for number in range(100_000)))[:-50])
    with open_events(str(path)) as stream:
        chunks = read_events(stream, parse_json)
        assert len(next(chunks)) > 1000
        with pytest.raises(
            InterestError, match=r"^compressed data is damaged after line \d{4,}: Compressed file ended"
        ):
            list(chunks)


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    """The path and the system's reason."""
    with pytest.raises(InterestError, match=r"nothing: No such file or directory$"), open_events(f"{tmp_path}/nothing"):
        pass


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` is standard input, and stays open."""
    buffer = pipe(gzip.compress(b'{"user_id":"a"}\n'))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(buffer))
    with open_events("-") as stream:
        assert [len(chunk) for chunk in read_events(stream, parse_json)] == [1]
    assert not buffer.closed
