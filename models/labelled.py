"""Reviews that say whether they are good: of a table by their labels, of a log by their ratings."""

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

import numpy as np
from numpy.typing import NDArray

from models.features import text_tokens
from models.log import Log
from models.sentiment import by_rating
from stream.contract import TEXT_MAX_CHARS
from stream.decode import token_rows
from stream.errors import InterestError, UsageError

GOOD: Final = frozenset({"1", "good", "positive", "pos", "true"})
BAD: Final = frozenset({"0", "-1", "bad", "negative", "neg", "false"})


@dataclass(frozen=True, eq=False)
class Labelled:
    """Texts and what they are."""

    texts: list[str]
    tokens: NDArray[np.uint32]  # [texts, 64], padded with 0
    good: NDArray[np.bool_]  # [texts]
    left_out: int  # rows whose text has no token

    @classmethod
    def of(cls, rows: Iterable[tuple[str, bool]]) -> "Labelled":
        """Texts with their verdicts, cut at 10,000 characters as the worker cuts; without a token they are left out."""
        texts, tokens, good, left_out = [], [], [], 0
        for text, is_good in rows:
            found = text_tokens(text[:TEXT_MAX_CHARS])
            if not found:
                left_out += 1
                continue
            texts.append(text[:TEXT_MAX_CHARS])
            tokens.append(found)
            good.append(is_good)
        return cls(texts, token_rows(tokens), np.array(good, bool), left_out)


def read(path: Path, label: str, text: str) -> Labelled:
    """The rows of a table, CSV in UTF-8, or a zip that holds one.

    Columns are named as in the header; two numbers are their places, from 1, in a table without header. A tab separates
    where the first line has one, else a comma. A label is 1, good, positive, pos or true, or 0, -1, bad, negative, neg
    or false, in any case.

    Raises:
        UsageError: no such file, column or label; names the line.
    """
    with _opened(path) as stream:
        try:
            return Labelled.of(_rows(stream, path, label, text))
        except UnicodeDecodeError as error:
            raise UsageError(f"{path}: expected text as UTF-8: {error}") from error
        except (csv.Error, zipfile.BadZipFile) as error:
            raise UsageError(f"{path}: expected a table, CSV: {error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    with ExitStack() as stack:
        try:
            if not zipfile.is_zipfile(path):
                yield stack.enter_context(path.open(encoding="utf-8-sig", newline=""))
                return
            archive = stack.enter_context(zipfile.ZipFile(path))
            names = [one.filename for one in archive.infolist() if not one.is_dir()]
            if len(names) != 1:
                raise UsageError(f"{path}: expected a zip of one table, got {len(names)} files")
            file = stack.enter_context(archive.open(names[0]))
            yield stack.enter_context(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
        except OSError as error:
            raise UsageError(f"{path}: expected a table, CSV: {error.strerror or error}") from error
        except RuntimeError as error:  # it needs a password, or is packed in a way that zipfile lacks
            raise UsageError(f"{path}: expected a zip that can be read: {error}") from error


def _rows(stream: TextIO, path: Path, label: str, text: str) -> Iterator[tuple[str, bool]]:
    first = stream.readline()
    separator = "\t" if "\t" in first else ","
    reader = csv.reader(_again(first, stream), delimiter=separator)
    places: tuple[int, int] | None = None
    if label.isdecimal() and text.isdecimal():
        places = int(label) - 1, int(text) - 1
    for row in reader:
        if not row:
            continue
        if places is None:
            missing = [name for name in (label, text) if name not in row]
            if missing:
                raise UsageError(
                    f"{path}: expected a column {missing[0]!r}, got {', '.join(row)[:200]}: name it with "
                    "--label-column or --text-column; two numbers are places, from 1, in a table without header"
                )
            places = row.index(label), row.index(text)
            continue
        if not 0 <= min(places) <= max(places) < len(row):
            raise UsageError(
                f"{path}: line {reader.line_num}: expected {max(places) + 1} columns or more, got {len(row)}"
            )
        said = row[places[0]].strip().casefold()
        if said not in GOOD and said not in BAD:
            raise UsageError(
                f"{path}: line {reader.line_num}: expected a label among {', '.join(sorted(GOOD | BAD))}, "
                f"got {row[places[0]][:40]!r}"
            )
        yield row[places[1]], said in GOOD


def _again(first: str, stream: TextIO) -> Iterator[str]:
    yield first
    yield from stream


def rated(log: Log, raw: Iterable[str] | None = None) -> Labelled:
    """The reviews of a log with text whose rating says what they are, as `models.sentiment.by_rating` has it.

    `raw` are the log's texts in any order (`models.keywords.texts`); without them the texts are "".

    Raises:
        InterestError: a text is not among `raw`.
    """
    place = np.flatnonzero(log.text_row >= 0)
    says, good = by_rating(log.events["rating"][place])
    tokens = log.tokens[log.text_row[place[says]]]
    if raw is None:
        return Labelled([""] * len(tokens), tokens, good[says], 0)
    # Texts of the same tokens are one text to whatever is learnt from tokens, and are held out together.
    found: dict[bytes, str] = {}
    for text in raw:
        found.setdefault(token_rows([text_tokens(text)]).tobytes(), text)
    texts = [found.get(row.tobytes()) for row in tokens]
    if None in texts:
        raise InterestError("expected the log's texts when it was read again, got others: has the file changed?")
    return Labelled([text for text in texts if text is not None], tokens, good[says], 0)
