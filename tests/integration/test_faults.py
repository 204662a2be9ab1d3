"""Every fault of processes, broker and network while a load runs: nothing lost, nothing counted twice, and it goes on.

The outcome is compared with the rules applied to the event topic itself. `make faults` prints what each fault costs;
`make soak` does them all to one fleet.
"""

from collections.abc import Iterator

import pytest

from tests.faults.scenarios import SHORT_FORM
from tests.faults.stage import Ground, open_ground, run

#: Of a worker, at any time: it starts with 140 MiB.
MEMORY_MAX_BYTES = 400 << 20


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """One broker that is killed and stopped, apart from that of the other tests, and one model."""
    with open_ground(tmp_path_factory.mktemp("faults")) as ground:
        yield ground


@pytest.mark.parametrize("fault", SHORT_FORM)
def test_exact_and_goes_on(fault: str, ground: Ground) -> None:
    """Windows, versions, updates and dead letters are what the rules say, in the changelog, for who orders updates and
    for who reads what compaction keeps; updates flow again each time; memory stays bounded; a worker that is asked to
    end does so with code 0 (P2, P3, P4, P5, P8; W06, R11, R12, R23, L03, L09)."""
    report = run(ground, SHORT_FORM[fault])

    assert report.outcome.exact, str(report.outcome)
    assert report.outcome.accepted > 1000
    assert report.takeovers_s
    assert report.peak_bytes < MEMORY_MAX_BYTES
