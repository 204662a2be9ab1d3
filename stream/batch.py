"""The pure middle of a batch: fetched records in; table values, updates and dead letters out. No Kafka, no clock.

1. :func:`prepare`: decode, load the windows of the users, apply the rules;
2. :func:`encode`: vectors for all users touched (the part that may take long);
3. :func:`finish`: one update and one table value a user, a dead letter for each refused record.

A large batch is :func:`split` in between, so that one part is published while the next is encoded.

:func:`renew` gives users' updates once more, from what the table holds.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from stream import window
from stream.apply import Applied, Arrivals, apply
from stream.contract import Reason
from stream.deadletter import Headers, dead_letter
from stream.decode import Record, decode, token_rows
from stream.encode import Encoded, Encoder, UserKey
from stream.rules import Rules
from stream.update import UpdateFormat, encode_updates
from stream.window import NO_TIME

#: Table values of some users of a partition: (partition, user ids) -> values, None for who is not known.
Load = Callable[[int, list[bytes]], list[bytes | None]]


@dataclass(frozen=True, slots=True)
class Message:
    """Fetched records of one topic partition, in order."""

    topic: str
    partition: int
    records: Sequence[Record]


@dataclass(slots=True)
class PartitionResult:
    """What a batch means for one partition."""

    partition_time: int  # ms, NO_TIME: nothing was accepted yet
    values: list[tuple[bytes, bytes]] = field(default_factory=list)  # for table and changelog
    updates: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    letters: list[tuple[bytes | None, bytes | None, Headers]] = field(default_factory=list)


@dataclass(slots=True)
class Counts:
    """What became of the records of a batch."""

    records: int = 0
    accepted: int = 0
    applied_before: int = 0
    late: int = 0
    duplicates: int = 0
    republished: int = 0
    texts_cut: int = 0
    refused: Counter[Reason] = field(default_factory=Counter)
    not_finite: list[bytes] = field(default_factory=list)  # users whose vector was not fit to be published


@dataclass(frozen=True, slots=True)
class Plan:
    """A batch after the rules, before the model."""

    keys: list[UserKey]  # [users]
    applied: Applied
    mark_before: NDArray[np.int64]  # of the windows before the batch (Windows.mark)
    encode: NDArray[np.int64]  # users whose vector is wanted
    changed: NDArray[np.int64]  # users whose table value is
    gone: NDArray[np.int64]  # users whose update is a tombstone, whatever comes behind it
    new: dict[int, list[bytes]]  # users who had no events before and have now, by partition
    results: dict[int, PartitionResult]
    counts: Counts


def prepare(
    messages: Sequence[Message],
    sources: dict[str, int],
    load: Load,
    partition_time: dict[int, int],
    rules: Rules,
) -> Plan:
    """Decode the records and apply the rules.

    Args:
        messages: any partitions of any source topics; those of a partition in the order they are to be applied.
        sources: hash of each event topic, by name.
        load: reads the table.
        partition_time: of partitions that have one.
        rules: bounds of a window.

    Raises:
        TableValueError: a value in the table cannot be read.
    """
    counts = Counts(records=sum(len(message.records) for message in messages))
    partitions = sorted({message.partition for message in messages})
    results = {p: PartitionResult(partition_time.get(p, NO_TIME)) for p in partitions}
    columns = {topic: column for column, topic in enumerate(sources)}
    users: dict[int, dict[bytes, int]] = {p: {} for p in partitions}  # by partition, in the order they came
    decoded = []
    local = []
    again: list[tuple[int, int]] = []  # partition and index of users whose update is asked for
    for message in messages:
        one = decode(message.records)
        known = users[message.partition]
        local.append(np.array([known.setdefault(key, len(known)) for key in one.keys], np.int64))
        decoded.append(one)
        again += [(message.partition, known.setdefault(key, len(known))) for key in one.republish]
        counts.texts_cut += one.texts_cut
        for refused in one.refused:
            counts.refused[refused.reason] += 1
            results[message.partition].letters.append(dead_letter(refused, message.topic, message.partition))

    first = dict(zip(partitions, np.cumsum([0, *(len(users[p]) for p in partitions)]).tolist(), strict=False))
    row = np.cumsum([0, *(len(one.tokens) for one in decoded)]).tolist()
    arrivals = Arrivals(
        user=np.concatenate([u + first[m.partition] for u, m in zip(local, messages, strict=True)]),
        source=np.repeat([columns[m.topic] for m in messages], [len(u) for u in local]).astype(np.int64),
        offset=np.concatenate([one.offset for one in decoded]),
        events=np.concatenate([one.events for one in decoded]),
        erase=np.concatenate([one.erase for one in decoded]),
        text_row=np.concatenate(
            [
                np.where(one.text_row >= 0, one.text_row + r, -1).astype(np.int32)
                for one, r in zip(decoded, row, strict=False)
            ]
        ),
        tokens=np.concatenate([token_rows([]), *(one.tokens for one in decoded)]),
    )
    windows = window.load([value for p in partitions for value in load(p, list(users[p]))], tuple(sources.values()))
    applied = apply(
        windows,
        arrivals,
        np.repeat(np.arange(len(partitions)), [len(users[p]) for p in partitions]),
        np.array([results[p].partition_time for p in partitions], np.int64),
        rules,
    )
    for p, time in zip(partitions, applied.partition_time.tolist(), strict=True):
        results[p].partition_time = time
    counts.accepted = int(applied.accepted.sum())
    counts.late, counts.duplicates = applied.late, applied.duplicates
    counts.applied_before = len(arrivals.user) - counts.accepted - counts.late - counts.duplicates
    counts.republished = len(again)
    held = np.diff(applied.windows.start)
    asked = applied.before.copy()
    asked[[first[p] + user for p, user in again]] = True
    new: dict[int, list[bytes]] = {p: [] for p in partitions}
    names = [(p, key) for p in partitions for key in users[p]]
    for user in np.flatnonzero((windows.version == 0) & (applied.windows.version > 0)).tolist():
        p, key = names[user]
        new[p].append(key)
    return Plan(
        keys=names,
        applied=applied,
        mark_before=windows.mark,
        encode=np.flatnonzero(((applied.accepted > 0) | asked) & (held > 0)),
        changed=np.flatnonzero(applied.accepted > 0),
        gone=np.flatnonzero(applied.erased | (asked & (held == 0))),
        new=new,
        results=results,
        counts=counts,
    )


def split(plan: Plan, users: int) -> list[Plan]:
    """Parts with so many vectors each, one at least, to be encoded and published in this order.

    All but vectors and updates goes with the first; all count together.
    """
    first, *others = (plan.encode[start : start + users] for start in range(0, len(plan.encode) or 1, users))
    nobody = plan.changed[:0]
    return [
        replace(plan, encode=first),
        *(replace(plan, encode=part, changed=nobody, gone=nobody, results=_empty(plan.results)) for part in others),
    ]


def _empty(results: dict[int, PartitionResult]) -> dict[int, PartitionResult]:
    return {partition: PartitionResult(result.partition_time) for partition, result in results.items()}


def encode(plan: Plan, encoder: Encoder) -> Encoded:
    """Vectors of the users that `plan.encode` names."""
    return encoder.encode(
        plan.applied.windows,
        plan.encode,
        [plan.keys[user] for user in plan.encode.tolist()],
        plan.applied.appended[plan.encode],
        plan.mark_before[plan.encode],
    )


def finish(plan: Plan, encoded: Encoded, encoder: Encoder, form: UpdateFormat) -> dict[int, PartitionResult]:
    """What is to be published and written, by partition. Users whose vector is not fit are named in the counts."""
    windows, keys = plan.applied.windows, plan.keys
    append_value = {partition: result.values.append for partition, result in plan.results.items()}
    append_update = {partition: result.updates.append for partition, result in plan.results.items()}
    for user, value in zip(plan.changed.tolist(), window.dump(windows, plan.changed), strict=True):
        partition, key = keys[user]
        append_value[partition]((key, value))
    # Before the updates: a user who was erased and came back within the batch gets both, in this order.
    for user in plan.gone.tolist():
        partition, key = keys[user]
        append_update[partition]((key, None))

    keys_encoded = [keys[user] for user in plan.encode.tolist()]
    plan.counts.not_finite += [key for (_, key), fit in zip(keys_encoded, encoded.fit.tolist(), strict=True) if not fit]
    for (partition, key), update in _updates(windows, plan.encode, keys_encoded, encoded, encoder, form):
        append_update[partition]((key, update))
    return plan.results


def renew(
    keys: Sequence[UserKey],
    values: Sequence[bytes | None],
    sources: Sequence[int],
    encoder: Encoder,
    form: UpdateFormat,
) -> list[tuple[UserKey, bytes | None]]:
    """The updates that belong to table values: a vector, or a tombstone for a user without events.

    A user whose vector is not fit gets none.
    """
    windows = window.load(values, sources)
    held = np.diff(windows.start)
    some = np.flatnonzero(held > 0)
    keys_encoded = [keys[user] for user in some.tolist()]
    encoded = encoder.encode(windows, some, keys_encoded, np.full(len(some), -1), windows.mark[some])
    tombstones: list[tuple[UserKey, bytes | None]] = [(keys[user], None) for user in np.flatnonzero(held == 0).tolist()]
    return tombstones + list(_updates(windows, some, keys_encoded, encoded, encoder, form))


def _updates(
    windows: window.Windows,
    users: NDArray[np.int64],
    keys: Sequence[UserKey],
    encoded: Encoded,
    encoder: Encoder,
    form: UpdateFormat,
) -> Iterator[tuple[UserKey, bytes]]:
    """The updates of those of the `users` [n] (`keys` [n]) whose vector is fit."""
    fit = encoded.fit
    users = users[fit]
    names = [key for key, good in zip(keys, fit.tolist(), strict=True) if good]
    updates = encode_updates(
        encoder.bundle,
        [key for _, key in names],
        windows.version[users],
        windows.newest[users],
        np.diff(windows.start)[users],
        encoded.vectors[fit],
        form,
    )
    return zip(names, updates, strict=True)
