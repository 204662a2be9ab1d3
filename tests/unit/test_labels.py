"""Labels are what the log says from a moment on, once each; samples stand for the catalog; no test row is learnt."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models import labels
from models.labels import LABELS, Acts, Label, acts, examples, nearest, parts, sample
from models.log import Log, read
from models.prequential import Before
from models.probability import HEADS
from stream.contract import EVENT_TYPES, hash64
from stream.errors import UsageError
from tests.logs import event, write_log

NOW = 1_700_006_400_000
HOUR_MS = 3_600_000


def rows(log: Log) -> NDArray[np.int64]:
    """Row n for item "in"; 0 for any other."""
    known = {hash64(f"i{n}"): n for n in range(1, 100)}
    return np.array([known.get(item, 0) for item in log.events["item"].tolist()], np.int64)


def kinds(*names: str) -> int:
    """Bits of those types of event."""
    return sum(1 << EVENT_TYPES[name] for name in names)


def said(found: Acts) -> list[tuple[int, int, int]]:
    """Moment, item and bits."""
    return list(zip(found.moment.tolist(), found.item.tolist(), found.kinds.tolist(), strict=True))


def random_log(path: Path, users: int = 12, events: int = 40, items: int = 12) -> Log:
    """Users with events minutes to hours apart, some at the same time, of all types, some of items nobody knows."""
    random = np.random.default_rng(3)
    lines = []
    for user in range(users):
        time = NOW + int(random.integers(0, 40 * HOUR_MS))
        for _ in range(int(random.integers(1, events))):
            time += int(random.choice([0, 60_000, HOUR_MS, 5 * HOUR_MS]))
            item = str(random.choice([*(f"i{n}" for n in range(1, items + 1)), "new"]))
            lines.append(event(f"u{user}", item, time, type=str(random.choice(list(EVENT_TYPES)))))
    return read(write_log(path, lines))


def test_e11_the_table_names_every_kind_for_every_head() -> None:
    """E11: no kind of event is forgotten, the head's own alone is positive, and a review is never for or against."""
    assert HEADS == tuple(LABELS)
    for head, of in LABELS.items():
        assert set(EVENT_TYPES) == set(of)
        assert [head] == [kind for kind, label in of.items() if label == Label.POSITIVE]
        assert Label.LEFT_OUT == of["review"]


@pytest.mark.parametrize(
    ("did", "click", "cart", "favorite", "purchase"),
    [
        ((), Label.NEGATIVE, Label.NEGATIVE, Label.NEGATIVE, Label.NEGATIVE),
        (("click",), Label.POSITIVE, Label.NEGATIVE, Label.NEGATIVE, Label.NEGATIVE),
        (("cart",), Label.LEFT_OUT, Label.POSITIVE, Label.NEGATIVE, Label.NEGATIVE),
        (("favorite",), Label.LEFT_OUT, Label.NEGATIVE, Label.POSITIVE, Label.NEGATIVE),
        (("purchase",), Label.LEFT_OUT, Label.LEFT_OUT, Label.NEGATIVE, Label.POSITIVE),
        (("review",), Label.LEFT_OUT, Label.LEFT_OUT, Label.LEFT_OUT, Label.LEFT_OUT),
        (("click", "purchase"), Label.POSITIVE, Label.LEFT_OUT, Label.NEGATIVE, Label.POSITIVE),
        (("click", "cart", "favorite"), Label.POSITIVE, Label.POSITIVE, Label.POSITIVE, Label.NEGATIVE),
        (("click", "review"), Label.POSITIVE, Label.LEFT_OUT, Label.LEFT_OUT, Label.LEFT_OUT),
    ],
)
def test_e11_what_acts_mean_for_each_head(
    did: tuple[str, ...], click: Label, cart: Label, favorite: Label, purchase: Label
) -> None:
    """E11: several acts on one item give each head its own label; an act that goes further is no negative."""
    assert [[click, cart, favorite, purchase]] == labels.labels(np.array([kinds(*did)], np.uint8)).tolist()


def test_acts_from_the_moment_on(tmp_path: Path) -> None:
    """The event itself counts, one as late as the horizon does not; nor what came before, or is of another user."""
    log = read(
        write_log(
            tmp_path / "log",
            [
                event("u", "i1", NOW - 1),
                event("u", "i2", NOW),  # of the same time, but before it in the log
                event("u", "i3", NOW),
                event("u", "i3", NOW + 5, type="cart"),
                event("u", "nobody", NOW + 6),
                event("u", "i4", NOW + HOUR_MS - 1, type="purchase"),
                event("u", "i5", NOW + HOUR_MS),
                event("v", "i6", NOW),
            ],
        )
    )
    expected = [(0, 3, kinds("click", "cart")), (0, 4, kinds("purchase"))]
    assert expected == said(acts(log, rows(log), np.array([2]), HOUR_MS))


def test_acts_as_a_slow_reference_has_them(tmp_path: Path) -> None:
    """All moments of many users at once are what each is alone, event by event."""
    log = random_log(tmp_path / "log")
    item, place = rows(log), np.flatnonzero(np.arange(len(log.events)) % 3 == 1)
    user = np.repeat(np.arange(log.users), np.diff(log.starts))
    expected = []
    for moment, first in enumerate(place.tolist()):
        did: dict[int, int] = {}
        for later in range(first, len(log.events)):
            time = int(log.events["timestamp"][later] - log.events["timestamp"][first])
            if user[later] == user[first] and time < 7 * HOUR_MS and item[later]:
                did[int(item[later])] = did.get(int(item[later]), 0) | 1 << int(log.events["type"][later])
        expected += [(moment, one, did[one]) for one in sorted(did)]
    assert len(expected) > 100
    assert expected == said(acts(log, item, place, 7 * HOUR_MS))


def some(pairs: list[tuple[int, int]]) -> Acts:
    """Clicks."""
    moment, item = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
    return Acts(moment, item, np.full(len(pairs), kinds("click"), np.uint8))


def none(moments: int) -> NDArray[np.int64]:
    """No item is near."""
    return np.empty((moments, 0), np.int64)


def test_a_small_catalog_is_taken_whole() -> None:
    """Each moment has each item once, weight 1, a positive where it was acted on; row 0 is no item (E10)."""
    found = examples(some([(0, 2), (1, 1)]), none(2), np.zeros(4), np.random.default_rng(0))
    pairs = zip(found.moment.tolist(), found.item.tolist(), found.label[:, 0].tolist(), strict=True)
    assert [(0, 1, 0), (0, 2, 1), (0, 3, 0), (1, 1, 1), (1, 2, 0), (1, 3, 0)] == sorted(pairs)
    assert [1.0] * 6 == found.weight.tolist()


@pytest.mark.parametrize("popular", [True, False])
def test_a_sample_stands_for_the_catalog(popular: bool) -> None:
    """Weighted sums over a sample are those over all items, whatever is summed; without events all is uniform."""
    random = np.random.default_rng(1)
    moments, items = 4_000, 500
    counts = np.append(0, random.pareto(1, items) * 5).round() * popular
    value = random.random(items + 1) * np.log1p(counts + 1)
    acted = some([(moment, 1 + moment % 7) for moment in range(moments)])
    near = 8 + np.arange(moments)[:, np.newaxis] % 5 * 3 + np.arange(3)
    found = examples(acted, near, counts, random, draws=40)

    negative = found.label[:, 0] == Label.NEGATIVE
    assert moments == (~negative).sum()
    assert (items - 1) * moments == pytest.approx(found.weight[negative].sum(), rel=0.01)
    total = moments * value[1:].sum() - value[1 + np.arange(moments) % 7].sum()
    assert total == pytest.approx((found.weight * value[found.item])[negative].sum(), rel=0.01)
    assert found.item.min() == 1


def test_what_is_there_as_itself_is_drawn_no_more() -> None:
    """What was acted on is never a negative, and a near item is there once, weight 1."""
    acted = some([(moment, item) for moment in range(50) for item in (3, 4)])
    near = np.tile([4, 5], (50, 1))
    found = examples(acted, near, np.append(0, np.ones(30) * 9), np.random.default_rng(0), draws=20)

    mine = found.label[:, 0] == Label.NEGATIVE
    assert not np.isin(found.item[mine], [3, 4]).any()
    assert [1.0] * 50 == found.weight[found.item == 5].tolist()
    assert found.weight[mine & (found.item != 5)].min() > 1


def test_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The items with the highest u·v, never row 0, for more moments than go at once."""
    monkeypatch.setattr(labels, "CELLS", 9 * 256)
    items = np.eye(9, dtype=np.float32) * (np.arange(9) > 0)[:, np.newaxis]
    vectors = np.tile(np.array([[9, 0, 5, 0, 7, 0, 0, 0, 6]], np.float32), (600, 1))
    assert [[2, 4, 8]] * 600 == np.sort(nearest(vectors, items, 3), axis=1).tolist()


def test_e02_no_row_of_the_test_is_fitted_on(tmp_path: Path) -> None:
    """E02: no moment, no event in a label, and so no pair of user, event and item is in both parts; none is cut off."""
    log = random_log(tmp_path / "log")
    time, item = log.events["timestamp"], rows(log)
    begin, end, horizon = NOW + 10 * HOUR_MS, NOW + 80 * HOUR_MS, 6 * HOUR_MS
    halves = parts(time, begin, end, horizon)
    places = [np.flatnonzero(half) for half in halves]
    assert min(map(len, places)) > 20
    assert not (halves[0] & halves[1]).any()
    user = np.repeat(np.arange(log.users), np.diff(log.starts))
    used = []
    for place in places:
        later = [
            np.flatnonzero((user == user[one]) & (time >= time[one]) & (time < time[one] + horizon)) for one in place
        ]
        used.append(set(np.concatenate(later).tolist()))
        assert len(acts(log, item, place, horizon).item) > 20
    assert not used[0] & used[1]
    assert time[sorted(used[0])].min() >= begin
    assert time[places[1]].max() + horizon <= end


def test_too_little_held_out() -> None:
    """A half that is not longer than the horizon has no moment: told, with what there is and what to do."""
    time = np.arange(0, 48 * HOUR_MS, HOUR_MS)
    said = r"expected over 48 hours held out, .* within 24 hours .*, got 48\.0: hold out more, or ask for a shorter"
    with pytest.raises(UsageError, match=said):
        parts(time, 0, 48 * HOUR_MS, 24 * HOUR_MS)
    fit, test = parts(time, 0, 48 * HOUR_MS, 12 * HOUR_MS)
    assert (list(range(13)), list(range(24, 37))) == (np.flatnonzero(fit).tolist(), np.flatnonzero(test).tolist())


def test_sample(tmp_path: Path) -> None:
    """Moments without a vector are left out and counted; of too many some are taken, the same ones by the same seed."""
    log = random_log(tmp_path / "log")
    item, place = rows(log), np.arange(len(log.events))
    held = np.minimum(3, place - np.repeat(log.starts[:-1], np.diff(log.starts)))
    items = np.random.default_rng(0).standard_normal((13, 4)).astype(np.float32)
    vectors = np.random.default_rng(1).standard_normal((len(place), 4)).astype(np.float32)
    before = Before(place, vectors, vectors, held)
    chosen = place % 2 == 0
    counts = np.bincount(item, minlength=13).astype(np.float64)

    def taken(seed: int, most: int = 10_000) -> labels.Sample:
        return sample(log, item, items, before, chosen, counts, horizon_ms=HOUR_MS, seed=seed, moments_max=most)

    whole = taken(0)
    assert place[chosen & (held > 0)].tolist() == whole.place.tolist()
    assert (chosen & (held == 0)).sum() == whole.without_history > 0
    np.testing.assert_array_equal(vectors[whole.place], whole.vectors)
    for user, at in zip(whole.user.tolist(), whole.place.tolist(), strict=True):
        assert log.starts[user] <= at < log.starts[user + 1]
    few, again, other = taken(0, 20), taken(0, 20), taken(1, 20)
    assert 20 == len(few.place)
    assert few.place.tolist() == again.place.tolist() != other.place.tolist()
    np.testing.assert_array_equal(few.examples.item, again.examples.item)
