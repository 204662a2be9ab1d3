"""Words that an item's reviews have more often than all reviews do, of the stored tokens and of the raw text."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.features import HashTable, text_tokens
from models.formats import read as read_rows
from models.log import AS_NAMED, JSON
from models.rows import Mapped
from stream.contract import TEXT_MAX_CHARS
from stream.eventfile import open_events

REVIEWS_OF_A_KEYWORD_MIN: Final = 2
PRIOR: Final = 500.0  # words that an item is thought to have in the shares of all reviews, before its own are seen
CHOICE: Final = 6  # candidates for each keyword: of Chinese many are two halves of one
TOGETHER: Final = 0.5


class _Line(msgspec.Struct, gc=False):
    text: object = None


_decode_line = msgspec.json.Decoder(_Line).decode


def texts(path: Path, *, form: str = JSON, mapped: Mapped = AS_NAMED) -> Iterator[str]:
    """The texts of a log's lines as they stand, also those of lines that are no event of the contract.

    Raises:
        UsageError, InterestError: as `models.log.read`.
    """
    if form != JSON:
        found: Iterable[object] = (row.event.get("text") for row in read_rows(path, form, mapped) if row.event)
    else:
        found = _of_lines(path)
    for text in found:
        if isinstance(text, str) and text:
            yield text[:TEXT_MAX_CHARS]


def _of_lines(path: Path) -> Iterator[object]:
    with open_events(str(path)) as stream:
        for line in stream:
            try:
                yield _decode_line(line).text
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue  # the log names it, and counts it


def keywords(
    tokens: NDArray[np.uint32], item: NDArray[np.int64], items: int, raw: Iterable[str], most: int
) -> list[list[str]]:
    """Up to `most` keywords of each item, the most telling first.

    1. Rank an item's tokens by how many standard errors their log-odds stand above those in all reviews, with a
       prior of 500 words in the shares of all reviews (Monroe, Colaresi, Quinn 2008, equations 15 to 22; all reviews
       stand for the other side, so that a word of one item alone is not punished). A text counts a token once.
    2. Find the words behind the best in the raw text, since tokens are hashes.
    3. Join pairs of Chinese characters that are parts of one word.

    Args:
        tokens: uint32 [texts, 64], distinct tokens of each text in order, padded with 0.
        item: int64 [texts], the item of each text from 0, or -1 for one whose keywords are not wanted.
        items: how many items there are.
        raw: texts that the tokens are of, in any order; read until all words are found.
        most: keywords an item.
    """
    words, counts = np.unique(tokens[tokens > 0], return_counts=True)
    row = HashTable.build(np.concatenate([np.zeros(1, np.uint32), words])).find(tokens)
    share = counts / max(1, counts.sum())
    if len(words) < 2:
        return [[] for _ in range(items)]
    ranked = []
    for number in range(items):
        own = np.bincount(row[item == number].ravel(), minlength=len(words) + 1)[1:]
        score = _standard_errors(own, counts, share)
        best = np.lexsort((words, -score))[: CHOICE * most]
        ranked.append(best[(score[best] > 0) & (own[best] >= REVIEWS_OF_A_KEYWORD_MIN)])
    names = named({int(word) for best in ranked for word in words[best]}, raw)
    return [
        _joined(row[item == number], (1 + best).tolist(), [names.get(int(word), "") for word in words[best]])[:most]
        for number, best in enumerate(ranked)
    ]


def _standard_errors(
    own: NDArray[np.int64], counts: NDArray[np.int64], share: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How far a word's log-odds here lie above those everywhere, float64 [words]."""
    seen = own + PRIOR * share
    here, there = np.log(seen / (own.sum() + PRIOR - seen)), np.log(share / (1 - share))
    answer: NDArray[np.float64] = (here - there) / np.sqrt(1 / seen + 1 / counts)
    return answer


def named(wanted: set[int], raw: Iterable[str]) -> dict[int, str]:
    """The words of these tokens, as text_tokens folds them; what no text has is left out."""
    names: dict[int, str] = {}
    left, rest = set(wanted), iter(raw)
    while left and (text := next(rest, None)) is not None:
        found = left.intersection(text_tokens(text))
        names |= {token: _word(text, token) for token in found}
        left -= found
    return names


def _word(text: str, token: int) -> str:
    """The part of `text` that is the token: what can be cut off the end, then off the start, while it still has it."""
    end = _last(len(text), lambda cut: token in text_tokens(text[: len(text) - cut]))
    text = text[: len(text) - end]
    text = text[_last(len(text), lambda cut: token in text_tokens(text[cut:])) :]
    return unicodedata.normalize("NFKC", text).replace("’", "'").casefold()


def _last(above: int, holds: Callable[[int], bool]) -> int:
    """A number below `above` that `holds` and whose next does not, by halving; 0 holds, `above` does not."""
    low, high = 0, above
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _joined(rows: NDArray[np.int64], best: Sequence[int], names: Sequence[str]) -> list[str]:
    """Words of the rows `best`, the best first, pairs of characters joined or dropped.

    A pair is joined with one that begins with its last character where half of both stand so side by side ("热水" and
    "水器"); it is dropped where that is half of its own, and the other ranks higher ("的苹" beside "苹果").
    """
    rank = {row: place for place, (row, name) in enumerate(zip(best, names, strict=True)) if name}
    times = np.bincount(rows.ravel(), minlength=max(best, default=0) + 1)
    beside: dict[tuple[int, int], int] = {}
    wanted = np.isin(rows, list(rank))
    place = np.nonzero(wanted[:, :-1] & wanted[:, 1:])
    for one, other in zip(rows[place].tolist(), rows[place[0], place[1] + 1].tolist(), strict=True):
        first, second = names[rank[one]], names[rank[other]]
        if len(first) == len(second) == 2 and first[1] == second[0] and len(text_tokens(first + second[1])) == 2:
            beside[one, other] = beside.get((one, other), 0) + 1
    after: dict[int, int] = {}
    dropped = set()
    for (one, other), count in beside.items():
        if count >= TOGETHER * max(times[one], times[other]):
            after[one] = other
        elif count >= TOGETHER * times[one] and rank[other] < rank[one]:
            dropped.add(one)
        elif count >= TOGETHER * times[other] and rank[one] < rank[other]:
            dropped.add(other)
    before = {other: one for one, other in after.items()}
    words, used = [], set(dropped)
    for row in rank:
        if row in used:
            continue
        part = row
        while part in before and before[part] not in used and before[part] != row:
            part = before[part]
        word = names[rank[part]]
        used.add(part)
        while part in after and after[part] not in used:
            part = after[part]
            word += names[rank[part]][1]
            used.add(part)
        words.append(word)
    return words
