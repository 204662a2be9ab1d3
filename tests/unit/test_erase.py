"""User ids to erase records: which ids are taken, and what a wrong call is told before anything is sent."""

import json
from pathlib import Path

import pytest

from stream.commands import run
from stream.decode import decode
from stream.erase import parse_user, unique
from stream.eventfile import Record, Unfit
from tests.functional.test_batch import Raw

NOBODY = "127.0.0.1:1"


def test_erase_record() -> None:
    """A line becomes the record of the contract, which a worker takes for one; the key is the bare id (K05)."""
    made = parse_user(3, 'ü "1"'.encode())
    assert isinstance(made, Record)
    assert made.key == 'ü "1"'.encode()
    assert json.loads(made.value) == {"type": "erase", "user_id": 'ü "1"'}
    decoded = decode([Raw(made.value, made.key, 5)])
    assert [True] == decoded.erase.tolist()
    assert [] == decoded.refused


@pytest.mark.parametrize("line", [b"x" * 256, "é".encode() * 256, b" u1 ", b"null", b'"u1"'])
def test_ids_that_are_taken(line: bytes) -> None:
    """Any text of 1 to 256 characters is an id, as it is."""
    made = parse_user(2, line)
    assert isinstance(made, Record)
    assert line == made.key


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "expected a user id of 1 to 256 characters, got 0"),
        (b"x" * 257, "expected a user id of 1 to 256 characters, got 257"),
        (b"a\0b", "expected a user id without NUL"),
        (
            b"\xff1",
            "expected a user id in UTF-8: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        ),
    ],
)
def test_ids_that_are_none(line: bytes, reason: str) -> None:
    """What an event could not have as its user_id is refused with the reason."""
    assert Unfit(2, reason) == parse_user(2, line)


def test_line_ends() -> None:
    """A line end of Windows and a byte order mark at the file's beginning are no part of an id."""
    for number, line in ((1, b"\xef\xbb\xbfu1\r"), (2, b"u1\r")):
        made = parse_user(number, line)
        assert isinstance(made, Record)
        assert b"u1" == made.key


def test_unique() -> None:
    """A user is erased once, however often a file has the id."""
    records = [Record(line, key, b"", None) for line, key in ((1, b"a"), (2, b"b"), (3, b"a"))]
    assert [1, 2] == [record.line for record in unique(records)]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "expected either USER or --file FILE"),
        (["u1", "--file", "FILE"], "expected either USER or --file FILE"),
        (["u1", "--topic", "interest-updates"], "wrong --topic interest-updates: expected a topic with events"),
        (["u1", "--topic", "dead-letters"], "wrong --topic dead-letters: expected a topic with events"),
        (["a\nb" * 100], "wrong USER a\\nb"),
        ([""], "wrong USER : expected a user id of 1 to 256 characters, got 0"),
    ],
)
def test_wrong_call(arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line and exit code 2, before the broker is asked."""
    file = tmp_path / "users"
    file.write_text("u1\n")
    given = [str(file) if argument == "FILE" else argument for argument in arguments]
    assert 2 == run(["erase", "--broker", NOBODY, *given])
    assert f"error: {told}" in capsys.readouterr().err


def test_wrong_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every wrong line is named, and nobody is erased: the broker is not even asked."""
    file = tmp_path / "users"
    file.write_bytes(b"u1\n\na\0b\n\xff\n")
    assert 1 == run(["erase", "--broker", NOBODY, "--file", str(file)])
    lines = capsys.readouterr().err.splitlines()
    assert f"{file}, line 3: expected a user id without NUL" == lines[0]
    assert lines[1].startswith(f"{file}, line 4: expected a user id in UTF-8")
    assert "error: 2 of 3 lines are no user ids; nobody was erased" == lines[2]


def test_file_without_users(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of blank lines is a failure, told as such."""
    file = tmp_path / "users"
    file.write_text("\n \n")
    assert 1 == run(["erase", "--broker", NOBODY, "--file", str(file)])
    assert f"error: {file}: expected a user id a line, got none\n" == capsys.readouterr().err
