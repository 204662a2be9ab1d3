"""Whether a partition's local copy may be used. One that may not is thrown away, and recovered from the changelog.

A copy on disk keeps a record of itself. It is fit if

1. it says of which changelog it is: name and Kafka id of the topic, in a format that is known here;
2. it was written not longer ago than half of the changelog's `delete.retention.ms`: tombstones that came since are then
   still there, so that a user who was forgotten stays forgotten;
3. it is not ahead of the changelog's end: the changelog would be another, or have lost its end;
4. nothing was trimmed from the changelog between where the copy ends and where the log starts.

A copy that turns out to be damaged while it is worked with is marked in the data folder, for the next start.
"""

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import msgspec

from stream import topics
from stream.errors import TopicError
from stream.security import Cluster
from stream.topics import TopicInfo

FORMAT = 1
#: How exactly a copy notes when it was written, ms.
NOTE_MS = 60_000

_HOUR_MS = 3_600_000
_MARK = ".damaged"
_THROWN = ".thrown-away"
_FULL = ("No space left", "File too large", "Disk quota exceeded")
_BLOCKED = ("Too many open files", "Permission denied", "Read-only file system", "Cannot allocate memory")
_LOCKED = ("lock hold by", "While lock file")


@dataclass(frozen=True, slots=True)
class Changelog:
    """The changelog as this process knows it."""

    broker: Cluster
    topic: str
    topic_id: uuid.UUID
    delete_retention_ms: int

    @classmethod
    def of(cls, broker: Cluster, info: TopicInfo) -> "Changelog":
        """From a description of the topic."""
        return cls(broker, info.name, info.topic_id, int(info.configs["delete.retention.ms"]))

    def look_again(self) -> None:
        """Return if the topic is still the same.

        Raises:
            TopicError: it is gone, or was made anew.
            BrokerError: no broker answers, or it refuses.
        """
        now = topics.describe(self.broker, [self.topic]).get(self.topic)
        if now is None or now.topic_id != self.topic_id:
            raise TopicError(
                f"topic {self.topic}: expected id {self.topic_id}, got {None if now is None else now.topic_id}: it was "
                "deleted or made anew while this worker ran; start the worker again, local state is then recovered"
            )


class Note(msgspec.Struct, frozen=True):
    """What a copy on disk says of itself."""

    format: int
    changelog: str
    topic_id: uuid.UUID
    #: Up to when it held all that the changelog did, ms since the epoch.
    written_ms: int
    #: The first offset that did not come while the changelog was followed: compacted away, or trimmed under the reader.
    passed_over: int | None = None

    @classmethod
    def of(cls, changelog: Changelog, written_ms: int, passed_over: int | None) -> "Note":
        """The note of a copy that is written now."""
        return cls(FORMAT, changelog.topic, changelog.topic_id, written_ms, passed_over)


class _Format(msgspec.Struct):
    format: int


def pack(note: Note) -> bytes:
    """The bytes that are stored: JSON."""
    return msgspec.json.encode(note)


def unpack(stored: bytes) -> Note:
    """The note, of a copy that :func:`judge_note` has found fit."""
    return msgspec.json.decode(stored, type=Note)


def judge_note(stored: bytes | None, changelog: Changelog, now_ms: int) -> str | None:
    """Why a copy with data must not be used, from its note; None: it may."""
    if stored is None:
        return "it does not say of which changelog it is, as an older version wrote it"
    try:
        form = msgspec.json.decode(stored, type=_Format).format
        if form != FORMAT:
            return f"it is of format {form}, expected {FORMAT}"
        note = unpack(stored)
    except msgspec.DecodeError as error:
        return f"what it says of itself cannot be read: {error}"
    if note.changelog != changelog.topic:
        return f"it is of changelog {note.changelog}, expected {changelog.topic}: another application's"
    if note.topic_id != changelog.topic_id:
        return f"it is of changelog id {note.topic_id}, expected {changelog.topic_id}: the topic was made anew"
    age_ms = now_ms - note.written_ms
    if abs(age_ms) > changelog.delete_retention_ms / 2:
        return (
            f"it was last written {abs(age_ms) / _HOUR_MS:.1f} hours {'ago' if age_ms > 0 else 'ahead of the clock'}, "
            f"over half of the {changelog.delete_retention_ms / _HOUR_MS:.1f} hours that the changelog keeps tombstones"
        )
    return None


def judge_offset(offset: int, passed_over: int | None, start: int, end: int) -> str | None:
    """Why a copy must not be used, from where it is in the changelog; None: it may.

    Args:
        offset: up to which it is complete, inclusive.
        passed_over: see :class:`Note`.
        start: of the changelog partition, its first offset.
        end: of it, the offset of its next record.
    """
    if offset + 1 > end:
        return f"it is ahead of the changelog: it expects offset {offset + 1} next, the changelog ends at {end}"
    wanted = offset + 1 if passed_over is None else min(passed_over, offset + 1)
    if wanted < start:
        return f"the changelog was trimmed: it starts at offset {start}, {wanted} is missing here"
    return None


def is_full(error: Exception) -> bool:
    """Whether there is no room to write."""
    return any(text in str(error) for text in _FULL)


def is_blocked(error: Exception) -> bool:
    """Whether something besides the copy is the reason, which another copy would meet too."""
    return is_full(error) or any(text in str(error) for text in _BLOCKED)


def is_locked(error: Exception) -> bool:
    """Whether RocksDB says that the copy is open elsewhere."""
    return any(text in str(error) for text in _LOCKED)


def mark(copy: Path, reason: str) -> None:
    """Leave word beside a copy that it is to be thrown away, before the process ends.

    Raises:
        OSError: the folder cannot be written.
    """
    copy.with_name(copy.name + _MARK).write_text(reason)


def read_mark(copy: Path) -> str | None:
    """The reason that :func:`mark` has left."""
    place = copy.with_name(copy.name + _MARK)
    return place.read_text() if place.exists() else None


def remove(copy: Path) -> None:
    """Remove a copy and its mark. Also one that is removed in part only, by a crash, is none any more.

    Raises:
        OSError: the folder cannot be written.
    """
    thrown = copy.with_name(copy.name + _THROWN)
    if thrown.exists():
        shutil.rmtree(thrown)
    if copy.exists():
        copy.rename(thrown)
        shutil.rmtree(thrown)
    copy.with_name(copy.name + _MARK).unlink(missing_ok=True)
