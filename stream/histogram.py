"""Values counted by upper bounds, as Prometheus reads them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from prometheus_client.core import HistogramMetricFamily


class Histogram:
    """How many values lie up to each bound, and their sum; written by one thread, read by any."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = np.array(bounds, float)
        self._counts = np.zeros(len(bounds) + 1, np.int64)
        self._sum = 0.0

    def add(self, values: ArrayLike) -> None:
        """Count a value, or an array of them; one that is a bound lies up to it."""
        values = np.atleast_1d(np.asarray(values, float))
        places = np.searchsorted(self._bounds, values)
        self._counts += np.bincount(places, minlength=len(self._counts))
        self._sum += float(values.sum())

    def family(self, name: str, text: str) -> HistogramMetricFamily:
        """What Prometheus reads."""
        bounds = [*map(str, self._bounds.tolist()), "+Inf"]
        counts = np.cumsum(self._counts).tolist()
        return HistogramMetricFamily(name, text, buckets=list(zip(bounds, counts, strict=True)), sum_value=self._sum)
