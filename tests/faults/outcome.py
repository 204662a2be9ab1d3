"""What the topics hold after a run, against the rules applied to the event topic itself, record by record."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from kafka import KafkaConsumer, TopicPartition

from tests.integration.conftest import Names
from tests.judge import judge
from tests.reference import Model, Reference, Rules, Shown, User, read_value

TOLERANCE = 1e-5
NAMED_MAX = 5
SOURCE = 0  # of all records: only one event topic is read


@dataclass
class Outcome:
    """Numbers that must be 0, and the first that is amiss in words."""

    events: int = 0  # records of the event topic
    accepted: int = 0
    users: int = 0
    lost: int = 0
    twice: int = 0
    #: Users with another window, version, floor or position, or with a vector that is not the model's.
    different: int = 0
    letters_missing: int = 0
    deviation: float = 0.0
    problems: list[str] = field(default_factory=list)
    #: Users with lost events or some counted twice.
    amiss: set[bytes] = field(default_factory=set)

    @property
    def exact(self) -> bool:
        """Whether all is as if nothing had happened."""
        return not (self.lost or self.twice or self.different or self.letters_missing or self.problems)

    def __str__(self) -> str:
        shown = "".join(f"\n  {problem}" for problem in self.problems[:NAMED_MAX])
        more = f"\n  … and {len(self.problems) - NAMED_MAX} more" if len(self.problems) > NAMED_MAX else ""
        return (
            f"{self.events:,} events, {self.accepted:,} accepted, {self.users:,} users: lost {self.lost} twice "
            f"{self.twice}, {self.different} users differ, {self.letters_missing} dead letters missing, "
            f"vectors within {self.deviation:.1e}{shown}{more}"
        )


def read_outcome(names: Names, model: Model, rules: Rules) -> Outcome:
    """Read all topics and compare."""
    topics = (names.event_topic, names.changelog_topic, names.update_topic, names.deadletter_topic)
    return compare(*(read(names.broker, topic) for topic in topics), model=model, rules=rules)


def compare(
    events: Sequence[Any],
    changelog: Sequence[Any],
    updates: Sequence[Any],
    letters: Sequence[Any],
    *,
    model: Model,
    rules: Rules,
) -> Outcome:
    """What the records of the topics, each partition in its order, say of each other. No difference is raised."""
    outcome = Outcome(events=len(events))
    references: dict[int, Reference] = {}
    refused: dict[bytes, frozenset[str]] = {}
    for record in events:
        verdict = judge(record.key, record.value, record.timestamp)
        if verdict.value is None:
            refused[f"{record.topic}/{record.partition}/{record.offset}".encode()] = verdict.reasons
        else:
            reference = references.setdefault(record.partition, Reference(rules))
            reference.accept(SOURCE, record.offset, record.timestamp, record.key, verdict.value)
    outcome.accepted = sum(reference.outcomes["accepted"] for reference in references.values())
    users = {
        key: user
        for reference in references.values()
        for key, user in reference.users.items()
        if not reference.is_idle(user)  # the sweep has forgotten it by then
    }
    outcome.users = len(users)

    held = {record.key: record.value for record in changelog}
    stored = {key: read_value(value) for key, value in held.items() if value is not None}
    newest = newest_updates(updates)
    last = {record.key: record.value for record in updates}
    compacted = {key: orjson.loads(value) for key, value in last.items() if value is not None}
    _compare_versions(outcome, users, stored, newest, compacted)
    _compare_windows(outcome, users, stored)
    _compare_updates(outcome, "newest update", users, newest, model)
    _compare_updates(outcome, "last update", users, compacted, model)
    _compare_letters(outcome, refused, letters)
    for key in sorted(outcome.amiss)[:NAMED_MAX]:
        outcome.problems += [f"  {line}" for line in _history(key, events, changelog, updates)]
    return outcome


def _history(key: bytes, *topics: Sequence[Any]) -> Iterator[str]:
    """All records of a user, as they came."""
    records = sorted((record for topic in topics for record in topic if record.key == key), key=lambda r: r.timestamp)
    for record in records:
        value = record.value or b"-"
        is_window = record.value is not None and record.topic.endswith("-changelog")
        shown = str(read_value(value)) if is_window else value[:200].decode(errors="replace")
        yield f"{record.timestamp} {record.topic}/{record.partition}/{record.offset} {shown[:400]}"


def read(broker: str, topic: str) -> list[Any]:
    """All committed records of a topic, each partition in its order."""
    consumer = KafkaConsumer(
        bootstrap_servers=broker,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_poll_records=10_000,
        check_crcs=False,  # in pure Python, 0.4 s for each MB
    )
    try:
        tps = [TopicPartition(topic, partition) for partition in sorted(consumer.partitions_for_topic(topic))]
        consumer.assign(tps)
        ends = consumer.end_offsets(tps)
        records: list[Any] = []
        while any(consumer.position(tp) < end for tp, end in ends.items()):
            for found in consumer.poll(timeout_ms=500).values():
                records += found
        return records
    finally:
        consumer.close()


def newest_updates(records: Sequence[Any]) -> dict[bytes, dict[str, Any]]:
    """What a consumer holds that follows the order rule: by (timestamp, version), older ones ignored."""
    newest: dict[bytes, dict[str, Any]] = {}
    for record in records:
        if record.value is None:
            newest.pop(record.key, None)
            continue
        update = orjson.loads(record.value)
        held = newest.get(record.key)
        if held is None or (update["timestamp"], update["version"]) >= (held["timestamp"], held["version"]):
            newest[record.key] = update
    return newest


def _compare_versions(
    outcome: Outcome,
    users: Mapping[bytes, User],
    stored: Mapping[bytes, Shown],
    newest: Mapping[bytes, Mapping[str, Any]],
    last: Mapping[bytes, Mapping[str, Any]],
) -> None:
    """Events lost and counted twice: the worst of what changelog, newest and last update say of each user."""
    for key in users.keys() | stored.keys() | newest.keys() | last.keys():
        wanted = users[key].version if key in users else 0
        versions = [stored[key].version if key in stored else 0]
        versions += [held[key]["version"] if key in held else 0 for held in (newest, last)]
        lost, twice = max(0, wanted - min(versions)), max(0, max(versions) - wanted)
        outcome.lost += lost
        outcome.twice += twice
        if lost or twice:
            outcome.problems.append(
                f"user {key.decode()}: version {wanted} expected; changelog {versions[0]}, newest update "
                f"{versions[1]}, last update {versions[2]}"
            )
            outcome.amiss.add(key)


def _compare_windows(outcome: Outcome, users: Mapping[bytes, User], stored: Mapping[bytes, Shown]) -> None:
    for key in users.keys() & stored.keys():
        user, found = users[key], stored[key]
        wanted = list(user.events), user.version, user.floor or 0, sorted(user.positions.values())
        if wanted != (list(found.events), found.version, found.floor, sorted(at for _, at in found.positions)):
            outcome.different += 1
            outcome.problems.append(
                f"user {key.decode()}: window of {len(user.events)} events, floor {user.floor or 0}, positions "
                f"{wanted[3]} expected, got {len(found.events)}, {found.floor}, {found.positions}"
            )


def _compare_updates(
    outcome: Outcome, name: str, users: Mapping[bytes, User], held: Mapping[bytes, dict[str, Any]], model: Model
) -> None:
    """Everything an update says; versions are compared elsewhere, so users of another version are left out."""
    keys = sorted(key for key in users.keys() & held.keys() if held[key]["version"] == users[key].version)
    if not keys:
        return
    wanted = model.vectors([users[key].events for key in keys])
    found = np.array([held[key]["vector"] for key in keys], np.float32)
    deviations = np.abs(found - wanted).max(axis=1)
    outcome.deviation = max(outcome.deviation, float(deviations.max()))
    for key, deviation in zip(keys, deviations.tolist(), strict=True):
        events = users[key].events
        rest = {field: value for field, value in held[key].items() if field != "vector"}
        said = {
            "user_id": key.decode(),
            "version": users[key].version,
            "timestamp": events[-1].timestamp,
            "model": model.bundle.version,
            "events": len(events),
        }
        if deviation > TOLERANCE or rest != said:
            outcome.different += 1
            outcome.problems.append(f"user {key.decode()}, {name}: {said} expected, got {rest}, {deviation:.1e} away")


def _compare_letters(outcome: Outcome, refused: Mapping[bytes, frozenset[str]], letters: Sequence[Any]) -> None:
    """Each refused record has a letter with its reason (a crash may write one twice), and no other record has one."""
    found: dict[bytes, set[str]] = {}
    for letter in letters:
        headers = dict(letter.headers)
        found.setdefault(headers["interest-source"], set()).add(headers["interest-reason"].decode())
    for source, reasons in refused.items():
        if source not in found:
            outcome.letters_missing += 1
        elif not found[source] <= reasons:
            outcome.problems.append(f"{source.decode()}: dead for {reasons} expected, got {found[source]}")
    outcome.problems += [f"{source.decode()}: a dead letter of a good event" for source in found.keys() - refused]
