"""What is taken out of a log before anything is learnt from it, and that it is told."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.clean import DAY_MS, MINUTE_MS, Dropped, Limits, clean
from models.log import Log, read
from stream.contract import hash64
from stream.errors import UsageError
from tests.logs import event, write_log

NOW = 1_700_006_400_000  # midnight, UTC
NONE = Limits(minute_max=0, day_max=0)


def a_log(folder: Path, *events: dict[str, Any]) -> Log:
    """A log of these."""
    return read(write_log(folder / "log", list(events)))


def shown(log: Log) -> list[list[int]]:
    """Times of each user's events, from NOW."""
    times = (log.events["timestamp"] - NOW).tolist()
    return [times[a:b] for a, b in zip(log.starts[:-1], log.starts[1:], strict=True)]


def test_a_clean_log_stays(tmp_path: Path) -> None:
    """Nothing is taken, nothing is told."""
    log = a_log(tmp_path, event("u", "a", NOW), event("u", "b", NOW), event("v", "a", NOW))
    cleaned, report = clean(log, Limits())
    assert [] == report
    assert [[0, 0], [0]] == shown(cleaned)


def test_repeated_events(tmp_path: Path) -> None:
    """The same user, item, type and time is one event, however often it was written; another type is another."""
    same = event("u", "a", NOW)
    log = a_log(tmp_path, same, event("v", "a", NOW), same, same | {"type": "cart"}, same, event("u", "b", NOW))
    cleaned, report = clean(log, NONE)
    assert [Dropped("repeated: same user, item, type and time", 2, 1)] == report
    assert [[0, 0, 0], [0]] == shown(cleaned)
    assert [hash64("a"), hash64("a"), hash64("b")] == cleaned.events["item"][:3].tolist()


def test_times_out_of_bounds(tmp_path: Path) -> None:
    """Before `since`, and from `until` on; who has no other events is gone."""
    log = a_log(
        tmp_path, event("u", "a", NOW - 1), event("v", "a", NOW), event("v", "b", NOW + 9), event("w", "a", NOW + 10)
    )
    cleaned, report = clean(log, replace(NONE, since_ms=NOW, until_ms=NOW + 10))
    assert [Dropped("too early", 1, 1), Dropped("too late", 1, 1)] == report
    assert [[0, 9]] == shown(cleaned)
    assert {"a", "b"} == set(cleaned.names.items)


def test_nothing_is_known_of_what_came_later(tmp_path: Path) -> None:
    """An item that all came too late is not in the catalog; one that a catalog file tells of is."""
    catalog = write_log(tmp_path / "catalog", [{"item_id": "told", "category_id": "c"}])
    path = write_log(tmp_path / "log", [event("u", "a", NOW), event("u", "later", NOW + 10, category_id="c")])
    cleaned, _ = clean(read(path, catalog), replace(NONE, until_ms=NOW + 10))
    assert {"a": "a", "told": "told"} == cleaned.names.items
    assert {"told": "c"} == cleaned.names.category_of


@pytest.mark.parametrize(
    ("limits", "gap_ms"), [(replace(NONE, minute_max=3), MINUTE_MS // 4), (replace(NONE, day_max=3), DAY_MS // 4)]
)
def test_users_who_are_no_people(limits: Limits, gap_ms: int, tmp_path: Path) -> None:
    """Over so many in a minute, or in a day: the whole user goes. The same number over a longer time stays."""
    bot = [event("bot", f"i{n}", NOW + n * gap_ms) for n in range(4)]
    person = [event("person", f"i{n}", NOW + n * 2 * gap_ms) for n in range(4)]
    cleaned, report = clean(a_log(tmp_path, *bot, *person, event("bot", "later", NOW + 9 * DAY_MS)), limits)
    assert [(5, 1)] == [(one.events, one.users) for one in report]
    assert [[n * 2 * gap_ms for n in range(4)]] == shown(cleaned)


def test_short_users_and_rare_items(tmp_path: Path) -> None:
    """Users with too few events go; of rare items only the name, so that they are unknown, as to the worker."""
    log = a_log(
        tmp_path,
        event("u", "a", NOW),
        event("u", "b", NOW),
        event("v", "a", NOW),
        event("v", "a", NOW + 1),
        event("w", "a", NOW),
    )
    cleaned, report = clean(log, replace(NONE, user_min=2, item_min=2))
    assert [Dropped("of users with under 2", 1, 1), Dropped("of items with under 2, kept as unknown", 1, 1)] == report
    assert [[0, 0], [0, 1]] == shown(cleaned)
    assert {"a"} == set(cleaned.names.items)


def test_nothing_is_left(tmp_path: Path) -> None:
    """It says what was taken."""
    with pytest.raises(UsageError, match="got none: 1 too early"):
        clean(a_log(tmp_path, event("u", "a", NOW)), replace(NONE, since_ms=NOW + 1))


def test_a_log_of_which_all_was_erased(tmp_path: Path) -> None:
    """Said as it is, not as a fault of the limits."""
    log = a_log(tmp_path, event("u", "a", NOW), {"type": "erase", "user_id": "u"})
    with pytest.raises(UsageError, match="got none: all of the log's were erased"):
        clean(log, Limits())
