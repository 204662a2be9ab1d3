"""The benchmark's loads, and that README and plot are of the results that are kept."""

from itertools import pairwise

import numpy as np

from tests.benchmarks import compare, plot, results, workloads
from tests.benchmarks.load import Event

COMPARED = {
    "workloads": {
        "short": {
            "what": "some",
            "systems": {
                "worker": {"events": 1000, "seconds": 1.0, "events_a_second": 1000, "cpu_us": 10.0},
                "loop": {"events": 1000, "seconds": 0.5, "events_a_second": 2000, "cpu_us": 5.0},
            },
        }
    }
}


def _by_user(events: list[Event]) -> dict[str, list[int]]:
    times: dict[str, list[int]] = {}
    for event in events:
        stamp = event["timestamp"]
        assert isinstance(stamp, int)
        times.setdefault(str(event["user_id"]), []).append(stamp)
    return times


def test_events_are_the_same_each_time_and_each_users_are_in_time_order() -> None:
    """Whoever is measured gets the same events, none of them late."""
    for name in workloads.available():
        events = list(workloads.find(name).events(2_000))

        assert events == list(workloads.find(name).events(2_000))
        assert all(before <= after for times in _by_user(events).values() for before, after in pairwise(times))


def test_half_of_hot_is_of_few_users() -> None:
    """One user in a hundred has half of the events."""
    sizes = sorted((len(times) for times in _by_user(list(workloads.hot(20_000))).values()), reverse=True)

    assert 0.48 < sum(sizes[: workloads.HOT_USERS // 100]) / 20_000 < 0.56


def test_a_part_of_slow_holds_whole_histories_that_age_and_never_fill_a_window() -> None:
    """Three months of each user, at most 50 events in any 30 days."""
    for times in _by_user(list(workloads.slow(2_000))).values():
        stamps = np.array(times)
        assert stamps[-1] - stamps[0] > 80 * workloads.DAY_MS
        within = np.searchsorted(stamps, stamps + 30 * workloads.DAY_MS, side="right") - np.arange(len(stamps))
        assert within.max() <= 50


def test_a_table_says_how_many_times_faster_the_worker_is() -> None:
    """The ratio is the worker's over the other's."""
    assert {"loop": 0.5} == compare.ratios(COMPARED)
    assert "| short | loop | 2,000 | × 0.50 | 5.0 | 1,000 |" == compare.show(COMPARED)[-1]


def test_blocks_of_a_text_are_made_anew_and_the_rest_stays() -> None:
    """Only what stands between the markers changes; once more changes nothing."""
    kept: results.Results = {"compare": {"result": COMPARED}}
    text = results.render("before\n<!-- bench:compare -->\nold\n<!-- /bench -->\nafter\n", kept)

    assert "old" not in text
    assert text.startswith("before\n<!-- bench:compare -->\n\n| workload |")
    assert text.endswith("\n\n<!-- /bench -->\nafter\n")
    assert text == results.render(text, kept)


def test_readme_and_plot_are_of_the_results_that_are_kept() -> None:
    """A figure in the README that results.json does not hold is a failure: `python -m tests.benchmarks --readme`."""
    kept = results.load()
    readme = results.README.read_text()

    assert readme == results.render(readme, kept)
    assert results.PLOT.is_file() == ("compare" in kept)
    if "compare" in kept:
        assert plot.data(kept["compare"]["result"]) == plot.data_in(results.PLOT.read_text())
