"""The README's picture: events a second by system, as an SVG that holds the figures it was drawn of."""

import io
import json
import re
from typing import Any

WORKLOADS = ("short", "full")
NAMES = {
    "worker": "this worker",
    "loop": "bare librdkafka loop,\npromises nothing",
    "kafka_streams": "Kafka Streams",
    "kafka_streams_eos": "Kafka Streams,\nexactly once",
    "quix": "Quix Streams",
    "plain_faust": "plain Faust",
}
OURS, OTHERS = "#d9480f", "#8a939b"


def data(compared: dict[str, Any]) -> dict[str, dict[str, int]]:
    """The figures of the picture: events a second by workload and system."""
    return {
        name: {system: one["events_a_second"] for system, one in compared["workloads"][name]["systems"].items()}
        for name in WORKLOADS
        if name in compared["workloads"]
    }


def data_in(svg: str) -> dict[str, dict[str, int]]:
    """The figures that an SVG was drawn of.

    Raises:
        ValueError: it does not say.
    """
    found = re.search(r"<!-- data: (.*?) -->", svg)
    if found is None:
        raise ValueError("expected an SVG of `python -m tests.benchmarks --readme`, got one without its figures")
    figures: dict[str, dict[str, int]] = json.loads(found[1])
    return figures


def draw(compared: dict[str, Any]) -> str:
    """The SVG; the same figures give the same picture, wherever and whenever."""
    from matplotlib import rc_context  # not everybody who reads results has it
    from matplotlib.figure import Figure

    figures = data(compared)
    with rc_context({"svg.hashsalt": "interest-stream", "svg.fonttype": "none", "font.size": 11}):
        figure = Figure(figsize=(9, 0.6 + 2.9 * len(figures)), layout="constrained")
        for axes, (workload, rates) in zip(figure.subplots(len(figures), squeeze=False)[:, 0], figures.items()):  # noqa: B905
            order = sorted(rates, key=lambda system: rates[system])
            colors = [OURS if system == "worker" else OTHERS for system in order]
            bars = axes.barh([NAMES[system] for system in order], [rates[system] for system in order], color=colors)
            axes.bar_label(bars, labels=[f" {rates[system]:,}" for system in order])
            axes.set_title(f"{workload}: {compared['workloads'][workload]['what']}", loc="left", fontsize=11)
            axes.set_xticks([])
            axes.margins(x=0.12)
            axes.spines[["top", "right", "bottom"]].set_visible(False)
            axes.tick_params(length=0)
        figure.supxlabel("events a second, the same work on the same machine", fontsize=10)
        figure.patch.set_facecolor("white")
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    head, tag, rest = svg.partition("<svg")
    return f"{head}<!-- data: {json.dumps(figures, sort_keys=True)} -->\n{tag}{rest}"
