"""Logs of shops and of public data sets become events of the contract; what is none says why."""

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from models.formats import ORDER_MS, read
from models.log import read as read_log
from models.rows import Mapped, Row, time_ms
from stream.contract import EVENT_TYPES, amount_code, hash64
from stream.errors import InterestError, UsageError

NOW_S = 1_511_658_000
NOW_MS = NOW_S * 1000


def rows(path: Path, form: str, mapped: Mapped | None = None) -> list[Row]:
    """All rows."""
    return list(read(path, form, mapped or Mapped()))


def written(path: Path, text: str) -> Path:
    """A file with this text."""
    path.write_text(text)
    return path


def click(user: str, item: str, time: int = NOW_MS, **more: Any) -> dict[str, Any]:
    """An event."""
    return {"user_id": user, "item_id": item, "timestamp": time, "type": "click"} | more


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        (
            "taobao",
            f"1,2,3,pv,{NOW_S}\r\n1,4,3,buy,{NOW_S + 1}\n",
            [click("1", "2", category_id="3"), click("1", "4", NOW_MS + 1000, category_id="3", type="purchase")],
        ),
        (
            "retailrocket",
            f"timestamp,visitorid,event,itemid,transactionid\n{NOW_MS},9,view,7,\n{NOW_MS},9,transaction,7,4000\n",
            [click("9", "7"), click("9", "7", type="purchase")],
        ),
        (
            "yoochoose",
            "1,2017-11-26T01:00:00.250Z,214536502,0\n",
            [click("1", "214536502", NOW_MS + 250, category_id="0")],
        ),
        (
            "yoochoose",
            "420374,2017-11-26T01:00:00Z,214537888,12462,2\n",
            [click("420374", "214537888", type="purchase", price=12462.0, quantity=2.0)],
        ),
        (
            "diginetica",
            "sessionId;userId;itemId;timeframe;eventdate\n1;NA;81766;526309;2017-11-26\n",
            [click("1", "81766", 1_511_654_400_000 + 526_309)],
        ),
        (
            "otto",
            '{"session":12,"events":[{"aid":59625,"ts":1661724000278,"type":"clicks"},'
            '{"aid":7,"ts":1661724000279,"type":"orders"}]}\n',
            [click("12", "59625", 1_661_724_000_278), click("12", "7", 1_661_724_000_279, type="purchase")],
        ),
        (
            "amazon",
            f'{{"reviewerID":"A3","asin":"B0","overall":4.0,"summary":"好","reviewText":"Good.","unixReviewTime":{NOW_S}}}\n',
            [click("A3", "B0", type="review", rating=4.0, text="好\nGood.")],
        ),
        (
            "csv",
            f"timestamp,user_id,item_id,type,price,item_name,other\n{NOW_S},u,i,cart,9.5,A pen,x\n",
            [click("u", "i", type="cart", price=9.5, item_name="A pen")],
        ),
    ],
)
def test_formats(form: str, text: str, expected: list[dict[str, Any]], tmp_path: Path) -> None:
    """Each format's rows as events: ids as text, times in milliseconds, types in the contract's words (T09, I01)."""
    assert expected == [row.event for row in rows(written(tmp_path / "log", text), form)]


@pytest.mark.parametrize(
    ("form", "text", "number", "problem"),
    [
        ("taobao", f"1,2,3,pv,{NOW_S}\n1,2,3\n", 2, "expected 5 columns, got 3"),
        ("taobao", "1,2,3,pv,soon\n", 1, "expected a time"),
        ("taobao", "1,2,3,pv,nan\n", 1, "expected a time"),
        ("retailrocket", "timestamp,visitorid,event,itemid,transactionid\n1,2\n", 2, "expected 5 columns, got 2"),
        ("yoochoose", "1,2017-11-26,7,12,many\n", 1, "expected a number as quantity"),
        ("yoochoose", "1,2017-11-26,7,inf,1\n", 1, "expected a number as price"),
        ("diginetica", "sessionId;userId;itemId;timeframe;eventdate\n1;NA;8;x;2017-11-26\n", 2, "expected sessionId"),
        ("diginetica", "sessionId;userId;itemId;timeframe;eventdate\n1;NA\n", 2, "expected sessionId"),
        ("otto", '{"session":12}\n', 1, "expected session and events"),
        ("otto", "no json\n", 1, "expected session and events"),
        ("amazon", "\n[]\n", 2, "expected reviewerID"),
        ("amazon", '{"reviewerID":"A3","asin":"B0"}\n', 1, "expected reviewerID"),
    ],
)
def test_rows_that_are_no_events(form: str, text: str, number: int, problem: str, tmp_path: Path) -> None:
    """They are told with their number, and the rows around them stand (I01)."""
    found = [row for row in rows(written(tmp_path / "log", text), form) if row.event is None]
    assert [number] == [row.number for row in found]
    assert problem in found[0].problem


def test_columns_and_types_by_name(tmp_path: Path) -> None:
    """A shop's own table: columns and types are named, what stands in no field is left out, empty cells are none."""
    path = written(tmp_path / "log.csv", f"who;what;when;how;sum\n7;pen;{NOW_MS};view;\n7;pen;{NOW_MS};order;3\n")
    mapped = Mapped(
        {"user_id": "who", "item_id": "what", "timestamp": "when", "type": "how", "price": "sum"},
        {"view": "click", "order": "purchase"},
        separator=";",
    )
    expected = [click("7", "pen"), click("7", "pen", type="purchase", price=3.0)]
    assert expected == [row.event for row in rows(path, "csv", mapped)]


@pytest.mark.parametrize(
    ("mapped", "message"),
    [
        (Mapped(), "expected a column for type, got user_id, item_id, timestamp: name it with --column type=NAME, or"),
        (Mapped({"user_id": "who"}), "expected a column 'who' for user_id, got user_id, item_id, timestamp"),
        (Mapped({"user": "user_id"}), "expected a field of an event"),
    ],
)
def test_columns_that_are_missing(mapped: Mapped, message: str, tmp_path: Path) -> None:
    """A table without what is needed ends before anything is learnt from it, with what to say instead."""
    with pytest.raises(UsageError, match=message):
        rows(written(tmp_path / "log.csv", "user_id,item_id,timestamp\n"), "csv", mapped)


def test_parquet(tmp_path: Path) -> None:
    """Numbers as ids, dates as times, nulls as nothing; pieces follow each other."""
    pl = pytest.importorskip("polars", reason="Parquet is part of the train extra")
    path = tmp_path / "log.parquet"
    count = 70_000
    pl.DataFrame(
        {
            "visitor": list(range(count)),
            "item_id": [7.0] * count,
            "timestamp": [datetime(2017, 11, 26, 1, tzinfo=UTC)] * count,
            "price": [None, 2.5] * (count // 2),
        }
    ).write_parquet(path)
    found = rows(path, "parquet", Mapped({"user_id": "visitor"}, type="click"))
    assert list(range(1, count + 1)) == [row.number for row in found]
    assert click("0", "7") == found[0].event
    assert click("69999", "7", price=2.5) == found[-1].event


def test_no_parquet(tmp_path: Path) -> None:
    """Another file is told from one."""
    pytest.importorskip("polars", reason="Parquet is part of the train extra")
    with pytest.raises(UsageError, match="expected a Parquet file"):
        rows(written(tmp_path / "log", "hello"), "parquet")


def test_files_of_a_folder(tmp_path: Path) -> None:
    """All of them by name, compressed or not."""
    written(tmp_path / "b.csv", f"2,2,3,pv,{NOW_S}\n")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(f"1,2,3,pv,{NOW_S}\n".encode()))
    written(tmp_path / "c.csv", "3\n")
    found = rows(tmp_path, "taobao")
    assert ["1", "2"] == [row.event["user_id"] for row in found if row.event]
    assert ["a.csv.gz, line 1", "b.csv, line 1", "c.csv, line 1"] == [row.place for row in found]
    log = read_log(tmp_path, form="taobao")
    assert (3, 1, "c.csv, line 1: expected 5 columns, got 1") == (log.lines, log.refused, log.first_refusal)


def test_events_that_share_a_line(tmp_path: Path) -> None:
    """Each names its own item (OTTO has a session a line)."""
    events = [{"aid": aid, "ts": 1_661_724_000_000 + aid, "type": "clicks"} for aid in (5, 7)]
    line = orjson.dumps({"session": 1, "events": events}).decode()
    log = read_log(written(tmp_path / "log", line), form="otto")
    assert {"5", "7"} == set(log.names.items)


@pytest.mark.parametrize("name", ["xml", ""])
def test_no_such_format(name: str, tmp_path: Path) -> None:
    """It names those there are."""
    with pytest.raises(UsageError, match="expected a format of csv, parquet, taobao"):
        rows(tmp_path, name)


def test_no_files(tmp_path: Path) -> None:
    """Neither an empty folder nor a file that is not there is a log."""
    with pytest.raises(UsageError, match="expected a folder with files"):
        rows(tmp_path, "taobao")
    with pytest.raises(InterestError, match="No such file"):
        rows(tmp_path / "none", "taobao")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (NOW_S, NOW_MS),
        (NOW_MS, NOW_MS),
        (NOW_MS * 1000, NOW_MS),
        (f"{NOW_S}.5", NOW_MS + 500),
        ("2017-11-26T09:00:00+08:00", NOW_MS),
        ("2017-11-26 01:00:00", NOW_MS),
        ("2017-11-26", NOW_MS - 3_600_000),
        (datetime(2017, 11, 26, 1), NOW_MS),  # without a zone is meant
    ],
)
def test_times(value: object, expected: int) -> None:
    """Seconds, milliseconds and microseconds by their size; ISO 8601, in UTC where it names no zone (T09)."""
    assert expected == time_ms(value)


def test_a_log_is_judged_as_a_shop_s_events_are(tmp_path: Path) -> None:
    """Rows pass the worker's own check: an unknown type and a time out of range are refused with its reasons."""
    path = written(tmp_path / "log", f"1,2,3,buy,{NOW_S}\n1,2,3,steal,{NOW_S}\n1,2,3,pv,15\nx\n")
    log = read_log(path, form="taobao")
    assert [(hash64("2"), EVENT_TYPES["purchase"])] == log.events[["item", "type"]].tolist()
    assert (4, 3, "line 4: expected 5 columns, got 1") == (log.lines, log.refused, log.first_refusal)
    with pytest.raises(UsageError, match="expected events as taobao, got 1 lines that are not; line 1: unknown_type"):
        read_log(written(tmp_path / "log", f"1,2,3,steal,{NOW_S}\n"), form="taobao")


def test_the_same_log_in_each_form(tmp_path: Path) -> None:
    """JSON Lines and a table of the same events make the same log."""
    events = [click("u", "a", price=3.0), click("v", "b", NOW_MS + 5, quantity=2.0)]
    lines = tmp_path / "log.jsonl"
    lines.write_bytes(b"\n".join(map(orjson.dumps, events)))
    table = "user_id,item_id,timestamp,type,price,quantity\n"
    table += f"u,a,{NOW_MS},click,3,\nv,b,{NOW_MS + 5},click,,2\n"
    one, other = read_log(lines), read_log(written(tmp_path / "log.csv", table), form="csv")
    assert one.events.tolist() == other.events.tolist()
    assert one.names == other.names
    assert amount_code(3) == one.events["price"][0]


def test_sequences_of_users(tmp_path: Path) -> None:
    """A user and the items on a line; times of a file beside it, else a second apart; a line that differs is told."""
    (tmp_path / "log.txt").write_text("1 a b c\n\n2 a\n3 a b\n")
    plain = list(read(tmp_path / "log.txt", "sequences", Mapped()))
    assert ["1", "1", "1", "2", "3", "3"] == [row.event["user_id"] for row in plain if row.event]
    assert [0, 1000, 2000] == [row.event["timestamp"] - ORDER_MS for row in plain[:3] if row.event]
    (tmp_path / "log_times.txt").write_text("1 1318896000 1318896000 1328140800\n\n2 x\n3 1318896000\n")
    rows = list(read(tmp_path / "log.txt", "sequences", Mapped()))
    assert [1318896000000, 1318896000000, 1328140800000] == [row.event["timestamp"] for row in rows[:3] if row.event]
    assert ["line 3", "line 4"] == [row.place for row in rows[3:]]
    assert "expected a time" in rows[3].problem
    assert "expected the same user and as many times in log_times.txt, got 2" == rows[4].problem


def test_sessions_of_nobody(tmp_path: Path) -> None:
    """A line is a user of its own, later than the line before; a target behind a tab is its last item."""
    with gzip.open(tmp_path / "log.txt.gz", "wt") as file:
        file.write("a b\na\tc\n")
    events = [row.event for row in read(tmp_path / "log.txt.gz", "sessions", Mapped()) if row.event]
    assert [("1", "a"), ("1", "b"), ("2", "a"), ("2", "c")] == [(one["user_id"], one["item_id"]) for one in events]
    assert [60_000, 61_000, 120_000, 121_000] == [one["timestamp"] - ORDER_MS for one in events]
