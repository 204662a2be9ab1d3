"""What the benchmarks of scaling and of the GPU compute and show, apart from what they measure."""

from pathlib import Path

import numpy as np
import pytest

from models import bundle as bundles
from stream.errors import BundleError
from stream.partitioning import murmur2
from tests.benchmarks import encoder, gpu, scaling, synthetic


def test_ten_million_users_cost_the_last_step_once_more() -> None:
    """20 and 30 µs for 100,000 and 1,000,000 users: 40 for 10,000,000; cheaper ones are taken as level."""
    rows = [
        {"users": 100_000, "events_a_second": 50_000, "cpu_us_an_event": 15.0},
        {"users": 1_000_000, "events_a_second": 1e6 / 30, "cpu_us_an_event": 12.0},
    ]
    found = scaling.extrapolate(rows)
    assert 10_000_000 == found["users"]
    assert pytest.approx(25_000) == found["events_a_second"]
    assert 12.0 == found["cpu_us_an_event"]


def test_tables_have_one_width() -> None:
    """Each line of a table has as many columns as its head, also those of what was not measured."""
    row = {"users": 10, "events_a_second": 1_000.4, "cpu_us_an_event": 9.96, "updates_an_event": 0.5}
    lines = scaling.show(
        {
            "rows": {"users": [row]},
            "extrapolated": {"users": 10_000_000, "events_a_second": 900.0, "cpu_us_an_event": 11.0},
            "threads": [{"hidden": 128, "threads_1": 3.0, "threads_2": 5.0}],
        }
    )
    assert "| users | 10 | 1,000 | 10.0 | 0.50 |" == lines[2]
    assert "| users, extrapolated | 10,000,000 | 900 | 11.0 |  |" == lines[3]
    assert {6} == {line.count("|") for line in lines}
    table = gpu.show(
        {
            "device": "a GPU",
            "providers": ["cpu", "cuda"],
            "encoder": [{"hidden": 128, "steps": 1, "users": 64, "cpu": None, "cuda": 1e6}],
            "worker": [
                {"hidden": 128, "provider": "cuda", "events_a_second": 5e4, "cpu_us_an_event": 12.0}
                | {"p50_ms": 3.2, "p99_ms": 9.9}
            ],
        }
    )
    assert "| 128 | 1 | 64 | – | 1,000,000 |" == table[4]
    assert "| 128 | cuda | 50,000 | 12.0 | 3, 10 |" == table[-1]


def test_cuda_is_there_or_refused_in_one_line(tmp_path: Path) -> None:
    """What the benchmark reports where it cannot measure is what a worker says."""
    bundle = synthetic.bundle(tmp_path / "bundle", 8)
    reason = gpu.refusal(bundle)
    if reason is None:
        assert "CUDAExecutionProvider" == bundles.session(bundle, provider="cuda").get_providers()[0]
    else:
        assert "\n" not in reason
        with pytest.raises(BundleError, match=r"^provider cuda expected, but .* or run with provider cpu$"):
            bundles.session(bundle, provider="cuda")


def test_the_model_alone_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every input of the model gets the shape that it wants."""
    monkeypatch.setattr(encoder, "SECONDS", 0.0)
    bundle = synthetic.bundle(tmp_path / "bundle", 8)
    assert encoder.users_a_second(bundle, bundles.session(bundle), users=3, steps=2) > 0


def test_calls_that_take_too_much_are_left_out() -> None:
    """Whole windows of the largest model: few on a CPU, thousands on a GPU, never beyond its memory."""
    assert gpu.fits("cpu", 128, 512, 50)
    assert not gpu.fits("cpu", 2048, 64, 50)
    assert gpu.fits("cuda", 1024, 4096, 50)
    assert not gpu.fits("cuda", 2048, 8192, 50)


def test_the_load_is_what_java_would_send() -> None:
    """Keys, partitions and times: one event a user in turn, one a millisecond, on the partition that murmur2 says."""
    events = list(synthetic._events(np.array([7, 12, 7]), 4, 1_000))
    assert [b"u7", b"u12", b"u7"] == [key for key, _, _ in events]
    many = [(key, at) for key, at, _ in synthetic._events(np.arange(50), 4, 0)]
    assert [int(h & np.uint32(0x7FFFFFFF)) % 4 for h in murmur2([key for key, _ in many])] == [at for _, at in many]
    assert [b'"timestamp":100%d}' % n for n in range(3)] == [value[-17:] for _, _, value in events]
    assert [0, 1, 0, 1] == synthetic.each(2, 2).tolist()
    assert synthetic.drawn(5, 100, seed=1).tolist() == synthetic.drawn(5, 100, seed=1).tolist()
