"""Counters of a worker, and how Prometheus reads them."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from stream.contract import Reason
from stream.partitioning import Placement
from stream.progress import Phase, Progress

if TYPE_CHECKING:
    from stream.batch import Counts
    from stream.consumer import Fetched
    from stream.encode import Encoded

STEPS = ("take", "prepare", "encode", "publish", "write")
#: Upper bounds of the histogram from an event's arrival at the broker to its update, seconds.
UPDATE_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_BOUNDS_MS = np.array(UPDATE_SECONDS) * 1000


class Totals:
    """Counters since the start, written by the event loop."""

    def __init__(self) -> None:
        self.batches = self.records = self.accepted = self.updates = self.refused = 0
        self.late = self.duplicates = self.applied_before = self.republished = self.not_finite = self.texts_cut = 0
        self.steps = self.advanced = self.reruns = self.retries = 0
        self.dropped = self.swept = self.rewritten = 0
        #: As seen a moment ago; users are an estimate where they are on disk.
        self.users = self.cached = self.offsets_gone = 0
        self.reasons: Counter[Reason] = Counter()
        self.seconds = dict.fromkeys(STEPS, 0.0)
        self.placements: dict[int, Placement] = {}
        self.update_buckets = np.zeros(len(UPDATE_SECONDS) + 1, np.int64)
        self.update_seconds = 0.0

    def add(self, counts: "Counts", encoded: Iterable["Encoded"], updates: int) -> None:
        """Count a batch that is done; `encoded` is of its parts."""
        self.batches += 1
        self.records += counts.records
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

    def observe(self, fetched: Iterable["Fetched"], now_ms: float) -> None:
        """Note how long ago the records of a batch that is done came to the broker."""
        for one in fetched:
            stamps = np.fromiter((record.timestamp for record in one.records), np.int64, len(one.records))
            ages_ms = np.maximum(now_ms - stamps, 0)
            places = np.searchsorted(_BOUNDS_MS, ages_ms)
            self.update_buckets += np.bincount(places, minlength=len(self.update_buckets))
            self.update_seconds += float(ages_ms.sum()) / 1000

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

    def __init__(self, totals: Totals, progress: Progress, stall_s: float, model: str, provider: str) -> None:
        self._totals = totals
        self._progress = progress
        self._stall_s = stall_s
        self._model = {"version": model, "provider": provider}
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
        yield from self._counters()
        yield from self._progressing()
        yield _gauge("interest_users", "Users held; an estimate where they are on disk.", self._totals.users)
        yield _gauge("interest_cached_states", "Users whose model state is in memory.", self._totals.cached)
        model = GaugeMetricFamily("interest_model_info", "The model served.", labels=list(self._model))
        model.add_metric(list(self._model.values()), 1)
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
            ("offsets_gone", "Offsets gone from the log before they were read.", t.offsets_gone),
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
        yield _counters("interest_batch_seconds", "Seconds in each step of a batch.", "step", t.seconds)
        placed = CounterMetricFamily(
            "interest_placed_users",
            "New users by who put them on their partition.",
            labels=["partition", "partitioner"],
        )
        for partition, placement in sorted(t.placements.items()):
            for kind, count in zip(Placement._fields, placement, strict=True):
                placed.add_metric([str(partition), kind], count)
        yield placed
        summed = np.cumsum(t.update_buckets).tolist()
        bounds = [*map(str, UPDATE_SECONDS), "+Inf"]
        yield HistogramMetricFamily(
            "interest_update_seconds",
            "From an event's arrival at the broker to its update.",
            buckets=list(zip(bounds, summed, strict=True)),
            sum_value=t.update_seconds,
        )

    def _progressing(self) -> Iterator[Metric]:
        status = self._progress.status(time.monotonic(), self._stall_s)
        phase = GaugeMetricFamily("interest_phase", "1 for what the worker is about.", labels=["phase"])
        for one in Phase:
            phase.add_metric([str(one)], one is status.phase)
        yield phase
        yield _gauge("interest_ready", "Whether /readyz is green.", status.ready)
        yield _gauge("interest_stalled_seconds", "For so long nothing has moved that should have.", status.stalled_s)
        labels = ["topic", "partition"]
        position = GaugeMetricFamily("interest_position", "Next offset to be worked on.", labels=labels)
        end = GaugeMetricFamily("interest_end", "The broker's end of the partition.", labels=labels)
        lag = GaugeMetricFamily("interest_lag", "Offsets from the position to the end.", labels=labels)
        for (topic, partition), reached in sorted(self._progress.reached().items()):
            at = [topic, str(partition)]
            position.add_metric(at, reached.done)
            end.add_metric(at, reached.end)
            lag.add_metric(at, max(0, reached.end - reached.done))
        yield from (position, end, lag)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)


def _counters(name: str, text: str, label: str, values: dict[str, int] | dict[str, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
