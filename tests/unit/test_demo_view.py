"""The demo's view and its plain lines: they fit, say what there is, and hold for any terminal."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from models import bundle as bundles
from models.products import Shop
from stream.demo import report
from stream.demo.measure import Measure
from stream.demo.run import default_model
from stream.demo.state import Board, Followed, Shown, Snapshot
from stream.demo.view import GLIDE, View
from stream.rules import Rules

NOW_MS = 1_700_000_000_000
NAMES = Shop().category_names
CHINESE = "非常失望，佩戴用了一周就坏了，差评。这款锅非常喜欢，手柄很棒，物流也很快，推荐购买！"
EVENTS = (
    Shown(NOW_MS - 200, "purchase", "Kestrel Over-Ear 2", "Headphones"),
    Shown(NOW_MS - 1_500, "review", "Citybound Camera", "Backpacks", 2, CHINESE),
    *(Shown(NOW_MS - 3_000 * n, "click", f"Zhulin {n}", "Running shoes") for n in range(1, 40)),
)
SNAPSHOT = Snapshot(
    now_ms=NOW_MS,
    elapsed_s=83.4,
    first_update_s=8.25,
    published=1_234_567,
    wanted=None,
    events_s=19_999.6,
    updates=1_200_001,
    updates_s=18_000.2,
    p50_ms=9,
    p99_ms=1_031,
    lag=12_345,
    refused={"not_json": 2_058, "missing_field": 2_058, "timestamp_too_old": 2_057},
    user="user-0",
    version=530,
    window=28,
    events=EVENTS,
    leaning=tuple((name, 0.9 - 0.1 * place) for place, name in enumerate(NAMES)),
)
NOTHING = replace(
    SNAPSHOT, first_update_s=None, published=0, updates=0, p50_ms=None, p99_ms=None, refused={}, version=0, events=(),
    leaning=(),
)  # fmt: skip


def lines(now: Snapshot, width: int = 80, height: int = 24, frames: int = 40) -> list[str]:
    """The rows of the last of some frames, without colours."""
    view = View("Kafka at 127.0.0.1:9092", "In another terminal: interest watch")
    for _ in range(frames):
        frame = view.frame(now, width, height)
    console = Console(file=io.StringIO(), record=True, width=width, height=height, force_terminal=True)
    console.print(frame)
    return [row.rstrip() for row in console.export_text().rstrip("\n").split("\n")]


@pytest.mark.parametrize("now", [SNAPSHOT, NOTHING, replace(SNAPSHOT, wanted=2_000_000)], ids=["full", "new", "wanted"])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 32), (200, 60), (70, 18), (60, 24), (40, 10), (20, 3)])
def test_fits(now: Snapshot, width: int, height: int) -> None:
    """No row is wider than the terminal, in cells; from 60 × 10 on all rows are there."""
    rows = lines(now, width, height)
    assert width >= max(cell_len(row) for row in rows)
    if width >= 60 and height >= 10:
        assert len(rows) <= height
        assert rows[0].strip().startswith("interest demo")


def test_numbers() -> None:
    """The numbers stand with their units, each under the other."""
    rows = lines(SNAPSHOT)
    assert rows[0] == " interest demo   Kafka at 127.0.0.1:9092, first update after 8.2 s         1:23"
    assert rows[2] == " events      1,234,567   20,000/s       event → update p50       9 ms"
    assert rows[3] == " updates     1,200,001   18,000/s                      p99   1,031 ms"
    assert rows[4] == " refused         6,173                                 lag  12,345"
    assert rows[5] == "            not_json 2,058 · missing_field 2,058 · timestamp_too_old 2,057"
    assert rows[7] == " user-0   one shopper, followed: version 530, 28 events in the window"


def test_lists() -> None:
    """Events are on the left, the newest first, a review with stars and its words cut by cells; categories right."""
    rows = lines(SNAPSHOT)
    assert rows[9] == "  now purchase Kestrel Over-Ea… Headphones      Phones        █████████▉   0.90"
    assert rows[11] == "      ★★☆☆☆ 非常失望，佩戴用了一周就坏了，差…   Headphones    ███████▊     0.70"
    starts = {cell_len(row[: row.rindex(name)]) for row, name in zip(rows[9:21], NAMES, strict=True)}
    assert {48} == starts
    assert rows[20].endswith("Garden tools              -0.20")


def test_wide() -> None:
    """What is wide shows more."""
    assert any("Kestrel Over-Ear 2" in row and "Headphones" in row for row in lines(SNAPSHOT, 120, 32))
    assert sum("click" in row for row in lines(SNAPSHOT, 120, 32)) > sum("click" in row for row in lines(SNAPSHOT))


def test_low() -> None:
    """Where there is little room the categories leaned to most stay, in their order, and the legend goes."""
    rows = lines(replace(SNAPSHOT, leaning=SNAPSHOT.leaning[::-1], events=()), 80, 14)
    assert list(NAMES[4::-1]) == [name for row in rows for name in NAMES if row.lstrip().startswith(name)]
    assert not any("on purpose" in row for row in rows)


def test_bars_glide() -> None:
    """A bar nears its value frame by frame, the number is there at once."""
    one = replace(SNAPSHOT, leaning=(("Phones", 1.0),))
    first, second, last = (lines(one, frames=frames)[9] for frames in (1, 2, 40))
    assert first.endswith("1.00")
    assert first.count("█") < second.count("█") < last.count("█")
    assert first.count("█") == int((1 - GLIDE) * last.count("█"))


def test_progress() -> None:
    """On a pipe one line says it all."""
    assert report.progress(replace(SNAPSHOT, wanted=2_000_000)) == (
        "83 s: 1,234,567 of 2,000,000 events, 20,000/s; 1,200,001 updates, 18,000/s; p50 9 ms, p99 1,031 ms; "
        "lag 12,345; refused 6,173; user-0 leans to Phones 0.90, Cameras 0.80"
    )
    assert report.progress(replace(NOTHING, elapsed_s=0.2, events_s=0, updates_s=0, lag=0)) == (
        "0 s: 0 events, 0/s; 0 updates, 0/s; lag 0; refused 0; user-0 leans to nothing yet"
    )


def test_board_and_summary() -> None:
    """From what the board knows comes the summary: shares, latency, starts, and what the vector leans to."""
    bundle = bundles.load(default_model())
    followed = Followed(Shop(), bundle)
    measure = Measure(Rules(max_events=50, keep_events=25, max_age_ms=10**9, idle_ttl_ms=10**10))
    board = Board(measure, followed, None, command_began_s=92.0, now_s=100.0)
    board.first_update_s = 100.5
    phones = int(np.flatnonzero(bundle.catalog.category_ids == "phones")[0])
    followed.moved(3, 3, bundle.category_vectors[phones])
    followed.did({"user_id": "user-0", "type": "click", "item_id": "phones-01", "timestamp": NOW_MS})
    measure.latencies.add(7, 101.0)
    measure.updates, measure.published = 1, 30
    now = board.snapshot(102.0, NOW_MS)
    assert (now.elapsed_s, now.first_update_s, now.events_s, now.p50_ms) == (2.0, 8.5, 15.0, 7)
    assert Shown(NOW_MS, "click", Shop().item_names[0], "Phones") == now.events[0]
    assert tuple(name for name, _ in now.leaning) == NAMES
    summary = report.summary(now, measure, report.Starts(4.1, 2.9))
    assert summary[:-1] == [
        "events   30 in 2.0 s, 15/s",
        "         of these on purpose 0 late, 0 sent twice, 0 malformed",
        "windows  0 events counted once, 0 known already, 0 too late",
        "updates  1 for 0 shoppers",
        "refused  0",
        "latency  p50 7 ms, p99 7 ms from event to update",
        "start    broker 4.1 s, worker 2.9 s, first update after 8.5 s",
    ]
    assert summary[-1].startswith("user-0   leans to Phones 1.00, ")
