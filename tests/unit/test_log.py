"""An event log is read as the worker would read it."""

from pathlib import Path

import numpy as np
import pytest

from models.features import text_tokens
from models.log import catalog_lists, read
from stream import contract
from stream.errors import UsageError
from tests.logs import END_MS, event, shop_log, write_log

NOW = 1_700_000_000_000


def test_users_together_by_time_ties_as_they_came(tmp_path: Path) -> None:
    """E01: events of a user stand by time, equal times in the log's order, late ones where their time says."""
    log = read(
        write_log(
            tmp_path / "log",
            [
                event("u", "z", NOW),
                event("v", "q", NOW - 5),
                event("u", "a", NOW),
                event("u", "m", NOW - 1),
            ],
        )
    )
    assert log.starts.tolist() == [0, 3, 4]
    assert log.events["item"].tolist() == [contract.hash64(item) for item in "mzaq"]
    assert log.users == 2


def test_t09_times_stay_whole_milliseconds(tmp_path: Path) -> None:
    """T09: seconds of 1.7e9 with 60 and 4 s between them come out to the millisecond."""
    times = [1_700_000_000_000, 1_700_000_060_000, 1_700_000_064_000]
    log = read(write_log(tmp_path / "log", [event("u", "a", time) for time in times]))
    assert log.events["timestamp"].tolist() == times
    assert log.events["timestamp"].dtype == np.int64


def test_an_event_id_counts_once_a_user(tmp_path: Path) -> None:
    """The first of an event_id stays, whatever its repetition says; another user's is another; none is no id."""
    log = read(
        write_log(
            tmp_path / "log",
            [
                event("u", "a", NOW, event_id="1"),
                event("v", "a", NOW, event_id="1"),
                event("u", "b", NOW - 9, event_id="1"),
                event("u", "c", NOW),
                event("u", "c", NOW),
            ],
        )
    )
    assert log.events["item"].tolist() == [contract.hash64(item) for item in "acca"]
    assert log.repeated == 1


def test_an_erased_user_leaves_nothing_learnt(tmp_path: Path) -> None:
    """What came before an erase record is gone; what comes after is a new user's."""
    log = read(
        write_log(
            tmp_path / "log",
            [
                event("u", "a", NOW),
                event("v", "b", NOW),
                {"type": "erase", "user_id": "u"},
                {"type": "erase", "user_id": "v"},
                event("u", "c", NOW),
            ],
        )
    )
    assert log.events["item"].tolist() == [contract.hash64("c")]
    assert log.users == 1


def test_reviews_keep_their_tokens(tmp_path: Path) -> None:
    """Each text is found by its event, across the batches in which lines are read."""
    texts = {"a": "very good", "b": "很好", "c": "bad"}
    lines = [event("u", item, NOW + at, type="review", text=text) for at, (item, text) in enumerate(texts.items())]
    log = read(write_log(tmp_path / "log", [*lines[:1], *(event("v", "x", NOW) for _ in range(20_000)), *lines[1:]]))
    for place, text in zip(range(3), texts.values(), strict=True):
        tokens = log.tokens[log.text_row[place]]
        assert tokens[tokens > 0].tolist() == text_tokens(text)
    assert log.text_row[3:].max() == -1


def test_names_and_categories(tmp_path: Path) -> None:
    """Names come from events and from the catalog file; without one the id is the name; the last word counts."""
    events = write_log(
        tmp_path / "log",
        [
            event("u", "b", NOW, item_name="Bee", category_id="x"),
            event("u", "a", NOW, category_id="y", category_name="Why"),
            event("u", "a", NOW, item_name=3, category_id="x"),
        ],
    )
    catalog = write_log(
        tmp_path / "catalog",
        [{"item_id": "c", "item_name": "Sea"}, {"item_id": "b", "category_id": "x", "category_name": "Ex"}],
    )
    assert catalog_lists(read(events, catalog).names) == {
        "item_ids": ["a", "b", "c"],
        "item_names": ["a", "Bee", "Sea"],
        "item_categories": ["x", "x", ""],
        "category_ids": ["x", "y"],
        "category_names": ["Ex", "Why"],
    }
    bad = write_log(tmp_path / "bad", [{"item_id": "c"}, {"item_name": "Sea"}])
    with pytest.raises(UsageError, match="bad: line 2: expected a JSON object with item_id"):
        read(events, bad)


def test_refused_lines_are_counted_and_the_first_is_told(tmp_path: Path) -> None:
    """What the worker refuses training refuses too: the rest is read, and line, code and path are kept."""
    lines = [b"", event("u", "a", NOW), b"{", event("u", "a", 17), b"\xff", event("u", "", NOW), b'{"user_id": 3}']
    log = read(write_log(tmp_path / "log", lines))
    assert (len(log.events), log.lines, log.refused) == (1, 6, 5)
    assert log.first_refusal.startswith("line 3: missing_key: ")
    log = read(write_log(tmp_path / "log", [event("u", "a", NOW), event("u", "a", NOW * 1000)]))
    assert log.first_refusal.startswith("line 2: timestamp_in_future: $.timestamp: 1700000000000000 is over")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "expected a file of JSON Lines: No such file or directory"),
        (b"", "expected events as JSON Lines, got an empty file"),
        (b"user,item\n1,2\n", "expected events as JSON Lines, got 2 lines that are not; line 1: missing_key"),
    ],
)
def test_no_log(tmp_path: Path, content: bytes | None, said: str) -> None:
    """A file that is not there, empty, or of another format is a wrong call, in one line."""
    path = tmp_path / "log"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=said):
        read(path)


def test_late_and_repeated_events_change_nothing(tmp_path: Path) -> None:
    """The same events in another order of delivery, some twice, make the same log."""
    log = read(shop_log(tmp_path / "log", events=2000, users=30, late=0.3, duplicates=0.2))
    assert log.repeated == 400
    assert len(log.events) == 1600
    assert log.events["timestamp"].max() <= END_MS
    for start, end in zip(log.starts, log.starts[1:], strict=False):
        assert (np.diff(log.events["timestamp"][start:end]) >= 0).all()
