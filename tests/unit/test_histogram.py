"""Values counted by bounds."""

import pytest

from stream.histogram import Histogram


def test_counts_and_sum() -> None:
    """A value lies up to the first bound that is not below it; counts are of all up to a bound, as Prometheus wants."""
    histogram = Histogram((1, 2.5))
    histogram.add(1)
    histogram.add([0.5, 1.5, 2.5, 7.25])
    histogram.add([])

    family = histogram.family("size", "How large.")

    shown = [(sample.name, sample.labels, sample.value) for sample in family.samples]
    assert [
        ("size_bucket", {"le": "1.0"}, 2),
        ("size_bucket", {"le": "2.5"}, 4),
        ("size_bucket", {"le": "+Inf"}, 5),
        ("size_count", {}, 5),
        ("size_sum", {}, pytest.approx(12.75)),
    ] == shown
