"""Counters of a worker, and how Prometheus reads them."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stream.contract import Reason
from stream.histogram import Histogram
from stream.partitioning import Placement
from stream.progress import Partition, Phase, Progress, Reached

if TYPE_CHECKING:
    from stream.batch import Counts
    from stream.consumer import Fetched
    from stream.encode import Encoded

PARTITION = ("topic", "partition")
STEPS = ("take", "prepare", "encode", "publish", "write")
#: Upper bounds of the histogram from an event's arrival at the broker to its update, seconds.
UPDATE_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
BATCH_RECORDS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000)
LOOP_LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Totals:
    """Counters since the start, written by the event loop."""

    def __init__(self) -> None:
        self.batches = self.records = self.accepted = self.updates = self.refused = 0
        self.late = self.duplicates = self.applied_before = self.republished = self.not_finite = self.texts_cut = 0
        self.steps = self.advanced = self.reruns = self.missed = self.retries = 0
        self.model_swaps = self.models_refused = self.model_checks_failed = 0
        self.shadow_updates = self.shadow_failures = 0
        self.models: dict[str, str] = {}  # role -> version
        self.partitions: dict[str, int] = {}  # of each event topic
        self.unknown_items = self.dropped = self.swept = self.rewritten = 0
        #: As seen a moment ago; users are an estimate where they are on disk.
        self.users = self.cached = self.offsets_gone = self.recovered = 0
        self.reasons: Counter[Reason] = Counter()
        self.seconds = dict.fromkeys(STEPS, 0.0)
        self.placements: dict[int, Placement] = {}
        self.last_batch_s = 0.0  # when the last batch was done, since the epoch
        self.update_seconds = Histogram(UPDATE_SECONDS)
        self.batch_records = Histogram(BATCH_RECORDS)
        self.loop_lag = Histogram(LOOP_LAG_SECONDS)

    def add(self, counts: "Counts", encoded: Iterable["Encoded"], updates: int) -> None:
        """Count a batch that is done; `encoded` is of its parts."""
        self.batches += 1
        self.records += counts.records
        self.batch_records.add(counts.records)
        self.accepted += counts.accepted
        self.updates += updates
        self.refused += counts.refused.total()
        self.reasons += counts.refused
        self.late += counts.late
        self.duplicates += counts.duplicates
        self.applied_before += counts.applied_before
        self.republished += counts.republished
        self.not_finite += len(counts.not_finite)
        self.texts_cut += counts.texts_cut
        for part in encoded:
            self.steps += part.steps
            self.advanced += part.advanced
            self.reruns += part.reruns
            self.missed += part.missed
            self.unknown_items += part.unknown

    def observe(self, fetched: Iterable["Fetched"], now_ms: float) -> None:
        """Note that a batch is done, and how long ago its records came to the broker."""
        self.last_batch_s = now_ms / 1000
        for one in fetched:
            stamps = np.fromiter((record.timestamp for record in one.records), np.int64, len(one.records))
            self.update_seconds.add(np.maximum(now_ms - stamps, 0) / 1000)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the time of the block to a step of the batch."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += time.perf_counter() - began


class Metrics(Collector):
    """What `/metrics` shows."""

    def __init__(self, totals: Totals, progress: Progress, stall_s: float, provider: str) -> None:
        self._totals = totals
        self._progress = progress
        self._stall_s = stall_s
        self._provider = provider
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Nothing to check names against: the registry is this collector's own."""
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._progressing()
        yield from self._counters()
        yield from _histograms(self._totals)
        yield from _gauges(self._totals)
        labels = ["version", "provider", "role"]
        model = GaugeMetricFamily(
            "interest_model_info", "The models: what serves, what runs in its shadow.", labels=labels
        )
        for role, version in self._totals.models.items():
            model.add_metric([version, self._provider, role], 1)
        yield model

    def _counters(self) -> Iterator[Metric]:
        t = self._totals
        for name, text, value in (
            ("records", "Records of event topics worked on.", t.records),
            ("updates", "Updates published, tombstones too.", t.updates),
            ("batches", "Batches done.", t.batches),
            ("unfit_vectors", "Vectors that were not finite or of unit length, and not published.", t.not_finite),
            ("texts_cut", "Reviews whose text was cut.", t.texts_cut),
            ("forgotten_users", "Users idle for too long, forgotten by the sweep.", t.swept),
            ("dropped_batches", "Batches dropped since their partitions may be another worker's.", t.dropped),
            ("rewritten_users", "Users written again behind a worker that had lost its partitions.", t.rewritten),
            ("model_retries", "Calls of the model that failed and were tried again.", t.retries),
            ("model_steps", "Steps that the model ran.", t.steps),
            ("reruns", "Windows run from their beginning.", t.reruns),
            ("model_swaps", "Models that took over while the worker ran.", t.model_swaps),
            ("models_refused", "New models that were refused, the one before serves on.", t.models_refused),
            ("model_checks_failed", "Looks for a new model that found its place out of reach.", t.model_checks_failed),
            ("shadow_updates", "Updates of the shadow model, tombstones too.", t.shadow_updates),
            ("shadow_failures", "Calls of the shadow model that failed, and its vectors not fit.", t.shadow_failures),
            ("unknown_items", "Accepted events whose item the catalog does not know.", t.unknown_items),
            ("offsets_gone", "Offsets gone from the log before they were read.", t.offsets_gone),
            ("recovered_records", "Changelog records read by recovery and standby.", t.recovered),
        ):
            yield CounterMetricFamily(f"interest_{name}", text, value)
        yield _counters(
            "interest_events",
            "Events, erase and republish records by what became of them.",
            "outcome",
            {
                "accepted": t.accepted,
                "late": t.late,
                "duplicate": t.duplicates,
                "applied_before": t.applied_before,
                "republished": t.republished,
            },
        )
        reasons = {str(reason): t.reasons[reason] for reason in Reason}
        yield _counters("interest_refused", "Records refused, by reason.", "reason", reasons)
        lookups = {"hit": t.advanced, "miss": t.missed}
        text = "Users whose window only grew, by whether the state to go on from was kept."
        yield _counters("interest_state_lookups", text, "result", lookups)
        yield _counters("interest_batch_seconds", "Seconds in each step of a batch.", "step", t.seconds)
        placed = CounterMetricFamily(
            "interest_placed_users",
            "New users by who put them on their partition.",
            labels=["partition", "partitioner"],
        )
        # Of partitions that this worker has from 0 on: a rate needs a value before the first.
        here = dict.fromkeys((partition for _, partition in self._progress.reached()), Placement())
        for partition, placement in sorted((here | t.placements).items()):
            for kind, count in zip(Placement._fields, placement, strict=True):
                placed.add_metric([str(partition), kind], count)
        yield placed

    def _progressing(self) -> Iterator[Metric]:
        status = self._progress.status(time.monotonic(), self._stall_s)
        phase = GaugeMetricFamily("interest_phase", "1 for what the worker is about.", labels=["phase"])
        for one in Phase:
            phase.add_metric([str(one)], one is status.phase)
        yield phase
        yield _gauge("interest_ready", "Whether /readyz is green.", status.ready)
        yield _gauge("interest_stalled_seconds", "For so long nothing has moved that should have.", status.stalled_s)
        reached, recovered = self._progress.reached(), self._progress.recovered()
        # While it recovers, what it has reached is the changelog's.
        events = {partition: at for partition, at in reached.items() if partition not in recovered}
        yield from _offsets("interest_{}", events, "Next offset to be worked on.", "The broker's end of the partition.")
        lag = GaugeMetricFamily("interest_lag", "Offsets from the position to the end.", labels=PARTITION)
        for (topic, partition), at in sorted(events.items()):
            lag.add_metric([topic, str(partition)], max(0, at.end - at.done))
        yield lag
        yield from _offsets(
            "interest_recovery_{}",
            recovered,
            "Next changelog offset to be recovered, of the recovery that is on or was last.",
            "Where that recovery ends.",
        )


def _offsets(name: str, reached: Mapping[Partition, Reached], position_text: str, end_text: str) -> Iterator[Metric]:
    position = GaugeMetricFamily(name.format("position"), position_text, labels=PARTITION)
    end = GaugeMetricFamily(name.format("end"), end_text, labels=PARTITION)
    for (topic, partition), at in sorted(reached.items()):
        position.add_metric([topic, str(partition)], at.done)
        end.add_metric([topic, str(partition)], at.end)
    yield from (position, end)


def _histograms(t: Totals) -> Iterator[Metric]:
    yield t.update_seconds.family("interest_update_seconds", "From an event's arrival at the broker to its update.")
    yield t.batch_records.family("interest_batch_records", "Records in a batch.")
    yield t.loop_lag.family("interest_loop_lag_seconds", "How late the event loop woke, looked at twice a second.")


def _gauges(t: Totals) -> Iterator[Metric]:
    yield _gauge("interest_users", "Users held; an estimate where they are on disk.", t.users)
    yield _gauge("interest_cached_states", "Users whose model state is in memory.", t.cached)
    partitions = GaugeMetricFamily("interest_partitions", "Partitions of an event topic.", labels=["topic"])
    for topic, count in t.partitions.items():
        partitions.add_metric([topic], count)
    yield partitions
    text = "When the last batch was done, since the epoch; 0: none yet."
    yield _gauge("interest_last_batch_timestamp_seconds", text, t.last_batch_s)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)


def _counters(name: str, text: str, label: str, values: dict[str, int] | dict[str, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
