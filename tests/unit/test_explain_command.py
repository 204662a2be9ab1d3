"""`interest model explain`: a table that people can read, and a file with all of it."""

from pathlib import Path

import orjson
import pytest

from models.bundle import Bundle
from stream.commands.explain import command
from stream.errors import UsageError
from tests.bundles import random_bundle
from tests.logs import event, write_log

NOW = 1_700_006_400_000
HOUR_MS = 3_600_000
HOSTILE = "[bold]x[/]\x1b[31m\n"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of four items in two categories, one with a name that is markup and a terminal's escape."""
    return random_bundle(
        tmp_path_factory.mktemp("bundle") / "b",
        item_ids=["a", "b", "c", "d"],
        item_names=["Ant", "Bee", HOSTILE, "Dove"],
        item_categories=["x", "x", "y", "y"],
        category_names=["Crawls", "Flies"],
        hidden=8,
        dim=6,
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Of three users; the last has a single event, years before the others."""
    lines = [event("u", item, NOW + n * HOUR_MS) for n, item in enumerate("abc")]
    lines += [event("v", item, NOW + n * HOUR_MS, type="cart") for n, item in enumerate("dab")]
    return write_log(tmp_path / "log", [*lines, event("old", "a", NOW - 10_000 * HOUR_MS)])


def explain(bundle: Bundle, log: Path, *options: str) -> None:
    """Call the command."""
    command.main([str(bundle.folder), f"--events={log}", *options], prog_name="explain", standalone_mode=False)


def test_a_table_of_each_user(bundle: Bundle, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Time, type, names, how far, where to; foreign names do no harm; below, what the vector leans to."""
    explain(bundle, log)
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert "user u: 3 events in the window" == lines[0]
    assert ["time (UTC)", "type", "item", "category", "moved", "own item, category", "towards"] == [
        name for name in map(str.strip, lines[1].split("  ")) if name
    ]
    assert lines[2].startswith("2023-11-15 00:00:00  click  Ant")
    assert "Crawls" in lines[2]
    assert "%" in lines[2]
    assert "[bold]x[/]\\x1b[31m\\n" in lines[4]
    assert "\x1b" not in said
    assert lines[5].startswith("leans to the categories ")
    assert lines[6].startswith("leans to the items ")
    assert "user v: 3 events in the window" in lines
    assert "user old: 1 event in the window" in lines


def test_users_who_are_named(bundle: Bundle, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only they; one who is not there, or has nothing within the limits, is an error."""
    explain(bundle, log, "--user=v")
    assert ["user v: 3 events in the window"] == [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("user ")
    ]
    with pytest.raises(UsageError, match="expected events of user 'w', got none; the first users there are 'u', 'v'"):
        explain(bundle, log, "--user=u", "--user=w")
    with pytest.raises(UsageError, match="user 'old': expected events that are within the limits, got none: 1 too"):
        explain(bundle, log, "--user=old", "--since=2023-01-01")


def test_users_who_are_not_named(bundle: Bundle, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So many as are asked for; one of them without a window is told, all of them without one is an error."""
    explain(bundle, log, "--first=1")
    assert "user v" not in capsys.readouterr().out
    explain(bundle, log, "--since=2023-01-01")
    told = capsys.readouterr()
    assert "user old" not in told.out
    assert told.err.startswith("left out: ")
    assert "user 'old': expected events that are within the limits" in told.err
    with pytest.raises(UsageError, match="expected a user with a window among the first 3, got none; name one: --user"):
        explain(bundle, log, "--since=2024-01-01")


def test_the_score_of_one_item(bundle: Bundle, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A column of what each event added, the greatest first where that is asked for."""
    explain(bundle, log, "--user=u", "--item=d", "--sort=moved")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("item d, Dove: score ")
    at = lines[2].index("adds")
    added = [float(line[at - 1 : at + 4]) for line in lines[3:6]]
    assert sorted(added, key=abs, reverse=True) == added
    with pytest.raises(UsageError, match="expected an item of the 4 that bundle"):
        explain(bundle, log, "--item=nope")


def test_order(bundle: Bundle, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By time, or by how far the vector moved; the longest bar is of the one that moved it most."""
    explain(bundle, log, "--user=u")
    by_time = capsys.readouterr().out.splitlines()[2:5]
    explain(bundle, log, "--user=u", "--sort=moved")
    by_moved = capsys.readouterr().out.splitlines()[2:5]
    assert sorted(by_time) == by_time
    assert by_time == sorted(by_moved)
    shares = [float(line.partition("%")[0].split()[-1]) for line in by_moved]
    assert sorted(shares, reverse=True) == shares
    assert "████████" in by_moved[0]


def test_a_narrow_terminal(
    bundle: Bundle, log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are cut, and what is less needed is left out; no line is longer than the terminal."""
    for name, value in {"TTY_COMPATIBLE": "1", "COLUMNS": "64", "NO_COLOR": "1", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    explain(bundle, log, "--user=u", "--top=2")
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("11-15 ")]
    assert 3 == len(table)
    assert all(len(line) <= 64 for line in table)
    assert any("…" in line for line in table)


def test_all_of_it_as_json(bundle: Bundle, log: Path, tmp_path: Path) -> None:
    """The bundle, the log as it was named, and each user's vector and events."""
    output = tmp_path / "explained.json"
    explain(bundle, log, "--user=u", "--user=v", "--item=d", "--top=1", "--since=2023-01-01", f"--output={output}")
    found = orjson.loads(output.read_bytes())
    assert [bundle.version, [str(log), "--since=2023-01-01T00:00:00"]] == [found["bundle"], found["log"]]
    assert ["u", "v"] == [one["user_id"] for one in found["users"]]
    for one in found["users"]:
        assert bundle.dim == len(one["vector"])
        assert "d" == one["item"]["id"]
        assert {"timestamp", "type", "item_id", "item_name", "category_id", "category_name", "moved", "added"} < set(
            one["events"][0]
        )
    with pytest.raises(
        UsageError, match=r"none/x\.json: expected a file that can be written: No such file or directory"
    ):
        explain(bundle, log, f"--output={tmp_path / 'none' / 'x.json'}")


def test_the_settings_of_a_worker(
    bundle: Bundle, log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window is cut as a worker with these settings cuts it."""
    monkeypatch.setenv("INTEREST_WINDOW_MAX_EVENTS", "2")
    monkeypatch.setenv("INTEREST_WINDOW_KEEP_EVENTS", "1")
    explain(bundle, log, "--user=u")
    assert "user u: 1 event in the window" == capsys.readouterr().out.splitlines()[0]
