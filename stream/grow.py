"""`interest topics grow`: everything carried to a new set of topics with more partitions, since keys move.

1. A carrier begins (stream.carrier); one that began before it can commit nothing more.
2. The new topics are made. While events are carried, the new event topics keep records' times as they are given, so
   that an erase record stays as old as it was.
3. Of users whose last accepted event may be without its update, or who lay on several partitions, one applied event is
   written in front. The new table knows of it: a worker applies it to nothing, and publishes the user's update.
4. Table and last updates are written to their new places. All so far may be done again.
5. Events that are not in the table are carried in the order of their time, in transactions, each with a note how far
   the carrying has come. The first goes past all that the table may hold; once it is committed, the table is carried.

The notes are in a compacted topic of their own, since committed offsets expire.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec
from kafka.admin import ConfigResource, ConfigResourceType

from stream.access import denied, needs_of
from stream.carrier import Carrier, Moved
from stream.connect import admin
from stream.consume import read_all
from stream.contract import TIME_AHEAD_MS
from stream.erase import parse_user
from stream.errors import TableValueError, TopicError
from stream.eventfile import Record
from stream.groups import committed, members
from stream.growplan import Note, Plan, look, notes_topic, own_topics
from stream.intime import Place, reach, read_in_time
from stream.publisher import partition_of
from stream.rekey import choose_update, rekey
from stream.topics import EVENT_CONFIG, describe, make
from stream.value import UserState, is_stale, pack, source_hash, unpack

CHUNK_RECORDS = 5000
CHUNK_BYTES = 4 * 1024 * 1024
CONFIG_S = 30.0
STAMP = "message.timestamp.type"
AS_GIVEN = {STAMP: "CreateTime"}
_OVERRIDE = "DYNAMIC_TOPIC_CONFIG"

Report = Callable[[str], None]
#: What a topic has last of each user, by partition; None: a tombstone.
Last = dict[bytes, dict[int, bytes | None]]


def grow(plan: Plan, report: Report = lambda _done: None) -> list[str]:
    """Carry everything; may be run again, also after it was killed: then it goes on.

    Args:
        plan: of :func:`look`.
        report: told how far it is.

    Returns:
        lines that tell what was carried.

    Raises:
        TopicError, BrokerError: as `look`; or something could not be written.
        TableValueError: a value of the table cannot be read.
    """
    _make(plan)
    limit = min(
        int(info.configs["max.message.bytes"]) for info in describe(plan.settings.cluster, own_topics(plan.to)).values()
    )
    with Carrier(plan.settings.cluster, plan.settings.app_id, limit) as carrier:
        # Whoever began before has ended by now, and may have come further since.
        return _Growth(look(plan.settings, plan.new), carrier, report).run()


class _Growth:
    """One run."""

    def __init__(self, plan: Plan, carrier: Carrier, report: Report) -> None:
        self._plan = plan
        self._carrier = carrier
        self._report = report
        self._broker = plan.settings.cluster
        ids = {name: info.topic_id.hex for name, info in plan.there.items() if name != notes_topic(plan.settings)}
        self._note = plan.note or Note(plan.new, ids)
        self._starts, self._ends = self._left()
        #: The offset of each user's last event that is in the table, where the group had not committed it.
        self._held: dict[Place, dict[bytes, int]] = {}

    def run(self) -> list[str]:
        """All steps that are left; lines that tell of them."""
        told = []
        if self._note.next is None:
            self._carrier.write([self._noted()])
            self._stamp(AS_GIVEN)
            told += self._carry_users()
        elif any(self._starts[place] < end for place, end in self._ends.items()):
            self._stamp(AS_GIVEN)
        told.append(self._carry_events())
        self._stamp(EVENT_CONFIG)
        return told

    def _left(self) -> tuple[dict[Place, int], dict[Place, int]]:
        """Where the events begin and end that are left: behind the note, or what the group has committed."""
        starts, ends = reach(self._broker, self._plan.settings.event_topics)
        done = committed(self._broker, self._plan.settings.app_id) if self._note.next is None else self._note.offsets()
        return {place: min(max(start, done.get(place, 0)), ends[place]) for place, start in starts.items()}, ends

    def _carry_users(self) -> list[str]:
        """Steps 3 and 4."""
        plan, old, to = self._plan, self._plan.settings, self._plan.to
        users = self._read_last(old.changelog_topic, is_table=True)
        hashes = {source_hash(name, plan.there[name].topic_id.bytes): name for name in old.event_topics}
        table: dict[tuple[int, bytes], bytes | None] = {}
        alive: set[bytes] = set()
        wanted: defaultdict[Place, dict[bytes, int]] = defaultdict(dict)
        merged = 0
        while users:
            key, values = users.popitem()
            states = {partition: self._unpack(partition, key, value) for partition, value in values.items() if value}
            if not states:
                continue
            is_merged = sum(state.version > 0 for state in states.values()) > 1
            merged += is_merged
            for partition, state in states.items():
                for source, offset in state.positions.items():
                    place = hashes.get(source, ""), partition
                    if place not in self._starts:
                        continue
                    is_held = offset >= self._starts[place]
                    if is_held:
                        self._held.setdefault(place, {})[key] = offset
                    if is_held or is_merged:
                        wanted[place][key] = offset
            for partition, state in rekey(key, states, plan.old, plan.new, old.rules).items():
                table[partition, key] = pack(state)
                if len(state.events):
                    alive.add(key)
        for at, positions in self._write_in_front(wanted).items():
            value = table.get(at)
            if value is not None:
                table[at] = pack(replace(unpack(value), positions=positions))
        self._settle(to.changelog_topic, table)
        count = len({key for _, key in table})
        told = [
            f"table: {count:,} users of {old.changelog_topic} to {to.changelog_topic}"
            + (f"; {merged:,} of them lay on several partitions, each has one window now" if merged else "")
        ]
        table.clear()
        updates = {
            (partition_of(key, plan.new), key): choose_update(values.values(), key in alive)
            for key, values in self._read_last(old.update_topic).items()
        }
        self._settle(to.update_topic, updates)
        told.append(f"updates: the last of {len(updates):,} users of {old.update_topic} to {to.update_topic}")
        return told

    def _read_last(self, topic: str, *, is_table: bool = False) -> Last:
        """What a topic has last of each user. A table value that a worker wrote late does not count, as in recovery."""
        last: Last = {}
        for number, record in enumerate(read_all(self._broker, topic), 1):
            values = last.setdefault(record.key, {})
            before = values.get(record.partition)
            if not (is_table and before and record.value and is_stale(record.value, before)):
                values[record.partition] = record.value
            if number % CHUNK_RECORDS == 0:
                self._report(f"{number:,} records of {topic} read")
        return last

    def _unpack(self, partition: int, key: bytes, value: bytes) -> UserState:
        try:
            return unpack(value)
        except TableValueError as error:
            where = f"{self._plan.settings.changelog_topic}/{partition}, user {key!r}"
            raise TableValueError(f"{where}: {error}") from error

    def _write_in_front(self, wanted: Mapping[Place, Mapping[bytes, int]]) -> dict[tuple[int, bytes], dict[int, int]]:
        """Step 3: write the records of these users and offsets to the new event topics.

        Returns:
            for each new partition and user the new source positions, also of what a run wrote that was killed.
        """
        starts = {place: min(offsets.values()) for place, offsets in wanted.items()}
        ends = {place: min(max(offsets.values()) + 1, self._ends[place]) for place, offsets in wanted.items()}
        last = (
            record
            for record in read_in_time(self._broker, starts, ends)
            if wanted[record.topic, record.partition].get(record.key) == record.offset
        )
        for chunk in _chunks(last):
            self._carrier.write([self._moved(record) for record in chunk])
        found: defaultdict[tuple[int, bytes], dict[int, int]] = defaultdict(dict)
        for name in self._plan.to.event_topics:
            source = source_hash(name, self._plan.there[name].topic_id.bytes)
            for record in read_all(self._broker, name):
                found[record.partition, record.key][source] = record.offset
        return found

    def _settle(self, topic: str, wanted: Mapping[tuple[int, bytes], bytes | None]) -> None:
        """Write until the topic has last of each user on each partition what is wanted, and nothing of others."""
        nothing = object()
        while True:
            have = {
                (partition, key): value
                for key, values in self._read_last(topic).items()
                for partition, value in values.items()
            }
            changes = [place for place, value in wanted.items() if have.get(place, nothing) != value]
            changes += [place for place, value in have.items() if value is not None and place not in wanted]
            if not changes:
                return
            for start in range(0, len(changes), CHUNK_RECORDS):
                some = changes[start : start + CHUNK_RECORDS]
                self._carrier.write([Moved(topic, place[0], place[1], wanted.get(place), [], None) for place in some])
                self._report(f"{start + len(some):,} of {len(changes):,} users written to {topic}")

    def _carry_events(self) -> str:
        """Step 5; a line that tells."""
        after = dict(self._starts)
        # The table may hold events up to here: until then all is one transaction, since only this run knows which.
        until = {place: max(offsets.values()) for place, offsets in self._held.items()}
        chunks = _chunks(read_in_time(self._broker, self._starts, self._ends))
        carried = 0
        is_over = False

        def part() -> Iterator[list[Moved]]:
            nonlocal carried, is_over
            for chunk in chunks:
                fresh = []
                for record in chunk:
                    place = record.topic, record.partition
                    after[place] = record.offset + 1
                    if record.offset >= until.get(place, record.offset + 1):
                        del until[place]
                    if record.offset > self._held.get(place, {}).get(record.key, -1):
                        fresh.append(record)
                carried += len(fresh)
                yield [moved for record in fresh for moved in self._everywhere(record)]
                if not until:
                    break
            else:
                is_over = True
                after.update(self._ends)
            yield [self._noted(after)]

        while not is_over:
            if self._note.next is None:
                self._check_nobody_began()
            self._carrier.transact(part(), after)
            self._note = self._note.at(after)
            self._report(f"{carried:,} events carried")
        old, new = (", ".join(settings.event_topics) for settings in (self._plan.settings, self._plan.to))
        return f"events: {carried:,} that no worker had taken, of {old} to {new}"

    def _check_nobody_began(self) -> None:
        """A worker that ran on the new topics too early has begun without the table."""
        group = self._plan.to.app_id
        if members(self._broker, group) or committed(self._broker, group):
            topics = ", ".join([*own_topics(self._plan.to), notes_topic(self._plan.settings)])
            raise TopicError(
                f"group {group} has worked before everything was carried: stop its workers, delete the group and the "
                f"topics {topics}, and run it again"
            )

    def _everywhere(self, record: Any) -> list[Moved]:
        """Where a record goes. One of `interest erase`, which is on all partitions, goes to all once more."""
        moved = self._moved(record)
        if b'"erase"' not in (record.value or b"") or record.key is None:
            return [moved]
        erase = parse_user(0, record.key)
        is_home = record.partition == partition_of(record.key, self._plan.there[record.topic].partitions)
        if is_home and isinstance(erase, Record) and erase.value == record.value:
            return [moved._replace(partition=partition) for partition in range(self._plan.new)]
        return [moved]

    def _moved(self, record: Any) -> Moved:
        new, key = self._plan.new, record.key
        return Moved(
            topic=self._plan.names[record.topic],
            partition=record.partition % new if key is None else partition_of(key, new),
            key=key,
            value=record.value,
            headers=record.headers,
            # One far ahead of now, of a clock that was no broker's, would be refused.
            time_ms=record.timestamp if 0 <= record.timestamp <= time.time() * 1000 + TIME_AHEAD_MS else None,
        )

    def _noted(self, after: Mapping[Place, int] | None = None) -> Moved:
        note = self._note if after is None else self._note.at(after)
        return Moved(notes_topic(self._plan.settings), 0, b"note", msgspec.json.encode(note), [], None)

    def _stamp(self, config: Mapping[str, str]) -> None:
        """Whose time the new event topics' records have."""
        wanted = {STAMP: config[STAMP]}
        names = self._plan.to.event_topics
        with admin(self._broker) as client:
            answers = client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, wanted) for name in names])
        for name, answer in answers["topic"].items():
            if "TopicAuthorizationFailed" in answer:
                raise denied(self._broker, needs_of([name], "AlterConfigs"))
            if answer != "OK":
                raise TopicError(f"topic {name}: Kafka refuses {STAMP}={wanted[STAMP]}: {answer}")
        until = time.monotonic() + CONFIG_S
        while any(info.configs[STAMP] != wanted[STAMP] for info in describe(self._broker, names).values()):
            if time.monotonic() > until:
                raise TopicError(f"{', '.join(names)}: {STAMP}={wanted[STAMP]} was set and is not seen; run it again")
            time.sleep(0.1)


def _make(plan: Plan) -> None:
    """Make the new topics that are not there, with the old ones' own configuration, and that for notes."""
    cluster = plan.settings.cluster
    with admin(cluster) as client:
        found = client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in plan.names])
        for old, name in plan.names.items():
            entries = found["topic"][old].items()
            own = {key: str(entry["value"]) for key, entry in entries if entry["config_source"] == _OVERRIDE}
            stamp = AS_GIVEN if old in plan.settings.event_topics else {}
            if name not in plan.there:
                make(client, cluster, {name: own | stamp}, plan.new, plan.there[old].replication)
        notes, changelog = notes_topic(plan.settings), plan.there[plan.settings.changelog_topic]
        if notes not in plan.there:
            durable = {"min.insync.replicas": changelog.configs["min.insync.replicas"]}
            make(client, cluster, {notes: {"cleanup.policy": "compact"} | durable}, 1, changelog.replication)


def _chunks(records: Iterable[Any]) -> Iterator[list[Any]]:
    """So many records at a time as are written at once."""
    chunk: list[Any] = []
    size = 0
    for record in records:
        chunk.append(record)
        size += len(record.value or b"")
        if len(chunk) == CHUNK_RECORDS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
