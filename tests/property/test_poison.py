"""Anything at all as a record: refused with the right reason or accepted by the contract, and it disturbs no other."""

import os
from collections import Counter
from collections.abc import Sequence
from itertools import count

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream import batch, window
from stream.batch import Message
from stream.contract import Reason
from stream.decode import Decoded, decode
from stream.rules import Rules as WorkerRules
from tests.judge import Verdict, judge
from tests.poison import NOW_MS, Maker, Raw
from tests.reference import Erase, Event, Reference, Rules, read_value

#: Another seed makes other records: POISON_SEED=7 pytest tests/property/test_poison.py
SEED = int(os.environ.get("POISON_SEED", "0"))
RECORDS = 1_000_000
BATCH = 2_000
#: Each good event has so many others before it, on average.
OTHERS = 8

EVENT = b'{"user_id":"u1","type":"review","item_id":"i1","timestamp":1759999999000,"price":1.5,"text":"good"}'


def test_a_million() -> None:
    """1,000,000 changed and random records between good ones: each judged right, nothing raises (P5, D02, D05, D19).

    The judge is tests/judge.py; a reason of its own, where it leaves no choice, must be the very one.
    """
    maker, found = Maker(SEED), Counter[str]()
    made = 0
    while made < RECORDS:
        records = []
        for offset in range(BATCH):
            if offset % (OTHERS + 1) == OTHERS:
                records.append(Raw(*maker.good(), offset))
            else:
                records.append(Raw(*maker.poison(), offset))
                made += 1
        verdicts = [judge(record.key, record.value, record.timestamp) for record in records]
        assert all(verdict.value for verdict in verdicts[OTHERS :: OTHERS + 1])
        found += compare(records, verdicts, decode(records))

    assert set(Reason) <= found.keys(), "the records do not reach every reason"
    assert min(found.values()) > RECORDS / 10_000, found
    assert 0.05 * RECORDS < found["accepted"] - made / OTHERS < 0.6 * RECORDS


def compare(records: Sequence[Raw], verdicts: Sequence[Verdict], decoded: Decoded) -> Counter[str]:
    """Each record's fate is the verdict's, and what is accepted is exact; how many there were of each."""
    found = Counter(one.reason.value for one in decoded.refused)
    refused = {one.record.offset: one for one in decoded.refused}
    rows = zip(decoded.keys, decoded.events.tolist(), decoded.erase.tolist(), decoded.text_row.tolist(), strict=True)
    accepted = dict(zip(decoded.offset.tolist(), rows, strict=True))
    assert sorted(accepted) == list(accepted)
    assert len(records) == len(accepted) + len(refused)
    for record, verdict in zip(records, verdicts, strict=True):
        one = refused.get(record.offset)
        where = (SEED, record.key, (record.value or b"")[:400], verdict)
        if one is not None:
            assert one.reason in verdict.reasons, (one.reason, one.detail, *where)
            assert record is one.record
            continue
        assert not verdict.reasons, where
        key, row, erase, text_row = accepted[record.offset]
        assert record.key == key, where
        if erase:
            assert isinstance(verdict.value, Erase), where
            assert record.timestamp == row[0]
        else:
            tokens = () if text_row < 0 else tuple(token for token in decoded.tokens[text_row].tolist() if token)
            time, item, event_id, category, kind, rating, price, quantity = row
            assert Event(time, item, event_id, category, kind, rating, price, quantity, tokens) == verdict.value, where
    found["accepted"] = len(accepted)
    return found


@settings(max_examples=500, deadline=None)
@given(
    value=st.one_of(
        st.none(),
        st.binary(max_size=60),
        st.text(max_size=40).map(lambda text: text.encode(errors="surrogatepass")),
        st.tuples(st.integers(0, len(EVENT)), st.integers(0, len(EVENT)), st.binary(max_size=4)).map(
            lambda change: EVENT[: change[0]] + change[2] + EVENT[change[1] :]
        ),
    ),
    key=st.sampled_from([b"u1", b"u1", b"u1", b"u2", b"\xff", b"", None]),
    record_time_ms=st.sampled_from([NOW_MS, NOW_MS - 10**9, -1]),
)
@example(value=EVENT, key=b"u1", record_time_ms=NOW_MS)
def test_small_changes(value: bytes | None, key: bytes | None, record_time_ms: int) -> None:
    """The same for any bytes and any one change of an event, so that what fails is told in little (P5, D05, D19)."""
    records = [Raw(key, value, 0, record_time_ms), Raw(b"u1", EVENT, 1)]

    compare(records, [judge(*record[:2], record.timestamp) for record in records], decode(records))


@pytest.mark.parametrize("number", range(3))
def test_around_a_batch(number: int) -> None:
    """Whole batches of two partitions: windows are those of the events alone, each other record gets its letter (P5).

    A letter holds the record as it was, its own headers first, a reason that the judge allows, one line of detail, and
    where the record came from (D12, D13).
    """
    maker, offsets = Maker(SEED + 1 + number), count()
    headers: tuple[tuple[str, bytes | None], ...] = (("trace", b"\xff"), ("empty", None), ("", b""))
    table: dict[int, dict[bytes, bytes]] = {0: {}, 1: {}}
    time: dict[int, int] = {}
    bounds = Rules()
    rules = WorkerRules(bounds.max_events, bounds.keep_events, bounds.max_age_ms, bounds.idle_ttl_ms)
    references = {partition: Reference(bounds) for partition in table}
    for _ in range(10):
        messages, letters = [], {}
        wanted: dict[bytes, tuple[Raw, frozenset[str]]] = {}
        for partition, reference in references.items():
            made = [maker.good() if n % 3 == 0 else maker.poison() for n in range(300)]
            records = [Raw(*one, next(offsets), headers=headers[: n % 4]) for n, one in enumerate(made)]
            messages.append(Message("web", partition, records))
            for record in records:
                verdict = judge(record.key, record.value, record.timestamp)
                if verdict.value is None:
                    wanted[b"web/%d/%d" % (partition, record.offset)] = record, verdict.reasons
                else:
                    reference.accept(7, record.offset, record.timestamp, record.key or b"", verdict.value)

        plan = batch.prepare(messages, {"web": 7}, lambda p, keys: [table[p].get(key) for key in keys], time, rules)

        changed = np.flatnonzero(plan.applied.accepted)
        for user, value in zip(changed.tolist(), window.dump(plan.applied.windows, changed), strict=True):
            partition, name = plan.keys[user]
            table[partition][name] = value
        time = {partition: result.partition_time for partition, result in plan.results.items()}
        for result in plan.results.values():
            for key, body, added in result.letters:
                own, (reason, detail, source) = added[:-3], added[-3:]
                assert ["interest-reason", "interest-detail", "interest-source"] == [reason[0], detail[0], source[0]]
                letters[source[1]] = (key, body, tuple(own))
                assert (reason[1] or b"").decode() in wanted[source[1] or b""][1]
                line = (detail[1] or b"").decode()
                assert [line] == line.splitlines()
        assert {source: (record.key, record.value, record.headers) for source, (record, _) in wanted.items()} == letters

    for partition, reference in references.items():
        assert len(table[partition]) > 30
        assert {key: reference.shown(key) for key in reference.users} == {
            key: read_value(value) for key, value in table[partition].items()
        }
