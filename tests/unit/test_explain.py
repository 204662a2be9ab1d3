"""Leave-one-out tells what each event of a worker's window did to the vector, by the worker's own rules."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from models import bundle as bundles
from models.bundle import Bundle
from models.clean import Limits
from models.explain import Explained, described, explain, held, item_row, lines_of
from models.log import Log, read
from models.rows import Mapped
from stream import contract
from stream.errors import BundleError, InterestError, UsageError
from stream.rules import Rules
from tests import reference
from tests.bundles import WORDS, random_bundle
from tests.logs import event, write_log

NOW = 1_700_006_400_000
DAY_MS = 86_400_000
RULES = Rules(max_events=6, keep_events=3, max_age_ms=4 * DAY_MS, idle_ttl_ms=9 * DAY_MS)
LIMITS = Limits()
ITEMS = [f"i{n}" for n in range(12)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of twelve items in three categories, with names."""
    return random_bundle(
        tmp_path_factory.mktemp("bundle") / "b",
        item_ids=ITEMS,
        item_names=[f"Item {n}" for n in range(12)],
        item_categories=[f"c{n % 3}" for n in range(12)],
        category_ids=["c0", "c1", "c2"],
        category_names=["Nought", "One", "Two"],
        hidden=8,
        dim=6,
    )


def random_lines(user: str, seed: int, events: int = 25) -> list[dict[str, Any]]:
    """Events hours to weeks apart, some reviews, some items that no bundle knows."""
    random = np.random.default_rng(seed)
    lines, time = [], NOW
    for _ in range(events):
        time += int(random.choice([0, 3_600_000, DAY_MS, 5 * DAY_MS, 12 * DAY_MS], p=[0.1, 0.5, 0.3, 0.07, 0.03]))
        more: dict[str, Any] = {}
        if random.random() < 0.3:
            more = {"type": "review", "text": " ".join(random.choice(WORDS, 3)), "rating": 4}
        lines.append(event(user, str(random.choice([*ITEMS, "new"])), time, **more))
    return lines


def raw(lines: Sequence[dict[str, Any]]) -> list[bytes]:
    """As they stand in a log."""
    return [orjson.dumps(line) for line in lines]


def events_of(log: Log) -> list[reference.Event]:
    """The events of a log of one user."""
    found = []
    for each, row in zip(log.events, log.text_row.tolist(), strict=True):
        fields = dict(zip(contract.EVENT_DTYPE.names or (), each.tolist(), strict=True))
        tokens = log.tokens[row][log.tokens[row] > 0].tolist() if row >= 0 else ()
        found.append(reference.Event(**fields, tokens=tuple(tokens)))
    return found


def explained(bundle: Bundle, lines: Sequence[dict[str, Any]], rules: Rules = RULES) -> Explained:
    """The user's window, explained."""
    return explain(bundle, bundles.session(bundle), held(raw(lines), "u", rules, LIMITS, "log"))


@pytest.mark.parametrize("seed", range(6))
def test_each_event_left_out_of_the_window_that_a_worker_holds(bundle: Bundle, tmp_path: Path, seed: int) -> None:
    """Window and vectors are those of the slow reference, with cuts, ages, idle times, reviews and gaps taken anew."""
    lines = random_lines("u", seed, 10 + 3 * seed)
    one = reference.Reference(reference.Rules(RULES.max_events, RULES.keep_events, RULES.max_age_ms, RULES.idle_ttl_ms))
    for offset, each in enumerate(events_of(read(write_log(tmp_path / "log", lines)))):
        one.accept(1, offset, each.timestamp, b"u", each)
    shown = one.shown(b"u")
    assert shown is not None
    window = shown.events

    found = explained(bundle, lines)

    assert [each.timestamp for each in window] == found.events["timestamp"].tolist()
    assert [each.item for each in window] == found.events["item"].tolist()
    model = reference.Model(bundle)
    np.testing.assert_allclose(model.vectors([window])[0], found.vector, atol=1e-5)
    if len(window) > 1:
        left = [window[:place] + window[place + 1 :] for place in range(len(window))]
        np.testing.assert_allclose(model.vectors(left), found.without, atol=1e-5)


def test_the_windows_are_not_all_alike(bundle: Bundle) -> None:
    """The random logs above hold windows of several lengths, and one of a single event is seen elsewhere."""
    lengths = {len(explained(bundle, random_lines("u", seed, 10 + 3 * seed)).events) for seed in range(6)}
    assert len(lengths) >= 3


def test_what_an_event_did(bundle: Bundle) -> None:
    """Moved is 1 - cosine; what it added to a score is that of the vector less that of the one without it."""
    found = explained(bundle, [event("u", f"i{n}", NOW + n) for n in range(4)])
    scores = bundle.items @ found.vector
    for place, (without, moved) in enumerate(zip(found.without, found.moved.tolist(), strict=True)):
        assert pytest.approx(1 - float(found.vector @ without), abs=1e-6) == moved
        assert (
            pytest.approx(float(scores[1] - bundle.items[1] @ without), abs=1e-6) == found.adds(bundle.items[1])[place]
        )
    assert 0.0001 < min(found.moved)

    told = described(bundle, found, top=2)

    for place, one in enumerate(told["events"]):
        row = place + 1
        assert pytest.approx(found.adds(bundle.items[row])[place], abs=1e-6) == one["item_added"]
        category = bundle.category_vectors[bundle.catalog.item_category[row]]
        assert pytest.approx(found.adds(category)[place], abs=1e-6) == one["category_added"]
        added = bundle.items[1:] @ (found.vector - found.without[place])
        expected = [f"i{at}" for at in np.argsort(-added)[:2] if added[at] > 0]
        assert expected == [raised["id"] for raised in one["items"]]
        assert all(raised["added"] > 0 for raised in one["categories"])
    best = np.argsort(-scores[1:])[:2]
    assert [(f"Item {at}", round(float(scores[at + 1]), 6)) for at in best] == [
        (one["name"], one["score"]) for one in told["items"]
    ]


def test_a_window_of_one_event(bundle: Bundle) -> None:
    """All of the vector is that event's: moved wholly, every score is what it added."""
    told = described(bundle, explained(bundle, [event("u", "i3", NOW)]), top=3, item=4)
    (only,) = told["events"]
    assert 1.0 == only["moved"]
    assert told["item"]["score"] == only["added"] == only["item_added"]


def test_an_event_that_says_nothing_moves_nothing(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with one answer to all windows was moved by none of the events, and towards nothing."""
    vector = np.full((1, 6), 6**-0.5, np.float32)
    monkeypatch.setattr("models.explain.whole", lambda *given: np.repeat(vector, len(given[-1]), axis=0))
    told = described(bundle, explained(bundle, [event("u", f"i{n}", NOW + n) for n in range(3)]), top=3)
    for one in told["events"]:
        assert (0.0, 0.0, [], []) == (round(one["moved"], 6), one["item_added"], one["items"], one["categories"])


def test_one_item(bundle: Bundle) -> None:
    """What each event added to it, its score, and its place among all items, ties against it."""
    found = explained(bundle, [event("u", f"i{n}", NOW + n) for n in range(5)])
    row = item_row(bundle, "i7")
    assert 8 == row
    told = described(bundle, found, top=1, item=row)
    scores = (bundle.items @ found.vector)[1:]
    assert {"id": "i7", "name": "Item 7", "score": round(float(scores[7]), 6)} | {
        "place": int((scores >= scores[7]).sum())
    } == told["item"]
    assert np.round(found.adds(bundle.items[8]), 6).tolist() == [one["added"] for one in told["events"]]
    with pytest.raises(UsageError, match=f"expected an item of the 12 that bundle {bundle.version} knows, got 'i12'"):
        item_row(bundle, "i12")


def test_names(bundle: Bundle) -> None:
    """The catalog's, else the log's; an unknown item has no score of its own, a known one brings its category."""
    lines = [
        event("u", "i4", NOW, item_name="said otherwise"),
        event("u", "new", NOW + 1, item_name="A new one", category_id="c2"),
        event("u", "newer", NOW + 2, category_id="x", category_name="Ex"),
    ]
    known, new, newer = described(bundle, explained(bundle, lines), top=3)["events"]
    assert ("Item 4", "One", "click") == (known["item_name"], known["category_name"], known["type"])
    assert ("new", "A new one", "Two") == (new["item_id"], new["item_name"], new["category_name"])
    assert new["item_added"] is None
    assert isinstance(new["category_added"], float)
    assert ("newer", "newer", "x", "Ex", None) == (
        *(newer[name] for name in ("item_id", "item_name", "category_id", "category_name")),
        newer["category_added"],
    )


def test_lists_are_as_long_as_they_can_be(bundle: Bundle) -> None:
    """More names than there are categories gives all of them, the nearest first."""
    told = described(bundle, explained(bundle, [event("u", "i3", NOW)]), top=50)
    assert {"c0", "c1", "c2"} == {one["id"] for one in told["categories"]}
    scores = [one["score"] for one in told["items"]]
    assert 12 == len(scores)
    assert sorted(scores, reverse=True) == scores


def test_lines_of_users(tmp_path: Path) -> None:
    """Of those named, in their order, or the first few of the log; lines that are nobody's are passed over."""
    lines = [event(user, "a", NOW + n) for n, user in enumerate("wuvuw")]
    path = write_log(tmp_path / "log", [b"{", b"", *lines, b"\xff", b'{"user_id": 3}', b"[]"])
    assert {"u": raw([lines[1], lines[3]])} == lines_of(path, ["u"])
    assert ["v", "w"] == list(lines_of(path, ["v", "w", "v"]))
    found = lines_of(path, [], 2)
    assert {"w": raw([lines[0], lines[4]]), "u": raw([lines[1], lines[3]])} == found
    assert ["w", "u", "v"] == list(lines_of(path, [], 9))
    with pytest.raises(UsageError, match="log: expected events of user 'x', got none; the first users there are 'w', "):
        lines_of(path, ["u", "x"])
    with pytest.raises(UsageError, match="expected events as JSON Lines, got none of any user"):
        lines_of(write_log(tmp_path / "none", [b"{"]), [], 2)
    with pytest.raises(InterestError, match="No such file or directory"):
        lines_of(tmp_path / "missing", ["u"])


def test_lines_of_another_format(tmp_path: Path) -> None:
    """A table's rows become the events that a shop would publish."""
    (tmp_path / "log.csv").write_text(
        "who,item_id,timestamp\nu,a,1700000000\nv,b,1700000001\nu,c,bad\nu,d,1700000002\n"
    )
    found = lines_of(tmp_path / "log.csv", ["u"], form="csv", mapped=Mapped({"user_id": "who"}, type="click"))
    said = [orjson.loads(line) for line in found["u"]]
    assert [("a", 1_700_000_000_000), ("d", 1_700_000_002_000)] == [(one["item_id"], one["timestamp"]) for one in said]


@pytest.mark.parametrize(
    ("lines", "limits", "said"),
    [
        (
            [event("u", "a", 17)],
            LIMITS,
            "log: expected events of user 'u' that a worker would take, got 1 lines that are none; of them line 1: "
            "timestamp_too_old",
        ),
        (
            [event("u", "a", NOW), {"type": "erase", "user_id": "u"}],
            LIMITS,
            "log: expected events of user 'u' that a worker would take, got an erase record after them all",
        ),
        (
            [event("u", "a", NOW)],
            Limits(since_ms=NOW + 1),
            "log: user 'u': expected events that are within the limits, got none: 1 too early",
        ),
    ],
)
def test_no_window(lines: list[dict[str, Any]], limits: Limits, said: str) -> None:
    """Why nothing is left of a user is told in one line."""
    with pytest.raises(UsageError, match=said) as caught:
        held(raw(lines), "u", RULES, limits, "log")
    assert 1 == len(str(caught.value).splitlines())


def test_a_vector_that_no_worker_would_publish(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not a number explains nothing: the user is named."""
    monkeypatch.setattr("models.explain.whole", lambda *given: np.full((len(given[-1]), 6), np.nan, np.float32))
    with pytest.raises(BundleError, match="vector of user 'u' expected of unit length, got length nan"):
        explained(bundle, [event("u", "i1", NOW)])
