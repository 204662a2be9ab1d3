"""What is learnt from, what is asked, that the two never meet, and that a worker would hold the same windows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle import Catalog, TextVectors
from models.features import INPUTS, Features
from models.log import Log, catalog_lists, read
from models.sequences import LEARNT, TEST, VALIDATION, Split, Steps, golden, places, roles, windows
from models.turns import turns
from models.words import REVIEWS_MIN, learn
from stream.errors import UsageError
from stream.rules import Rules
from tests.logs import END_MS, event, shop_log, write_log

DAY_MS = 86_400_000
RULES = Rules(max_events=50, keep_events=25, max_age_ms=30 * DAY_MS, idle_ttl_ms=90 * DAY_MS)
ALL = tuple(name for name in INPUTS if name != "length")


def features_of(log: Log, text: TextVectors | None = None, codes: int = 0) -> Features:
    """The log's features, with a catalog of all its items but every seventh."""
    lists = catalog_lists(log.names)
    if codes:
        kept = [number for number in range(len(lists["item_ids"])) if number % 7]
        for name in ("item_ids", "item_names", "item_categories"):
            lists[name] = [lists[name][number] for number in kept]
    catalog = Catalog.build(**lists)
    text = text or TextVectors.none()
    return Features.build(
        inputs=tuple(name for name in ALL if name != "text" or text.width),
        event_types=("other", "click", "purchase", "review"),
        item_hashes=catalog.item_hashes,
        category_hashes=catalog.category_hashes,
        item_category=catalog.item_category,
        text=text,
        codes=codes,
    )


def split_of(log: Log, rules: Rules = RULES, **how: Any) -> Split:
    """The log's split, with a catalog of all its items."""
    return Split.make(log, features_of(log), rules, "log", **how)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """A small shop's log; some users have more than one window."""
    return read(shop_log(tmp_path_factory.mktemp("log") / "log", events=8000, users=80))


@pytest.mark.parametrize("kind", ["time", "last", "sessions"])
def test_e02_nothing_asked_was_learnt(log: Log, kind: str) -> None:
    """E02: no event asked for is an input or a target of training; by time, all that is learnt lies before it."""
    split = split_of(log, kind=kind)
    learnt = {place for first, _, last in split.chunks().tolist() for place in range(first, last + 1)}
    for role in (VALIDATION, TEST) if kind == "last" else (VALIDATION,):
        questions, held_out = split.questions(role, np.random.default_rng(0))
        asked = set(questions[:, 1].tolist())
        assert len(asked) == len(questions) > 50
        assert asked.isdisjoint(learnt)
        assert len(questions) <= held_out == (split.role == role).sum()
        if kind == "time":
            assert log.events["timestamp"][sorted(learnt)].max() < log.events["timestamp"][sorted(asked)].min()
        if kind == "sessions":
            assert set(split.user[sorted(learnt)]).isdisjoint(split.user[sorted(asked)])


def test_the_last_two_of_each_user_are_held_out(tmp_path: Path) -> None:
    """`last`: the last event is asked as test, the one before it as validation; of two events both are learnt."""
    events = [event(f"u{user}", "abcde"[at], END_MS + at) for user in range(12) for at in range(2 if user == 3 else 4)]
    role = roles(read(write_log(tmp_path / "log", events)), "last", 0.05)
    assert [LEARNT, LEARNT, VALIDATION, TEST] == role[:4].tolist()
    assert [LEARNT, LEARNT] == role[12:14].tolist()


def test_the_latest_sessions_are_held_out(tmp_path: Path) -> None:
    """`sessions`: whole users, those whose last event is the latest; a share of 0 holds nothing out."""
    events = [event(f"u{user}", "ab"[at], END_MS + 10 * user + at) for user in range(20) for at in range(2)]
    log = read(write_log(tmp_path / "log", events))
    assert [VALIDATION] * 4 == roles(log, "sessions", 0.1)[36:].tolist()
    assert [LEARNT] * 36 == roles(log, "sessions", 0.1)[:36].tolist()
    assert (roles(log, "sessions", 0.0) == LEARNT).all()


def test_questions_ask_for_what_a_user_has_not_had(log: Log) -> None:
    """E07: a question is one user's, in a worker's window; with `unseen` the item is new to all the user's events."""
    every = split_of(log).questions(VALIDATION, np.random.default_rng(0))[0]
    split = split_of(log, unseen=True)
    fresh = split.questions(VALIDATION, np.random.default_rng(0))[0]
    assert 50 < len(fresh) < len(every)
    for first, end in fresh.tolist():
        assert split.user[first] == split.user[end]
        assert 0 < end - first <= RULES.max_events
        assert split.item[end] not in split.item[split.log.starts[split.user[end]] : end]


def test_every_event_is_learnt_once_in_its_window(log: Log) -> None:
    """Each event but a user's first is a target once; the steps before it are the window that a worker held then."""
    split = split_of(log)
    chunks = split.chunks()
    place = places(chunks)
    target = split.targets(chunks, place)
    found = {}
    for row, step in np.argwhere(target).tolist():
        end = int(place[row, step + 1])
        assert end not in found
        assert split.item[end] == target[row, step]
        found[end] = int(place[row, 0])
    learnt = np.flatnonzero((split.role == LEARNT) & (np.append(-1, split.user[:-1]) == split.user))
    assert learnt.tolist() == sorted(found)
    for turn in turns(log, np.arange(log.users), RULES):
        held = np.diff(turn.before.start)[turn.user]
        for end, count in zip(turn.place.tolist(), held.tolist(), strict=True):
            if end in found:
                assert end - count == found[end]


def test_a_window_that_is_cut_begins_anew(tmp_path: Path) -> None:
    """50 events are cut to 25, and what is older than the age or than idle users live is no longer in the window."""
    day = [END_MS + at for at in range(60)] + [END_MS + 40 * DAY_MS, END_MS + 200 * DAY_MS]
    events = [event(f"u{user}", f"i{at}", time) for user in range(12) for at, time in enumerate(day)]
    split = split_of(read(write_log(tmp_path / "log", events)), kind="last")
    held = np.arange(62) + 1 - split.first[:62]
    assert [*range(1, 51), *range(25, 35), 1, 1] == held.tolist()
    assert [[0, 1, 50], [26, 51, 59]] == split.chunks()[:2].tolist()


def test_targets_are_the_next_items(tmp_path: Path) -> None:
    """The next event's item, 0 in padding; with `unseen`, only what the window has not held yet."""
    events = [event(f"u{user}", item, END_MS + at) for user in range(12) for at, item in enumerate("abbac")]
    log = read(write_log(tmp_path / "log", events))
    chunks = np.array([[0, 1, 4], [5, 7, 8]])
    place = places(chunks)
    assert [[0, 1, 2, 3, 4], [5, 6, 7, 8, -1]] == place.tolist()
    assert [[2, 2, 1, 3], [0, 2, 1, 0]] == split_of(log, kind="last").targets(chunks, place).tolist()
    assert [[2, 0, 0, 3], [0, 0, 0, 0]] == split_of(log, kind="last", unseen=True).targets(chunks, place).tolist()


def test_e01_equal_times_keep_the_logs_order_unless_shuffled(tmp_path: Path) -> None:
    """E01: ties stay as the log has them; shuffled, events of one time change places with each other and no others."""
    times = [0, 5, 5, 5, 9, 9]
    names = "zyxwvu"
    events = [event(f"u{user}", names[at], END_MS + time) for user in range(12) for at, time in enumerate(times)]
    log = read(write_log(tmp_path / "log", events))
    split = split_of(log, kind="sessions", share=0.0)
    chunks = np.tile(split.chunks()[:1], (200, 1))
    assert (split.places(chunks, 0.0, np.random.default_rng(0)) == np.arange(6)).all()
    shuffled = split.places(chunks, 1.0, np.random.default_rng(0))
    assert {(1, 2, 3), (1, 3, 2), (2, 1, 3), (2, 3, 1), (3, 1, 2), (3, 2, 1)} == set(map(tuple, shuffled[:, 1:4]))
    assert (shuffled[:, 0] == 0).all()
    assert {(4, 5), (5, 4)} == set(map(tuple, shuffled[:, 4:]))
    half = split.places(chunks, 0.5, np.random.default_rng(0))
    assert 20 < (half != np.arange(6)).any(axis=1).sum() < 140


@pytest.mark.parametrize("codes", [0, 64])
def test_training_sees_what_a_worker_would(log: Log, codes: int) -> None:
    """No skew: every input of every step of training is what the features give for the window that the worker holds.

    The log is gone through by the worker's own rules, up to each event; its windows are brought into the graph's inputs
    as the worker does it, texts, cuts and items that the catalog lacks included.
    """
    features = features_of(log, learn(log.tokens, 0), codes)
    split = Split.make(log, features, RULES, "log")
    steps = Steps.make(log, features)
    compared = 0
    for turn in turns(log, np.arange(log.users), RULES):
        held = turn.applied.windows
        for user, end in zip(turn.user.tolist(), turn.place.tolist(), strict=True):
            if end % 5:
                continue
            rows = slice(int(held.start[user]), int(held.start[user + 1]))
            theirs = features.inputs(
                held.events[rows][None],
                held.text_row[rows][None],
                held.tokens,
                np.array([rows.stop - rows.start], np.int32),
                np.array([-1]),
            )
            ours = steps.inputs(np.arange(split.first[end], end + 1)[None])
            assert set(theirs) == {*ours, "length"}
            for name, array in ours.items():
                assert array.dtype == theirs[name].dtype, name
                np.testing.assert_array_equal(array, theirs[name], err_msg=name)
            compared += 1
    assert compared == -(-len(log.events) // 5)


def test_padding_looks_like_the_workers(log: Log) -> None:
    """A window that is shorter than its batch ends in the same padding as a worker's."""
    features = features_of(log, learn(log.tokens, 0))
    some = windows(log, np.array([[0, 2], [4, 9]]))
    theirs = some.inputs(features)
    ours = Steps.make(log, features).inputs(np.array([[0, 1, -1, -1, -1], [4, 5, 6, 7, 8]]))
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


def test_t09_times_a_minute_apart_stay_apart(tmp_path: Path) -> None:
    """T09: gaps of 60 and 4 seconds after 1.7e9 are told apart in training, too; float32 would merge the times."""
    at = [1_700_000_000_000, 1_700_000_060_000, 1_700_000_064_000]
    events = [event(f"u{user}", "abc"[step], time) for user in range(12) for step, time in enumerate(at)]
    log = read(write_log(tmp_path / "log", events))
    assert [[-1, 60, 4]] == Steps.make(log, features_of(log)).inputs(np.array([[0, 1, 2]]))["gap"].tolist()


def test_shuffled_events_leave_the_gaps_in_place(tmp_path: Path) -> None:
    """Events of one time that change places keep the order of times: the gaps are those of the places in order."""
    at = [0, 5000, 5000, 9000]
    events = [event(f"u{user}", "abcd"[step], END_MS + time) for user in range(12) for step, time in enumerate(at)]
    log = read(write_log(tmp_path / "log", events))
    given = Steps.make(log, features_of(log)).inputs(np.array([[0, 2, 1, 3]]), np.array([[0, 1, 2, 3]]))
    assert [[-1, 5, 0, 4]] == given["gap"].tolist()
    assert [[1, 3, 2, 4]] == given["item_index"].tolist()


def test_too_few_users(tmp_path: Path) -> None:
    """A log that nothing can be learnt from is refused with both numbers."""
    events = [event(f"u{user}", "a", 1_700_000_000_000 + user) for user in range(20)]
    with pytest.raises(UsageError, match=r"log: expected at least 10 users with two events or more .* got 0 among 20"):
        split_of(read(write_log(tmp_path / "log", events)))


def test_windows_are_the_logs_events(log: Log) -> None:
    """Runs become padded windows; each text is found again through its row."""
    runs = np.array([[0, 3], [7, 8], [10, 60]])
    some = windows(log, runs)
    assert some.length.tolist() == [3, 1, 50]
    for row, (first, end) in enumerate(runs.tolist()):
        assert (some.events[row, : end - first] == log.events[first:end]).all()
        assert not some.events[row, end - first :].tobytes().strip(b"\0")
        for step, place in enumerate(range(first, end)):
            told = log.text_row[place]
            assert (some.text_row[row, step] < 0) == (told < 0)
            if told >= 0:
                assert (some.tokens[some.text_row[row, step]] == log.tokens[told]).all()
        assert (some.text_row[row, end - first :] == -1).all()


def test_golden_windows_have_the_lengths(log: Log) -> None:
    """One window of each length, as a worker held it."""
    assert [1, 2, 3, 8, 25, 50] == golden(split_of(log)).length.tolist()


def test_words_that_stand_together_point_the_same_way(log: Log) -> None:
    """Word vectors: of unit length for a review, near for reviews of one kind, and none where reviews are few."""
    assert learn(log.tokens[: REVIEWS_MIN - 1], 0).width == 0
    text = learn(log.tokens, 0)
    assert text.width == 16
    assert text.hashes.tolist() == sorted(set(text.hashes.tolist()))
    np.testing.assert_allclose(text.vectors.T @ text.vectors, np.eye(16), atol=1e-5)


def test_words_are_the_right_singular_vectors() -> None:
    """The subspace is that of numpy's full decomposition of the weighted matrix."""
    random = np.random.default_rng(0)
    topics = random.integers(0, 4, 400)
    tokens = np.zeros((400, 64), np.uint32)
    for row, topic in enumerate(topics):
        words = random.choice(np.arange(20) + 20 * topic, 8, replace=False)
        tokens[row, :9] = [*(words + 1), 999]
    text = learn(tokens, 0, width=4)
    matrix = np.zeros((400, len(text.hashes)))
    for row, found in enumerate(tokens):
        matrix[row, np.searchsorted(text.hashes, found[found > 0])] = 1
    matrix *= np.log(401 / (1 + (matrix > 0).sum(axis=0))) + 1
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    expected = np.linalg.svd(matrix)[2][:4].T
    overlap = np.linalg.svd(expected.T @ text.vectors)[1]
    np.testing.assert_allclose(overlap, 1, atol=1e-4)
