"""What is learnt from, what is asked, and that the two never meet."""

from pathlib import Path

import numpy as np
import pytest

from models.bundle import Catalog, TextVectors
from models.features import Features
from models.log import Log, catalog_lists, read
from models.sequences import WINDOW_MAX, Split, golden, windows
from models.words import REVIEWS_MIN, learn
from stream.errors import UsageError
from tests.logs import event, shop_log, write_log

INPUTS = ("item_index", "gap")


def split_of(log: Log) -> Split:
    """The log's split, with a catalog of all its items."""
    catalog = Catalog.build(**catalog_lists(log.names))
    features = Features.build(
        inputs=INPUTS,
        event_types=("other",),
        item_hashes=catalog.item_hashes,
        category_hashes=catalog.category_hashes,
        item_category=catalog.item_category,
        text=TextVectors.none(),
    )
    return Split.make(log, features, "log")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """A small shop's log; some users have more than one window."""
    return read(shop_log(tmp_path_factory.mktemp("log") / "log", events=8000, users=80))


def test_e02_nothing_asked_was_learnt(log: Log) -> None:
    """E02: no event asked for is an input or a target of training, and all that is learnt lies before it in time."""
    split = split_of(log)
    questions, held_out = split.questions(np.random.default_rng(0))
    chunks = split.chunks(np.random.default_rng(0))
    learnt = {place for first, end in chunks.tolist() for place in range(first, end + 1)}
    asked = set(questions[:, 1].tolist())
    assert len(asked) == len(questions) > 50
    assert asked.isdisjoint(learnt)
    assert log.events["timestamp"][sorted(learnt)].max() < log.events["timestamp"][sorted(asked)].min()
    assert len(questions) < held_out <= (~split.learnt).sum()


def test_questions_ask_for_what_the_window_lacks(log: Log) -> None:
    """E07: a question is one user's, with at most a worker's window before it, and the item is new to that window."""
    split = split_of(log)
    for first, end in split.questions(np.random.default_rng(0))[0].tolist():
        assert split.user[first] == split.user[end]
        assert 0 < end - first <= WINDOW_MAX
        assert split.item[end] not in split.item[first:end]


def test_chunks_take_every_event_once(log: Log) -> None:
    """In each pass every event but a user's last is an input once, in runs of at most a window that no user shares."""
    split = split_of(log)
    cuts = []
    for seed in (0, 1):
        chunks = split.chunks(np.random.default_rng(seed))
        inputs = sorted(place for first, end in chunks.tolist() for place in range(first, end))
        nexts = np.append(split.user[1:], -1)
        following = np.append(split.learnt[1:], False)
        assert inputs == np.flatnonzero(split.learnt & (nexts == split.user) & following).tolist()
        assert (chunks[:, 1] - chunks[:, 0]).max() <= WINDOW_MAX
        assert (split.user[chunks[:, 0]] == split.user[chunks[:, 1]]).all()
        cuts.append(sorted(chunks.tolist()))
    assert cuts[0] != cuts[1]


def test_targets_are_the_next_other_items(tmp_path: Path) -> None:
    """The next event's item, 0 where it is the same again and in padding."""
    events = [event(f"u{user}", item, 1_700_000_000_000 + at) for user in range(10) for at, item in enumerate("abbc")]
    events += [event("late", item, 1_800_000_000_000) for item in "ab"]
    split = split_of(read(write_log(tmp_path / "log", events)))
    assert split.targets(np.array([[0, 3], [4, 6]]), 3).tolist() == [[2, 0, 3], [2, 0, 0]]


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
    """One window of each length, the latest events of users who have as many."""
    assert golden(log).length.tolist() == [1, 2, 3, 8, 25, 50]


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
