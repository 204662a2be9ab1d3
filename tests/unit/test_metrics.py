"""What `/metrics` shows, read as Prometheus reads it."""

import time
from collections import Counter
from contextlib import suppress
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from faust.types import TP
from prometheus_client.parser import text_string_to_metric_families

from stream.batch import Counts
from stream.consumer import Fetched
from stream.contract import Reason
from stream.encode import Encoded
from stream.metrics import STEPS, UPDATE_SECONDS, Metrics, Totals
from stream.partitioning import Placement
from stream.progress import Phase, Progress, Reached


@pytest.fixture
def progress() -> Progress:
    """Of a worker that runs, 6 of 9 events done on one partition."""
    now = time.monotonic()
    progress = Progress(now)
    progress.enter(Phase.RUNNING, now)
    progress.reach({("events", 1): Reached(6, 9), ("events", 0): Reached(4, 4)}, now)
    return progress


def read(totals: Totals, progress: Progress) -> dict[str, float]:
    """All samples, each under its name with its labels as Prometheus writes them."""
    metrics = Metrics(totals, progress, 60.0, model="d0ad4ec3", provider="cpu")
    samples = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        assert family.documentation or not family.name.startswith("interest_"), family.name
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


def fetched(*stamps: int) -> Fetched:
    """Records that came to the broker at these times, ms."""
    records = [SimpleNamespace(timestamp=stamp) for stamp in stamps]
    return Fetched(TP("events", 0), cast(list, records), 0, len(records), 1)  # type: ignore[type-arg]


def batch() -> tuple[Counts, Encoded]:
    """What a batch has counted: every number another, so that none can stand for another."""
    counts = Counts()
    counts.records, counts.accepted, counts.late, counts.duplicates, counts.applied_before = 1000, 11, 12, 13, 14
    counts.texts_cut = 15
    counts.republished = 20
    counts.not_finite = [b"u1", b"u2", b"u3"]
    counts.refused = Counter({Reason.NOT_JSON: 4, Reason.MISSING_KEY: 1})
    encoded = Encoded(np.zeros((0, 2), np.float32), np.zeros(0, np.bool_), steps=16, advanced=17, reruns=18)
    return counts, encoded


def test_every_counter(progress: Progress) -> None:
    """Each counter of a batch shows under its own name, and adds up over batches."""
    totals = Totals()
    for _ in range(2):
        counts, encoded = batch()
        totals.add(counts, [encoded], 19)

    shown = read(totals, progress)

    assert {
        "interest_batches_total": 2,
        "interest_records_total": 2000,
        "interest_updates_total": 38,
        'interest_events_total{outcome="accepted"}': 22,
        'interest_events_total{outcome="late"}': 24,
        'interest_events_total{outcome="duplicate"}': 26,
        'interest_events_total{outcome="applied_before"}': 28,
        'interest_events_total{outcome="republished"}': 40,
        "interest_texts_cut_total": 30,
        "interest_unfit_vectors_total": 6,
        "interest_model_steps_total": 32,
        "interest_reruns_total": 36,
        'interest_refused_total{reason="not_json"}': 8,
        'interest_refused_total{reason="missing_key"}': 2,
    } == {name: value for name, value in shown.items() if name.startswith("interest_") and value and is_of_batch(name)}
    assert (34, 10) == (totals.advanced, totals.refused)


def is_of_batch(name: str) -> bool:
    """Whether it counts what batches hold."""
    return "_total" in name and "batch_seconds" not in name


@pytest.mark.parametrize(
    ("total", "name"),
    [
        ("dropped", "interest_dropped_batches_total"),
        ("swept", "interest_forgotten_users_total"),
        ("rewritten", "interest_rewritten_users_total"),
        ("retries", "interest_model_retries_total"),
        ("offsets_gone", "interest_offsets_gone_total"),
        ("users", "interest_users"),
        ("cached", "interest_cached_states"),
    ],
)
def test_every_total(total: str, name: str, progress: Progress) -> None:
    """What is counted beside batches shows under its own name, and nowhere else."""
    totals = Totals()
    before = read(totals, progress)
    setattr(totals, total, 7)

    after = read(totals, progress)

    changed = {key for key in after if key.startswith("interest_") and before[key] != after[key]}
    assert {name} == changed - {"interest_stalled_seconds"}
    assert 7 == after[name]


def test_every_reason(progress: Progress) -> None:
    """Every reason of a dead letter is there from the start, at 0: a rate needs a value before the first."""
    shown = read(Totals(), progress)

    assert {f'interest_refused_total{{reason="{reason}"}}': 0.0 for reason in Reason} == {
        name: value for name, value in shown.items() if name.startswith("interest_refused")
    }


def test_seconds_of_each_step(progress: Progress) -> None:
    """The time of each step of a batch is added, also of one that failed."""
    totals = Totals()
    for step in STEPS:
        with suppress(KeyError), totals.timed(step):
            time.sleep(0.001)
            raise KeyError

    shown = read(totals, progress)

    for step in STEPS:
        assert 0.001 <= shown[f'interest_batch_seconds_total{{step="{step}"}}']


def test_seconds_to_the_update(progress: Progress) -> None:
    """From arrival to update: a histogram that grows with its bounds, by the records' own times."""
    totals = Totals()
    totals.observe([fetched(1_000_000, 999_990), fetched(999_000, 0, 1_000_500)], 1_000_000.0)

    shown = read(totals, progress)

    # 0 and 0.01 s; 1 s, 1000 s, and one from a clock that is ahead of ours: 0 s.
    assert 2 == shown['interest_update_seconds_bucket{le="0.005"}']
    assert 3 == shown['interest_update_seconds_bucket{le="0.01"}']
    assert 3 == shown['interest_update_seconds_bucket{le="0.5"}']
    assert 4 == shown['interest_update_seconds_bucket{le="1.0"}']
    assert 4 == shown[f'interest_update_seconds_bucket{{le="{UPDATE_SECONDS[-1]}"}}']
    assert 5 == shown['interest_update_seconds_bucket{le="+Inf"}']
    assert 5 == shown["interest_update_seconds_count"]
    assert pytest.approx(1001.01) == shown["interest_update_seconds_sum"]


def test_progress_is_shown(progress: Progress) -> None:
    """Phase, readiness and each partition's position, end and lag."""
    shown = read(Totals(), progress)

    assert {str(phase): float(phase is Phase.RUNNING) for phase in Phase} == {
        str(phase): shown[f'interest_phase{{phase="{phase}"}}'] for phase in Phase
    }
    assert 1 == shown["interest_ready"]
    assert 0 <= shown["interest_stalled_seconds"] < 60
    for partition, done, end in ((0, 4, 4), (1, 6, 9)):
        at = f'{{partition="{partition}",topic="events"}}'
        assert (done, end, end - done) == tuple(shown[f"interest_{name}{at}"] for name in ("position", "end", "lag"))


def test_a_stall_is_shown() -> None:
    """A worker that stands still is not ready, and for how long."""
    progress = Progress(time.monotonic() - 500)

    shown = read(Totals(), progress)

    assert 0 == shown["interest_ready"]
    assert 500 <= shown["interest_stalled_seconds"]


def test_placed_users(progress: Progress) -> None:
    """By partition, who put its users there: more than one kind calls for an alert (K02)."""
    totals = Totals()
    totals.placements[2] = Placement(murmur2=5, crc32=6, both=7, neither=8)

    shown = read(totals, progress)

    assert {"murmur2": 5, "crc32": 6, "both": 7, "neither": 8} == {
        kind: shown[f'interest_placed_users_total{{partition="2",partitioner="{kind}"}}'] for kind in Placement._fields
    }


def test_model_and_process(progress: Progress) -> None:
    """Which model is served, and what the process itself takes: memory must be seen to be bounded."""
    shown = read(Totals(), progress)

    assert 1 == shown['interest_model_info{provider="cpu",version="d0ad4ec3"}']
    assert 0 < shown["process_resident_memory_bytes"]


def test_two_workers_of_a_process(progress: Progress) -> None:
    """Nothing is shared between two: each has a registry of its own."""
    one, two = Totals(), Totals()
    one.batches = 3

    assert (3, 0) == (read(one, progress)["interest_batches_total"], read(two, progress)["interest_batches_total"])
