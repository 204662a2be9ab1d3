"""Evaluation sees a log as a stream does, and gives a model that foresees nothing nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from models.bundle import Bundle, Parts
from models.log import Log, read
from models.measure import Question, measure, table
from models.prequential import DAY_MS, go_through
from stream import contract
from stream.commands import run as interest
from stream.errors import UsageError
from stream.rules import Rules
from tests import reference
from tests.bundles import WORDS, random_bundle
from tests.logs import event, write_log

NOW = 1_700_006_400_000  # midnight, UTC
RULES = Rules(max_events=6, keep_events=3, max_age_ms=4 * DAY_MS, idle_ttl_ms=9 * DAY_MS)
ITEMS = [f"i{n}" for n in range(12)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of twelve items in three categories."""
    categories = [f"c{n % 3}" for n in range(12)]
    return random_bundle(
        tmp_path_factory.mktemp("bundle") / "b", item_ids=ITEMS, item_categories=categories, hidden=8, dim=6
    )


def random_log(path: Path, users: int = 9, events: int = 25) -> Log:
    """Users with up to so many events, hours to weeks apart, some reviews, some items that no bundle knows."""
    random = np.random.default_rng(3)
    lines = []
    for user in range(users):
        time = NOW
        for _ in range(int(random.integers(1, events))):
            time += int(random.choice([0, 3_600_000, DAY_MS, 5 * DAY_MS, 12 * DAY_MS], p=[0.1, 0.5, 0.3, 0.07, 0.03]))
            more: dict[str, Any] = {}
            if random.random() < 0.2:
                more = {"type": "review", "text": " ".join(random.choice(WORDS, 3)), "rating": 4}
            lines.append(event(f"u{user}", str(random.choice([*ITEMS, "new"])), time, **more))
    return read(write_log(path, lines))


def rows(log: Log) -> list[list[reference.Event]]:
    """Each user's events."""
    found: list[list[reference.Event]] = []
    for first, end in zip(log.starts[:-1], log.starts[1:], strict=True):
        found.append([])
        for at in range(first, end):
            fields = dict(zip(contract.EVENT_DTYPE.names or (), log.events[at].tolist(), strict=True))
            row = int(log.text_row[at])
            tokens = tuple(log.tokens[row][log.tokens[row] > 0].tolist()) if row >= 0 else ()
            found[-1].append(reference.Event(**fields, tokens=tokens))
    return found


def test_what_stood_before_each_event(bundle: Bundle, tmp_path: Path) -> None:
    """Windows and vectors, the day's too, are those of the slow reference: cuts, ages and idle times (T02)."""
    log = random_log(tmp_path / "log")
    model = reference.Model(bundle)
    rules = reference.Rules(RULES.max_events, RULES.keep_events, RULES.max_age_ms, RULES.idle_ttl_ms)
    windows: list[tuple[reference.Event, ...]] = []
    days: list[tuple[reference.Event, ...]] = []
    for events in rows(log):
        one, day = reference.Reference(rules), -1
        at_dawn: tuple[reference.Event, ...] = ()
        for offset, each in enumerate(events):
            shown = one.shown(b"u")
            held = shown.events if shown else ()
            if each.timestamp // DAY_MS != day:
                day, at_dawn = each.timestamp // DAY_MS, held
            windows.append(held)
            days.append(at_dawn)
            assert "accepted" == one.accept(1, offset, each.timestamp, b"u", each)

    before = go_through(log, bundle, RULES, np.ones(len(log.events), bool))

    assert [len(window) for window in windows] == before.held.tolist()
    assert max(before.held) == RULES.max_events
    for expected, found in ((windows, before.vectors), (days, before.daily)):
        some = [row for row, window in enumerate(expected) if window]
        np.testing.assert_allclose(model.vectors([expected[row] for row in some]), found[some], atol=1e-5)
        assert not found[[row for row, window in enumerate(expected) if not window]].any()


def test_only_what_is_asked(bundle: Bundle, tmp_path: Path) -> None:
    """The vector before an event is the same, whichever others are asked for."""
    log = random_log(tmp_path / "log")
    asked = np.arange(len(log.events)) % 5 == 2
    some = go_through(log, bundle, RULES, asked)
    whole = go_through(log, bundle, RULES, np.ones(len(log.events), bool))
    assert np.flatnonzero(asked).tolist() == some.place.tolist()
    np.testing.assert_array_equal(whole.vectors[asked], some.vectors)


def told(bundle: Bundle, items: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, vectors: Any) -> Bundle:
    """The bundle with these item vectors, and a model that says what it is told before each event."""

    def before(log: Log, *_: object) -> Any:
        real = go_through(log, bundle, RULES, np.ones(len(log.events), bool))
        given = vectors(log, real.held)
        return replace(real, vectors=given, daily=given)

    monkeypatch.setattr("models.measure.go_through", before)
    dim = items.shape[1]
    categories = np.zeros((bundle.catalog.categories, dim), np.float32)
    return replace(bundle, items=items, parts=Parts.none(dim, len(categories)), category_vectors=categories)


def axes() -> NDArray[np.float32]:
    """Item vectors at right angles, so that each is found by itself; row 0 zeros."""
    return np.eye(13, dtype=np.float32) * (np.arange(13) > 0)[:, None]


def measured(log: Log, bundle: Bundle) -> Any:
    """Figures of all events of known items."""
    return measure(log, bundle, RULES, Question(after_ms=NOW))["systems"]["model"]["item"]


def known(bundle: Bundle, log: Log) -> Any:
    """Row of each event's item."""
    return bundle.features.items.find(log.events["item"])


def test_a_model_that_knows(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who says the next item has 1, but for items that nobody can know; who is second has half of that by MRR."""
    log = read(
        write_log(
            tmp_path / "log", [event("u", f"i{n % 12}", NOW + n) for n in range(30)] + [event("u", "x", NOW + 99)]
        )
    )
    perfect = told(bundle, axes(), monkeypatch, lambda log, held: axes()[known(bundle, log)] * (held > 0)[:, None])
    figures = measured(log, perfect)
    assert (31, round(29 / 31, 4)) == (figures["asked"], figures["hr"]["5"])
    assert figures["hr"]["5"] == figures["ndcg"]["5"] == figures["mrr"]["5"]

    def second(log: Log, _held: Any) -> NDArray[np.float32]:
        row = known(bundle, log)
        said: NDArray[np.float32] = axes()[row] + 2 * axes()[np.where(row % 12 == 0, 1, row + 1)]
        return said

    figures = measured(log, told(bundle, axes(), monkeypatch, second))
    assert round(30 / 31 / 2, 4) == figures["mrr"]["5"]


@pytest.mark.parametrize("value", [0.0, 1.0, np.nan, np.inf])
def test_a_model_that_says_nothing(
    value: float, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same score for all items, or none, is a miss: ties and what is no number count against us (E02)."""
    log = read(write_log(tmp_path / "log", [event("u", f"i{n % 12}", NOW + n) for n in range(30)]))
    items = np.ones((13, 13), np.float32)
    with np.errstate(invalid="ignore"):
        figures = measured(
            log, told(bundle, items, monkeypatch, lambda log, _: np.full((len(log.events), 13), value, np.float32))
        )
    assert (0.0, 0.0) == (figures["hr"]["5"], figures["hr"]["10"])


def test_baselines(bundle: Bundle, tmp_path: Path) -> None:
    """By hand: u repeats a, then b after a; v shows that c follows b; what is asked for was not counted."""
    lines = [
        *(event("v", item, NOW + n) for n, item in enumerate(["i1", "i2", "i3", "i2", "i3"])),
        *(event("u", item, NOW + n) for n, item in enumerate(["i1", "i1", "i2"])),
        event("u", "i3", NOW + DAY_MS),
        event("u", "i1", NOW + DAY_MS + 1),
        event("w", "i2", NOW + DAY_MS),
    ]
    found = measure(read(write_log(tmp_path / "log", lines)), bundle, RULES, Question(after_ms=NOW + DAY_MS))
    systems = found["systems"]
    assert (3, 1.0, 1) == (found["asked"], found["known"], found["without_history"])
    # i1 3, i2 3, i3 2 before: i3 is third, i1 and i2, a tie, are second each.
    assert pytest.approx((1 / 3 + 1 / 2 + 1 / 2) / 3, abs=1e-4) == systems["popularity"]["item"]["mrr"]["5"]
    # i2 -> i3 twice: first; i3 -> i1 never; w has no last item.
    assert pytest.approx(1 / 3, abs=1e-4) == systems["markov"]["item"]["hr"]["5"]
    # u had i2, i1: not i3; then i3, i2, i1: third.
    assert pytest.approx(1 / 3 / 3, abs=1e-4) == systems["latest"]["item"]["mrr"]["5"]
    assert set(systems) == {"model", "daily", "popularity", "markov", "neighbours", "latest"}


def test_neighbours(bundle: Bundle, tmp_path: Path) -> None:
    """By hand: after i1 comes i3, which stood beside it in most of its few events, before i2, which stands anywhere."""
    lines = [
        *(event("v", item, NOW + n) for n, item in enumerate(["i1", "i3", "i1", "i2"])),
        *(event("w", item, NOW + n) for n, item in enumerate(["i2", "i4", "i2", "i5", "i2"])),
        *(event("u", item, NOW + n * DAY_MS) for n, item in enumerate(["i1", "i2", "i3", "i6"])),
    ]
    found = measure(read(write_log(tmp_path / "log", lines)), bundle, RULES, Question(after_ms=NOW + DAY_MS))
    # Asked: i2 (after i1: i3 2/√3, i2 2/√12, second), i3 (after i1 i2: first), i6 (never seen).
    assert pytest.approx((1 / 2 + 1) / 3, abs=1e-4) == found["systems"]["neighbours"]["item"]["mrr"]["5"]


def test_groups_and_table(bundle: Bundle, tmp_path: Path) -> None:
    """Groups part what is asked for, and the table shows all of them."""
    log = random_log(tmp_path / "log")
    found = measure(log, bundle, RULES)
    model = found["systems"]["model"]
    total = model["item"]["asked"]
    assert 1 <= total == found["asked"] < len(log.events) // 10
    assert total == sum(model[kind]["asked"] for kind in contract.EVENT_TYPES if kind in model)
    assert total == sum(figures["asked"] for name, figures in model.items() if name.startswith("item seen"))
    assert total - found["without_history"] == sum(f["asked"] for name, f in model.items() if name.startswith("after"))
    lines = table(found)
    assert all(any(line.startswith(f"| {name} (") for line in lines) for name in model)


def test_nothing_is_asked(bundle: Bundle, tmp_path: Path) -> None:
    """A time behind the log is told."""
    with pytest.raises(UsageError, match="expected events from"):
        measure(random_log(tmp_path / "log"), bundle, RULES, Question(after_ms=NOW * 2))


def test_from_the_command_line(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table to read and a file of all figures."""
    random_log(tmp_path / "log")
    output = tmp_path / "found.json"
    command = ["model", "evaluate", str(bundle.folder), str(tmp_path / "log"), "--output", str(output)]

    assert 0 == interest([*command, "--after=2023-11-16"])

    assert "events asked for;" in (said := capsys.readouterr().out)
    assert "| daily |" in said
    found = orjson.loads(output.read_bytes())
    assert bundle.version == found["bundle"]
    assert 0 < found["systems"]["model"]["item"]["asked"]
    assert 2 == interest([*command[:-1], str(tmp_path / "none" / "x.json")])
    assert "expected a file that can be written" in capsys.readouterr().err


def test_an_item_that_the_bundle_lacks(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be found once it has come, of anybody, and never before; not where nothing is known of it."""
    lines = [
        *(event("v", item, NOW - 9 + n) for n, item in enumerate(["i1", "i2"])),
        *(event("u", item, NOW + n, category_id="c1") for n, item in enumerate(["i1", "fresh", "i2", "fresh"])),
    ]
    log = read(write_log(tmp_path / "log", lines))
    place = np.array([0.0, 1, 0, 0, 0, 0], np.float32)
    categories = np.zeros((4, 6), np.float32)
    categories[2] = place  # c1
    parts = Parts(np.zeros((0, 6), np.float32), categories)
    others = np.tile(np.array([1.0, 0, 0, 0, 0, 0], np.float32), (13, 1))
    lacking = replace(bundle, items=others, parts=parts)

    def before(log: Log, *_: object) -> Any:
        real = go_through(log, bundle, RULES, np.ones(len(log.events), bool))
        vectors = np.tile(place, (len(log.events), 1))
        return replace(real, vectors=vectors, daily=vectors)

    monkeypatch.setattr("models.measure.go_through", before)
    figures = measure(log, lacking, RULES, Question(after_ms=NOW - 9))
    model = figures["systems"]["model"]
    assert pytest.approx(4 / 6, abs=1e-4) == figures["known"]
    assert pytest.approx(1 / 6, abs=1e-4) == model["item"]["hr"]["5"]


def test_the_last_event_of_each(bundle: Bundle, tmp_path: Path) -> None:
    """`last` asks one event a user; `unseen` neither asks nor ranks what the user has had."""
    lines = [
        *(event("u", item, NOW + n) for n, item in enumerate(["i1", "i2", "i3"])),
        *(event("v", item, NOW + n) for n, item in enumerate(["i1", "i2", "i1"])),
        *(event("w", item, NOW + n) for n, item in enumerate(["i2", "i1"])),
    ]
    log = read(write_log(tmp_path / "log", lines))
    found = measure(log, bundle, RULES, Question(last=True))
    assert 3 == found["asked"]
    # Before: i1 2, i2 3, and the last of each are i3 (none: a miss), i1 and i1 (a tie with nobody: second).
    assert pytest.approx((1 / 2 + 1 / 2) / 3, abs=1e-4) == found["systems"]["popularity"]["item"]["mrr"]["5"]
    fresh = measure(log, bundle, RULES, Question(last=True, unseen=True))
    assert 2 == fresh["asked"]
    # v's i1 is not asked and counts before: i1 3, i2 3. w has had i2: i1 is first of what is left.
    assert pytest.approx(1 / 2, abs=1e-4) == fresh["systems"]["popularity"]["item"]["mrr"]["5"]
    assert "latest" not in fresh["systems"]


def test_another_bundle_beside(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--beside`: its figures are those that it has alone, under its folder's name; the report is written beside."""
    random_log(tmp_path / "log")
    other = random_bundle(tmp_path / "other", item_ids=ITEMS[:7], item_categories=["c1"] * 7, hidden=5, dim=4, seed=3)
    command = ["model", "evaluate", str(bundle.folder), str(tmp_path / "log"), "--after=2023-11-16"]
    output = tmp_path / "found.json"
    report = ["--report", str(tmp_path / "r.html")]
    assert 0 == interest([*command, "--beside", str(other.folder), "--output", str(output), *report])
    assert "| other |" in capsys.readouterr().out
    beside = orjson.loads(output.read_bytes())["systems"]["other"]
    page = (tmp_path / "r.html").read_text()
    assert bundle.version in page
    assert "--after=2023-11-16" in page
    command[2] = str(other.folder)
    assert 0 == interest([*command, "--output", str(output)])
    assert beside["item"] == orjson.loads(output.read_bytes())["systems"]["model"]["item"]
    assert 0 == interest([*command, "--report", str(tmp_path / "r.md")])
    assert (tmp_path / "r.md").read_text().startswith("# Evaluation of bundle")


def test_e10_padding_is_never_recommended(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E10: row 0, which padding and unknown items have, is in no ranking, whatever its vector: the others move up."""
    log = read(write_log(tmp_path / "log", [event("u", f"i{n % 12}", NOW + n) for n in range(30)]))
    items = np.eye(13, 14, dtype=np.float32)
    items[0] = 5

    def right(log: Log, _held: Any) -> NDArray[np.float32]:
        said: NDArray[np.float32] = np.eye(13, 14, dtype=np.float32)[known(bundle, log)]
        return said

    found = measure(log, told(bundle, items, monkeypatch, right), RULES, Question(after_ms=NOW))
    assert 1.0 == found["systems"]["model"]["item"]["mrr"]["5"]
    assert 1.0 == found["coverage"]


def test_counted_elsewhere(bundle: Bundle, tmp_path: Path) -> None:
    """With a history, baselines count in it alone: what the log itself shows beside the events asked for is no help."""
    log = read(
        write_log(
            tmp_path / "log", [event(f"u{user}", item, NOW + at) for user in range(3) for at, item in enumerate("ab")]
        )
    )
    past = read(write_log(tmp_path / "past", [event("v", item, NOW + at) for at, item in enumerate("acacb")]))
    found = measure(log, bundle, RULES, Question(last=True), history=past)["systems"]
    # b once, a and c twice: third. After a came c twice, never b.
    assert pytest.approx(1 / 3, abs=1e-4) == found["popularity"]["item"]["mrr"]["5"]
    assert 0.0 == found["markov"]["item"]["hr"]["20"]
    assert 0.0 == measure(log, bundle, RULES, Question(last=True))["systems"]["markov"]["item"]["hr"]["20"]
