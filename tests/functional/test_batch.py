"""A batch in memory, bytes in and bytes out: table values, updates and dead letters against the slow reference."""

import dataclasses
import json
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from models.bundle import Bundle, session
from models.features import text_tokens
from stream import batch
from stream.batch import Counts, Message, PartitionResult
from stream.contract import EVENT_TYPES, Reason, amount_code, hash32, hash64
from stream.deadletter import Headers
from stream.encode import Encoder
from stream.rules import Rules as WorkerRules
from stream.update import UpdateFormat
from stream.window import Windows
from tests.bundles import WORDS, random_bundle
from tests.reference import Erase, Event, Model, Outcome, Reference, Rules, read_value
from tests.strategies import SOURCES, TIME_ZERO_MS, USERS, Log, Record, logs, rules, split

TOPICS = ("web", "shop", "app")
ITEMS = [f"i{number}" for number in range(20)]
TYPES = {code: name for name, code in EVENT_TYPES.items()}
AMOUNTS = {0: None, 1: 0.0, 9: 1.0, 255: 1e12}
A, B, C = USERS
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A random model; of the items' categories one is unknown to the catalog."""
    return random_bundle(
        tmp_path_factory.mktemp("bundle"),
        item_ids=ITEMS,
        item_categories=["c1", "c2", "", "c1"] * 5,
        event_types=("other", "click", "cart", "purchase", "review"),
    )


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> Model:
    """The same bundle, run the slow way."""
    return Model(bundle)


@dataclass(frozen=True)
class Raw:
    """A Kafka record as far as a batch reads it."""

    value: bytes | None
    key: bytes | None = A
    offset: int = 0
    timestamp: int = TIME_ZERO_MS + 1000
    headers: Sequence[tuple[str, bytes | None]] = ()


@cache
def graph(bundle: Bundle) -> InferenceSession:
    """One session for all tests."""
    return session(bundle)


def raw(record: Record) -> Raw:
    """A drawn record as JSON; an erase record's own time is the one drawn."""
    user = record.key.decode()
    if isinstance(record.value, Erase):
        return Raw(json.dumps({"type": "erase", "user_id": user}).encode(), record.key, record.offset, record.time)
    event = record.value
    fields = {
        "user_id": user,
        "type": TYPES[event.type],
        "item_id": f"i{event.item % 23}",
        "timestamp": event.timestamp,
        "event_id": f"e{event.event_id}" if event.event_id else None,
        "category_id": f"c{event.category % 5}" if event.category else None,
        "rating": event.rating / 10 if event.rating else None,
        "price": AMOUNTS[event.price],
        "quantity": AMOUNTS[event.quantity],
        "text": words(event) or None,
    }
    return Raw(json.dumps(fields).encode(), record.key, record.offset)


def words(event: Event) -> str:
    """Some words, as the event's drawn tokens say."""
    return " ".join(WORDS[token % len(WORDS)] for token in event.tokens)


def decoded(record: Record) -> Record:
    """What the contract makes of :func:`raw`."""
    if isinstance(record.value, Erase):
        return record
    event = record.value
    made = Event(
        event.timestamp,
        hash64(f"i{event.item % 23}"),
        hash64(f"e{event.event_id}") if event.event_id else 0,
        hash32(f"c{event.category % 5}") if event.category else 0,
        event.type,
        event.rating,
        amount_code(AMOUNTS[event.price]),
        amount_code(AMOUNTS[event.quantity]),
        tuple(text_tokens(words(event))),
    )
    return dataclasses.replace(record, value=made)


@dataclass
class Memory:
    """All that a worker does between fetch and publish, on a table in memory."""

    bundle: Bundle
    rules: Rules = field(default_factory=Rules)
    cache_users: int = 1000
    form: UpdateFormat = field(default_factory=UpdateFormat)

    def __post_init__(self) -> None:
        self.table: dict[int, dict[bytes, bytes]] = {}
        self.time: dict[int, int] = {}
        self.counts = Counts()
        self.steps = self.reruns = 0
        self.encoder: Encoder
        self.restart()

    def restart(self) -> None:
        """A new process on the same table: no state of the model is left."""
        self.encoder = Encoder(self.bundle, graph(self.bundle), self.cache_users)

    def put(self, *messages: Message, spoil: Sequence[bytes] = (), crash: bool = False) -> dict[int, PartitionResult]:
        """One batch. `spoil`: users whose vector comes out as NaN. `crash`: after publishing, before the write."""
        plan = batch.prepare(
            messages,
            dict(zip(TOPICS, SOURCES, strict=True)),
            lambda partition, keys: [self.table.get(partition, {}).get(key) for key in keys],
            self.time,
            WorkerRules(self.rules.max_events, self.rules.keep_events, self.rules.max_age_ms, self.rules.idle_ttl_ms),
        )
        call = self.encoder._call

        def spoiling(windows: Windows, users: NDArray[np.int64], *rest: Any) -> Any:
            vectors, states = call(windows, users, *rest)
            vectors[[plan.keys[user][1] in spoil for user in users.tolist()], 0] = np.nan
            return vectors, states

        with patch.object(self.encoder, "_call", spoiling):
            encoded = batch.encode(plan, self.encoder)
        results = batch.finish(plan, encoded, self.encoder, self.form)
        self.counts = plan.counts
        self.steps, self.reruns = encoded.steps, encoded.reruns
        if not crash:
            for partition, result in results.items():
                self.table.setdefault(partition, {}).update(result.values)
                self.time[partition] = result.partition_time
        return results

    def events(self, *fields: dict[str, Any], offset: int = 0) -> PartitionResult:
        """One batch of one partition: events of user A, unless told, one millisecond apart unless told."""
        return self.put(message(*fields, offset=offset))[0]


def message(*fields: dict[str, Any], topic: str = "web", partition: int = 0, offset: int = 0) -> Message:
    """Records at offsets from `offset` on."""
    records = []
    for number, told in enumerate(fields, start=offset):
        least = {"user_id": A.decode(), "type": "click", "item_id": "i1", "timestamp": TIME_ZERO_MS + number}
        value: dict[str, Any] = least | told
        records.append(Raw(json.dumps(value).encode(), value["user_id"].encode(), number))
    return Message(topic, partition, records)


def messages(stretch: Log, partition: int = 0) -> list[Message]:
    """A stretch of a partition's log as fetched records, a message for each run of one source."""
    made: list[Message] = []
    for record in stretch:
        topic = TOPICS[SOURCES.index(record.source)]
        if not made or made[-1].topic != topic:
            made.append(Message(topic, partition, []))
        list_of_records = made[-1].records
        assert isinstance(list_of_records, list)
        list_of_records.append(raw(record))
    return made


def bodies(result: PartitionResult) -> list[dict[str, Any] | None]:
    """The updates as JSON; None for a tombstone."""
    return [json.loads(value) if value is not None else None for _, value in result.updates]


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=st.data(),
    erases=st.booleans(),
    cache_users=st.sampled_from([1, 2, 3, 1000]),
)
def test_any_batches(bundle: Bundle, model: Model, data: st.DataObject, erases: bool, cache_users: int) -> None:
    """Each batch gives the values, updates and tombstones that the reference calls for; vectors within 1e-5 (P1, P2).

    Whatever is kept of the model's states, and wherever the worker was started anew.
    """
    bounds = data.draw(rules(idle=not erases))
    log = data.draw(logs(erases=erases, max_size=40))
    memory, reference = Memory(bundle, bounds, cache_users), Reference(bounds)

    restart_every = data.draw(st.sampled_from([1, 2, 1000]))

    for number, stretch in enumerate(data.draw(split(log))):
        if number % restart_every == 0:
            memory.restart()
        outcomes: dict[bytes, set[Outcome]] = {}
        for record in map(decoded, stretch):
            outcome = reference.accept(record.source, record.offset, record.time, record.key, record.value)
            outcomes.setdefault(record.key, set()).add(outcome)

        result = memory.put(*messages(stretch))[0]

        changed = {key for key, found in outcomes.items() if found & {"accepted", "erased"}}
        assert sorted(changed) == sorted(key for key, _ in result.values)
        for key, value in result.values:
            assert reference.shown(key) == read_value(value)

        touched = {key for key, found in outcomes.items() if found & {"accepted", "applied before"}}
        touched = {key for key in touched if reference.users[key].events}
        updates = {key: json.loads(value) for key, value in result.updates if value is not None}
        assert sorted(touched) == sorted(updates)
        assert len(updates) == sum(value is not None for _, value in result.updates)
        vectors = model.vectors([reference.users[key].events for key in sorted(touched)])
        for key, vector in zip(sorted(touched), vectors, strict=True):
            user, update = reference.users[key], updates[key]
            found = np.array(update.pop("vector"), np.float32)
            assert {
                "user_id": key.decode(),
                "version": user.version,
                "timestamp": user.events[-1].timestamp,
                "model": bundle.version,
                "events": len(user.events),
            } == update
            assert np.abs(found - vector).max() <= TOLERANCE

        forgotten = {
            key
            for key, found in outcomes.items()
            if "erased" in found or ("applied before" in found and not reference.users[key].events)
        }
        assert sorted(forgotten) == sorted(key for key, value in result.updates if value is None)


def test_advancing_is_one_step(bundle: Bundle, model: Model) -> None:
    """A growing window costs one step an event, a cut or a late event the whole window; the vector is the same (P1)."""
    memory = Memory(bundle)
    steps = []
    for number in range(120):
        late = number == 40
        result = memory.events({"timestamp": TIME_ZERO_MS + 1000 * number - (5500 if late else 0)}, offset=number)
        steps.append(memory.steps)
        window = read_value(result.values[0][1]).events
        (update,) = bodies(result)
        assert update is not None
        assert np.abs(np.array(update["vector"]) - model.vectors([window])[0]).max() <= TOLERANCE

    reruns = {number: taken for number, taken in enumerate(steps) if taken != 1}
    # The 51st event cuts to 25; then every 26 events.
    assert {40: 41, 50: 25, 76: 25, 102: 25} == reruns


@pytest.mark.parametrize("cache_users", [1, 2, 5, 12])
def test_few_kept_states(bundle: Bundle, model: Model, cache_users: int) -> None:
    """However few states are kept, no user ever goes on from another's (P1)."""
    memory = Memory(bundle, cache_users=cache_users)
    chance = np.random.default_rng(cache_users)
    offset = 0
    for _ in range(60):
        # Different numbers of new events, so that the model is called several times a batch.
        fields = [
            {
                "user_id": f"u{user}",
                "item_id": f"i{chance.integers(20)}",
                "timestamp": TIME_ZERO_MS + 1000 * (offset + n),
            }
            for user in chance.choice(12, size=chance.integers(1, 9), replace=False)
            for n in range(chance.choice([1, 1, 2, 5]))
        ]
        if chance.random() < 0.3:
            fields[-1]["timestamp"] = TIME_ZERO_MS
        result = memory.put(message(*fields, offset=offset))[0]
        offset += len(fields)
        updates = {key: json.loads(value or b"") for key, value in result.updates}
        keys = sorted(updates)
        whole = model.vectors([read_value(memory.table[0][key]).events for key in keys])
        for key, vector in zip(keys, whole, strict=True):
            assert np.abs(np.array(updates[key]["vector"]) - vector).max() <= TOLERANCE
    assert len(memory.encoder.cache) <= cache_users


def test_kept_state_makes_room_for_itself(bundle: Bundle, model: Model) -> None:
    """A full cache whose oldest state is that of a user who is run again, beside a new user (P1)."""
    memory = Memory(bundle, cache_users=2)
    memory.put(message({"user_id": "u0"}, {"user_id": "u1"}))
    memory.put(message({"user_id": "u1"}, offset=2))

    result = memory.put(
        message({"user_id": "u0", "timestamp": TIME_ZERO_MS - 1}, {"user_id": "u2"}, {"user_id": "u2"}, offset=3)
    )[0]

    windows = [read_value(value).events for _, value in result.values]
    found = [body["vector"] for body in bodies(result) if body is not None]
    assert [2, 2] == [len(window) for window in windows]
    assert np.abs(np.array(found) - model.vectors(windows)).max() <= TOLERANCE


def test_state_of_a_former_window(bundle: Bundle, model: Model) -> None:
    """A user erased and grown to the same version by another worker is run again, not gone on from what was (P1)."""
    here, elsewhere = Memory(bundle), Memory(bundle)
    elsewhere.table = here.table
    here.put(message({"user_id": "u0", "item_id": "i1"}, {"user_id": "u0", "item_id": "i2"}))
    elsewhere.put(message({"user_id": "u0", "type": "erase"}, offset=2))
    later = {"user_id": "u0", "timestamp": TIME_ZERO_MS + 1000}
    elsewhere.put(message({**later, "item_id": "i7"}, {**later, "item_id": "i8"}, offset=3))

    result = here.put(message({**later, "item_id": "i9"}, offset=5))[0]

    window = read_value(result.values[0][1]).events
    (update,) = bodies(result)
    assert update is not None
    assert [hash64(item) for item in ("i7", "i8", "i9")] == [event.item for event in window]
    assert np.abs(np.array(update["vector"]) - model.vectors([window])[0]).max() <= TOLERANCE


def test_one_event_one_update(bundle: Bundle) -> None:
    """One event gives one value and one update with the contract's fields; its vector has unit length (W08)."""
    result = Memory(bundle).events({})

    ((key, update),) = result.updates
    assert key == A
    body = json.loads(update or b"")
    assert ["user_id", "version", "timestamp", "model", "events", "vector"] == list(body)
    assert {"user_id": "u0", "version": 1, "timestamp": TIME_ZERO_MS, "events": 1}.items() <= body.items()
    assert len(body["vector"]) == bundle.dim
    assert np.linalg.norm(body["vector"]) == pytest.approx(1, abs=1e-5)
    assert [key for key, _ in result.values] == [A]
    assert [] == result.letters


def test_update_forms(bundle: Bundle) -> None:
    """`float32` is the same vector as little-endian bytes; categories are named, the nearest first."""
    plain = bodies(Memory(bundle).events({}))[0]
    small = bodies(Memory(bundle, form=UpdateFormat("float32", 2)).events({}))[0]
    assert plain is not None
    assert small is not None

    vector = np.frombuffer(b64decode(small.pop("vector_b64")), "<f4")
    cosines = {
        str(name): float(row @ vector)
        for name, row in zip(bundle.catalog.category_ids[1:], bundle.category_vectors[1:], strict=True)
    }
    nearest = sorted(cosines.items(), key=lambda pair: -pair[1])[:2]

    assert np.array(plain.pop("vector"), np.float32).tolist() == vector.tolist()
    named = small.pop("categories")
    assert [name for name, _ in nearest] == [name for name, _ in named]
    assert [cosine for _, cosine in nearest] == pytest.approx([cosine for _, cosine in named], abs=1e-4)
    assert plain == small


def test_refused_records(bundle: Bundle) -> None:
    """A refused record becomes a letter with its own key, value and headers, and blocks nothing (P5, D12, D13, D19)."""
    headers: Headers = [("trace", b"\xff"), ("empty", None)]
    bad = [
        Raw(b"hello", A, 11, headers=headers),
        Raw(None, A, 12),
        Raw(b"\xff", None, 13, headers=[("only", b"1")]),
        Raw(b'{"user_id":"u0","type":"click","item_id":"i1","timestamp":1716200000}', A, 14),
    ]
    good = message({}, {}).records
    records = [good[0], *bad, dataclasses.replace(good[1], offset=15)]  # type: ignore[type-var]
    memory = Memory(bundle)

    result = memory.put(Message("web", 3, records))[3]

    assert 2 == read_value(memory.table[3][A]).version
    assert [(record.key, record.value) for record in bad] == [(key, value) for key, value, _ in result.letters]
    letters = [dict(added[-3:]) for _, _, added in result.letters]
    assert [added[:-3] for _, _, added in result.letters] == [list(record.headers) for record in bad]
    assert [letter["interest-reason"] for letter in letters] == [
        b"not_json",
        b"empty",
        b"missing_key",
        b"timestamp_too_old",
    ]
    assert [b"web/3/%d" % record.offset for record in bad] == [letter["interest-source"] for letter in letters]
    assert all(letter["interest-detail"] for letter in letters)
    assert {Reason.NOT_JSON, Reason.EMPTY, Reason.MISSING_KEY, Reason.TIMESTAMP_TOO_OLD} == set(memory.counts.refused)
    assert (6, 2) == (memory.counts.records, memory.counts.accepted)


@pytest.mark.parametrize("users", [1, 2, 3, 100])
def test_parts_are_the_batch(users: int, bundle: Bundle) -> None:
    """A batch in parts calls for the same as whole: values, tombstones and letters with the first part (P2)."""
    fields: list[dict[str, Any]] = [{"user_id": f"u{n % 4}"} for n in range(9)]
    fields += [{"user_id": "u7", "type": "erase"}, {"type": "nothing"}]
    messages = [message(*fields, partition=partition) for partition in (0, 1)]
    encoder = Encoder(bundle, graph(bundle), 100)

    def plan() -> batch.Plan:
        return batch.prepare(messages, {"web": 1}, lambda _, keys: [None] * len(keys), {}, WorkerRules(50, 25, 9, 9))

    def finish(part: batch.Plan) -> dict[int, PartitionResult]:
        return batch.finish(part, batch.encode(part, encoder), encoder, UpdateFormat())

    whole = finish(plan())
    parts = batch.split(plan(), users)
    found = [finish(part) for part in parts]

    assert -(-8 // users) == len(parts)
    for partition, result in whole.items():
        assert (5, 5, 1) == (len(result.values), len(result.updates), len(result.letters))
        some = [part[partition] for part in found]
        assert (result.values, result.letters) == (some[0].values, some[0].letters)
        assert all(([], []) == (part.values, part.letters) for part in some[1:])
        updates = [(key, json.loads(update or b"{}")) for part in some for key, update in part.updates]
        for (_, update), expected in zip(updates, bodies(result), strict=True):
            assert (expected or {}).pop("vector", []) == pytest.approx(update.pop("vector", []), abs=TOLERANCE)
            assert (expected or {}) == update
        assert [key for key, _ in result.updates] == [key for key, _ in updates]


def test_detail_is_one_line_of_text(bundle: Bundle) -> None:
    """Whatever a record holds, its letter's detail is one line of UTF-8 that names the field."""
    result = Memory(bundle).events({"type": "a\nb\r\u2028\x85\x00c"})

    detail = dict(result.letters[0][2])["interest-detail"] or b""
    assert detail.decode().splitlines() == [detail.decode()]
    assert b"$.type" in detail


def test_nothing_but_refused(bundle: Bundle) -> None:
    """A batch without one good record calls no model and changes no state (I15)."""
    memory = Memory(bundle)

    result = memory.put(Message("web", 0, [Raw(b"hello")]), Message("web", 1, [Raw(b"")]))

    assert (0, 0) == (memory.steps, memory.reruns)
    for partition in (0, 1):
        assert ([], []) == (result[partition].values, result[partition].updates)
        assert 1 == len(result[partition].letters)


def test_vector_that_is_not_finite(bundle: Bundle, model: Model) -> None:
    """The window is kept, no update goes out, the user is named; the others go on, later the user too (P5, D01)."""
    memory = Memory(bundle)
    both = [{"user_id": user, "timestamp": TIME_ZERO_MS + n} for n, user in enumerate(("u0", "u2", "u0", "u2"))]

    result = memory.put(message(*both), spoil=[A])[0]

    assert [key for key, _ in result.updates] == [C]
    assert memory.counts.not_finite == [A]
    assert 2 == read_value(memory.table[0][A]).version
    assert all(b"null" not in (value or b"") for _, value in result.updates)

    result = memory.put(message({}, offset=4))[0]

    (update,) = bodies(result)
    assert update is not None
    window = read_value(memory.table[0][A]).events
    assert 3 == len(window)
    assert np.abs(np.array(update["vector"]) - model.vectors([window])[0]).max() <= TOLERANCE


def test_duplicates_and_late_events_give_nothing(bundle: Bundle) -> None:
    """Who has duplicates and late events only gets neither value nor update; they are counted (P3, P6)."""
    memory = Memory(bundle, Rules(max_events=2, keep_events=1))
    memory.events({"event_id": "x"}, {}, {"event_id": "y"})

    result = memory.events({"event_id": "y"}, {"timestamp": TIME_ZERO_MS}, offset=3)

    assert ([], []) == (result.values, result.updates)
    assert (1, 1, 0) == (memory.counts.duplicates, memory.counts.late, memory.counts.accepted)


def test_applied_before_is_published_again(bundle: Bundle) -> None:
    """A crash between changelog and update leaves the update to the redelivery: it comes, without a value (P3, P4)."""
    memory = Memory(bundle)
    first = memory.events({}, {})

    again = memory.events({}, {})

    assert [] == again.values
    assert [2] == [body and body["version"] for body in bodies(again)]
    assert 2 == memory.counts.applied_before
    assert [key for key, _ in again.updates] == [key for key, _ in first.updates]


def test_republish_record(bundle: Bundle) -> None:
    """Who is asked for gets the update once more, and nothing else changes; whom nobody knows, a tombstone."""
    memory = Memory(bundle)
    first = memory.events({}, {}, {"user_id": B.decode()})
    table = dict(memory.table[0])

    again = memory.put(message(*(order(user) for user in ("u0", "u0", "nobody")), offset=3))[0]

    assert {b"nobody": None, A: 2} == {
        key: body and body["version"] for (key, _), body in zip(again.updates, bodies(again), strict=True)
    }
    assert [json.loads(value) for key, value in first.updates if key == A and value] == [
        json.loads(value) for key, value in again.updates if value
    ]
    assert ([], table, 3, 0) == (again.values, memory.table[0], memory.counts.republished, memory.counts.accepted)


def test_republish_beside_events(bundle: Bundle) -> None:
    """Within a batch it adds nothing to an event's update, wherever it stands."""
    alone, beside = Memory(bundle), Memory(bundle)

    expected = alone.events({}, {})
    result = beside.put(message(order("u0"), {}, order("u0"), {"timestamp": TIME_ZERO_MS + 1}, order("u0")))[0]

    assert (
        [2]
        == [body and body["version"] for body in bodies(result)]
        == [body and body["version"] for body in bodies(expected)]
    )
    assert (1, 3) == (len(result.values), beside.counts.republished)


def order(user: str) -> dict[str, Any]:
    """The fields of a republish record; those of an event that are there besides mean nothing."""
    return {"type": "republish", "user_id": user}


def test_crash_before_the_write(bundle: Bundle) -> None:
    """A batch that was published but not written is published again, the same but for rounding (P2, L03)."""
    memory = Memory(bundle)
    fields = [{"user_id": user, "item_id": item} for user in ("u0", "u2") for item in ("i1", "i2")]
    first = memory.put(message(*fields), crash=True)[0]
    memory.restart()

    second = memory.put(message(*fields))[0]

    assert first.values == second.values
    assert [key for key, _ in first.updates] == [key for key, _ in second.updates]
    for one, other in zip(bodies(first), bodies(second), strict=True):
        assert one is not None
        assert other is not None
        assert one.pop("vector") == pytest.approx(other.pop("vector"), abs=TOLERANCE)
        assert one == other


def test_erased_user(bundle: Bundle) -> None:
    """An erase record leaves a marker and sends a tombstone; sent again after a crash, the tombstone comes again."""
    memory = Memory(bundle)
    memory.events({})
    erase = Message("web", 0, [Raw(b'{"type":"erase","user_id":"u0"}', A, 1)])

    for written in (1, 0):
        result = memory.put(erase)[0]
        assert result.updates == [(A, None)]
        assert written == len(result.values)

    marker = read_value(memory.table[0][A])
    assert (marker.events, marker.version, marker.floor) == ((), 0, TIME_ZERO_MS + 1000)

    result = memory.events({"timestamp": TIME_ZERO_MS + 999}, {"timestamp": TIME_ZERO_MS + 1000}, offset=2)
    assert [1] == [body and body["version"] for body in bodies(result)]
    assert 1 == memory.counts.late


def test_erased_and_back_in_one_batch(bundle: Bundle) -> None:
    """The tombstone goes before the update, so a consumer forgets what came before it."""
    records = [
        *message({}).records,
        Raw(b'{"type":"erase","user_id":"u0"}', A, 1),
        *message({"timestamp": TIME_ZERO_MS + 1000}, offset=2).records,
    ]

    result = Memory(bundle).put(Message("web", 0, records))[0]

    assert [None, 1] == [body and body["version"] for body in bodies(result)]
    assert 1 == len(result.values)


def test_one_user_on_two_partitions(bundle: Bundle) -> None:
    """A user whose events are on two partitions is two users, each with values and updates of its own (K02)."""
    memory = Memory(bundle)

    result = memory.put(message({}, {}, partition=1), message({"item_id": "i2"}, partition=2))

    assert (2, 1) == (read_value(memory.table[1][A]).version, read_value(memory.table[2][A]).version)
    one, other = bodies(result[1])[0], bodies(result[2])[0]
    assert one is not None
    assert other is not None
    assert np.abs(np.array(one["vector"]) - other["vector"]).max() > 1e-3


def test_topics_have_positions_of_their_own(bundle: Bundle) -> None:
    """Equal offsets on two topics are two events; each topic's redelivery is known as such (P3)."""
    memory = Memory(bundle)
    both = (message({}, topic="web"), message({"item_id": "i2"}, topic="shop"))

    memory.put(*both)
    again = memory.put(*both)[0]

    assert [] == again.values
    assert 2 == read_value(memory.table[0][A]).version
    assert dict.fromkeys(SOURCES[:2], 0) == dict(read_value(memory.table[0][A]).positions)


def test_unknown_things_have_a_vector(bundle: Bundle, model: Model) -> None:
    """An item, category and type that the bundle lacks are unknown; a known category still tells (K12)."""
    memory = Memory(bundle)
    fields: list[dict[str, Any]] = [
        {"user_id": "u0", "item_id": "never seen"},
        {"user_id": "u1", "item_id": "never seen", "category_id": "c1"},
        {"user_id": "u2", "item_id": "never seen", "category_id": "never seen", "type": "favorite"},
    ]

    result = memory.put(message(*fields))[0]

    found = [np.array(body["vector"]) for body in bodies(result) if body is not None]
    wanted = model.vectors([read_value(value).events for _, value in result.values])
    assert np.abs(np.array(found) - wanted).max() <= TOLERANCE
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_value_stays_small(bundle: Bundle) -> None:
    """A user with 100,000 events and long reviews has a value far below a request's limit; text is not stored (W07)."""
    memory = Memory(bundle)
    text = " ".join(f"word{number}" for number in range(1000))
    for start in range(0, 100_000, 20_000):
        memory.events(*({"type": "review", "text": text} if n % 100 == 0 else {} for n in range(20_000)), offset=start)
    memory.events(*({"type": "review", "text": text} for _ in range(51)), offset=100_000)

    value = memory.table[0][A]
    assert 100_051 == read_value(value).version
    assert b"word" not in value
    assert len(value) <= 20 + 16 + 50 * (32 + 1 + 4 * 64)


def test_all_in_one_batch_or_one_by_one(bundle: Bundle) -> None:
    """100 users of 1 to 60 events in one batch, and in small ones: the same values, vectors within 1e-5 (P2, I09)."""
    chance = np.random.default_rng(3)
    fields = [
        {"user_id": f"u{user}", "item_id": f"i{chance.integers(25)}", "timestamp": TIME_ZERO_MS + int(at)}
        for user in range(100)
        for at in np.sort(chance.integers(0, 10**9, size=chance.integers(1, 60)))
    ]
    chance.shuffle(fields)
    together, alone = Memory(bundle), Memory(bundle)

    whole = together.put(message(*fields))[0]
    last: dict[bytes, Any] = {}
    for start in range(0, len(fields), 7):
        last |= dict(alone.put(message(*fields[start : start + 7], offset=start))[0].updates)

    assert together.table == alone.table
    for key, value in whole.updates:
        one, other = json.loads(value or b""), json.loads(last[key])
        assert one.pop("vector") == pytest.approx(other.pop("vector"), abs=TOLERANCE)
        assert one == other


def test_dropped_batch_of_another_topic(bundle: Bundle, model: Model) -> None:
    """A dropped batch leaves no state to go on from, where another worker took another topic's event first (P1)."""
    here, there = Memory(bundle), Memory(bundle)
    here.put(message({}, topic="web"), message({}, topic="shop"))
    here.put(message({"item_id": "i5"}, topic="web", offset=1), crash=True)
    there.table, there.time = here.table, here.time
    there.put(message({"item_id": "i7"}, topic="shop", offset=1))

    result = here.put(message({"item_id": "i5"}, topic="web", offset=1))[0]

    (update,) = bodies(result)
    assert update is not None
    window = read_value(here.table[0][A]).events
    assert [hash64("i7"), hash64("i5")] == [event.item for event in window[2:]]
    assert np.abs(np.array(update["vector"]) - model.vectors([window])[0]).max() <= TOLERANCE
