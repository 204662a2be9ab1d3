"""A report says what was measured in Markdown and as one page that is whole, safe and the same each time."""

import copy
import re
import subprocess
import sys
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from models.log import read
from models.measure import measure
from models.report import About, html, markdown
from stream.errors import UsageError
from stream.rules import Rules
from tests.bundles import random_bundle
from tests.logs import event, write_log

ABOUT = About(
    bundle="0123456789abcdef",
    log="log.jsonl, 3 days",
    command="interest model evaluate folder log.jsonl",
    made_on=date(2025, 11, 26),
    events=4000,
    users=80,
    first_ms=1_700_000_000_000,
    last_ms=1_700_300_000_000,
)
SHARES = {"model": 0.3, "model without its LSTM": 0.29, "daily": 0.2, "popularity": 0.01, "markov": 0.1, "latest": 0.4}
GROUPS = ("item", "click", "purchase", "after 1 to 4", "after 20+", "item seen 0", "item seen 10+", "item of days 7+")
EVIL = "<script>alert(1)</script>\"'&|`$x^2$\n\r\x1b[31m*_[a](javascript:b)\u202e</svg>"
needs_plots = pytest.mark.torch  # matplotlib is of the train extra, too


def figures(share: float, asked: int) -> dict[str, Any]:
    """Of one system and group."""
    shares = {"5": round(share / 2, 4), "10": round(share * 0.8, 4), "20": share}
    return {"asked": asked, "hr": shares, "ndcg": shares, "mrr": shares}


def told(**more: Any) -> dict[str, Any]:
    """What models.measure says, without what may be absent."""
    systems = {
        name: {group: figures(share, 1000 if group == "item" else 400) for group in GROUPS}
        for name, share in SHARES.items()
    }
    for name, share in (("model", 0.7), ("daily", 0.5), ("latest", 0.7)):
        systems[name]["category"] = figures(share, 900)
    return {
        "after_ms": 1_700_200_000_000,
        "asked": 1000,
        "known": 0.8,
        "without_history": 7,
        "coverage": 0.25,
        "systems": systems,
    } | more


def whole() -> dict[str, Any]:
    """With all that may be absent."""
    bins = [[0.1, 0.12, 50.0], [0.5, 0.4, 20.0], [0.9, 0.95, 5.0]]
    return told(
        probability={
            "click": {"auc": 0.71, "ece": 0.0123, "bins": bins},
            "purchase": {"auc": None, "ece": float("nan"), "bins": []},
        },
        training=[
            {"epoch": 1, "loss": 9.5, "hr@10": None},
            {"epoch": 2, "loss": 8.25, "hr@10": 0.19},
            {"epoch": 3, "loss": 8.0, "hr@10": 0.18},
        ],
    )


class Page(HTMLParser):
    """Tags, their attributes and the text of a page; tags must be closed in the order in which they were opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attributes]
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note it; there is nothing to close."""
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attributes]

    def handle_endtag(self, tag: str) -> None:
        """It closes the last one."""
        assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        """Text that a person sees, but for the style sheet."""
        if self.open[-1:] != ["style"]:
            self.text.append(data)


def svgs(page: str) -> list[str]:
    """The plots of a page."""
    return re.findall(r"<svg.*?</svg>", page, re.DOTALL)


def headings(text: str) -> list[str]:
    """Of Markdown."""
    return re.findall(r"^## (.*)$", text, re.MULTILINE)


def test_markdown_in_order() -> None:
    """The verdict first, then what was measured on what, all systems, the groups, and what the figures mean."""
    text = markdown(told(), ABOUT)
    assert [
        "Roll out or not",
        "What was measured",
        "All systems",
        "By type of event",
        "By length of the user's window",
        "By popularity of the item",
        "By age of the item",
        "What the figures mean",
    ] == headings(text)
    assert "**Do not roll out. latest, which needs no model, finds more of the items (HR@20).**" in text
    for said in (
        "# Evaluation of bundle 0123456789abcdef",
        "- **Log**: log.jsonl, 3 days",
        "- **Its events**: 4,000 of 80 users",
        "- **Its dates**: 2023-11-14 22:13 UTC to 2023-11-18 09:33 UTC",
        "- **Asked for**: 1,000 events, from 2023-11-17 05:46 UTC on",
        "- **Known items**: 80.00 % of the events asked for are of items in the bundle's catalog",
        "- **Without history**: 7 of them are of users without an event before",
        "- **Coverage**: 25.00 % of the catalog is among anybody's first 10",
        "- **Made on**: 2025-11-26",
        "```\ninterest model evaluate folder log.jsonl\n```",
        "- **Ties**: what scores the same counts as standing before the one asked for.",
        "20.00 % of the events were of items that the bundle's catalog lacks.",
        "It is approximate",
    ):
        assert said in text


def test_each_difference_in_words() -> None:
    """A row for each with interval and word; of the model's own parts and of categories a sentence says more."""
    text = markdown(told(), ABOUT)
    assert "| item | popularity | **better** | +29.00 | +26.12 to +31.95 | 30.00 % | 1.00 % |" in text
    assert "| item | latest | **worse** | −10.00 | −14.13 to −5.82 | 30.00 % | 40.00 % |" in text
    assert "| item | model without its LSTM | **not told apart** | +1.00 |" in text
    for said in (
        "On items, against the bundle's own daily vector: better, +10.00 points; an update after each event is worth "
        "having.",
        "On items, against the model without its LSTM: not told apart, +1.00 points; what the LSTM adds does not show.",
        "On categories, against latest: not told apart, +0.00 points.",
    ):
        assert f"\n\n{said}\n" in text
    worse = told()
    worse["systems"]["model"]["item"] = figures(0.05, 1000)
    text = markdown(worse, ABOUT)
    assert "worse, −15.00 points; the morning's vector would have done better." in text
    assert "worse, −24.00 points; the LSTM does harm." in text


def test_tables_mark_the_best() -> None:
    """The greatest share of its kind stands out, also where two share it; not where nothing was found."""
    text = markdown(told(), ABOUT)
    assert "| item | latest | **20.00 %** | **32.00 %** | **40.00 %** | 0.4000 | 0.4000 |" in text
    assert "| category | model | **35.00 %** | **56.00 %** | **70.00 %** |" in text
    assert "| category | latest | **35.00 %** |" in text
    assert "| window | events | model | model without its LSTM | daily | popularity | markov | latest |" in text
    assert "| 1 to 4 | 400 | 30.00 % | 29.00 % | 20.00 % | 1.00 % | 10.00 % | **40.00 %** |" in text
    nothing = told()
    for system in nothing["systems"].values():
        system["after 20+"] = figures(0.0, 0)
    del nothing["systems"]["markov"]["after 20+"]
    assert "| 20+ | 0 | 0.00 % | 0.00 % | 0.00 % | 0.00 % | – | 0.00 % |" in markdown(nothing, ABOUT)


def test_groups_of_any_name_are_told() -> None:
    """What no kind is known of has a table of its own."""
    more = told()
    for system in more["systems"].values():
        system["on a sunday"] = figures(0.2, 50)
    text = markdown(more, ABOUT)
    assert "By other groups" in headings(text)
    assert "| on a sunday | 50 |" in text


def test_what_may_be_absent() -> None:
    """Probabilities and training are told where they are there; a figure that is none is a dash."""
    text = markdown(whole(), ABOUT)
    assert ["Probabilities", "Training", "What the figures mean"] == headings(text)[-3:]
    assert "| click | 0.7100 | 0.0123 | 26.00 % | 25.00 % |" in text
    assert "| purchase | – | – | – | – |" in text
    with_horizon = whole()
    with_horizon["probability"]["horizon_hours"] = 24
    assert markdown(with_horizon, ABOUT) == text
    assert "Loss 9.5000 after epoch 1, 8.0000 after the last." in text
    assert "HR@10 of what was held out was highest after epoch 2: 19.00 %." in text
    assert "| 1 | 9.5000 | – |" in text
    little = told(probability={}, training=[])
    little["systems"] = {"model": {"item": figures(0.1, 10)}}
    text = markdown(little, About("b", "l", "c", date(2025, 1, 1)))
    assert ["Roll out or not", "What was measured", "All systems", "What the figures mean"] == headings(text)
    assert "**Not decided. Nothing else was measured beside the model.**" in text
    assert "Its events" not in text


def test_bins_in_threes_or_by_name() -> None:
    """Both ways to write a bin say the same; one without weight says nothing."""
    named = whole()
    click = named["probability"]["click"]
    click["bins"] = [dict(zip(("predicted", "observed", "weight"), one, strict=True)) for one in click["bins"]]
    click["bins"].append({"predicted": None, "observed": None, "weight": 0})
    with_empty = whole()
    assert markdown(with_empty, ABOUT) == markdown(named, ABOUT)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({}, "got others: KeyError 'systems'"),
        ({"systems": {"model": {}}}, "got others: KeyError 'item'"),
        (told(known=None), "got others: ValueError no number among"),
        ({"systems": []}, "got others: TypeError"),
    ],
)
def test_figures_that_are_none(broken: dict[str, Any], said: str) -> None:
    """What no evaluation wrote is refused in one line."""
    for make in (markdown, html):
        with pytest.raises(UsageError, match="expected figures as `interest model evaluate` writes them, ") as caught:
            make(broken, ABOUT)
        assert said in str(caught.value)


def hostile() -> tuple[dict[str, Any], About]:
    """Every name that can be foreign is an attack on markup."""
    found = whole()
    for system in found["systems"].values():
        system[EVIL] = figures(0.1, 10)
    found["systems"][EVIL] = copy.deepcopy(found["systems"]["latest"])
    found["probability"][EVIL] = found["probability"]["click"]
    return found, About(EVIL, EVIL, f"{EVIL} ```` sh", date(2025, 1, 1))


def test_hostile_names_in_markdown() -> None:
    """They stay text: no row gets another column, no line another beginning, no fence is closed early."""
    text = markdown(*hostile())
    rows = re.findall(r"^\|.*$", text, re.MULTILINE)
    columns = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
    tables = [len(re.findall(r"(?<!\\)\|", row)) for row in rows if "---" in row]
    assert sorted(set(tables)) == sorted(set(columns))
    assert "\x1b" not in text
    assert "\u202e" not in text
    outside = re.sub(r"^`````\n.*\n`````$", "", text, flags=re.MULTILINE)
    assert outside != text
    assert not re.search(r"(?<!\\)<script", outside)
    assert not re.search(r"(?<!\\)\[a", outside)


@needs_plots
def test_hostile_names_on_the_page() -> None:
    """They stay text: no script, nothing that runs or is fetched, and a policy that forbids both."""
    text = html(*hostile())
    page = Page(text)
    assert not {"script", "iframe", "object", "embed", "img", "a", "link", "base", "form"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "action", "xlink:href")]
    assert all(value.startswith("#") for name, value in page.attributes if name == "href")
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes
    assert "://" not in text
    assert "@import" not in text
    assert all("#" in value for value in re.findall(r"url\(([^)]*)\)", text))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert any("<script>alert(1)</script>" in said for said in page.text)
    assert any("$x^2$" in said for said in page.text)


@needs_plots
def test_the_page_holds_what_markdown_says() -> None:
    """Each heading, sentence and cell of the one is in the other."""
    page = Page(html(whole(), ABOUT))
    seen = " ".join(" ".join(page.text).split())
    text = re.sub(r"\\(.)", r"\1", markdown(whole(), ABOUT))
    assert len(headings(text)) == page.tags.count("h2")
    for line in text.splitlines():
        for part in re.split(r"\||\*\*: ?|\*\*|^#+ |^- |```", line):
            # The verdict is parted into two on the page.
            if part.strip(" -:") and not part.startswith("Do not roll out."):
                assert " ".join(part.split()) in seen


@needs_plots
def test_plots() -> None:
    """One for each section that has figures to draw, each whole by itself, named, and in the colours of the page."""
    page = html(whole(), ABOUT)
    drawn = svgs(page)
    assert 8 == len(drawn)
    style = page[page.index("<style>") : page.index("</style>")]
    for svg in drawn:
        root = ElementTree.fromstring(svg)
        assert root.attrib["aria-label"]
        assert "width" not in root.attrib
        for text in root.iter("text"):
            assert "font-family" not in text.attrib.get("style", "")
        assert not re.findall(r"#[0-9a-fA-F]{6}\b", svg)
        for name in re.findall(r"var\(--([a-z-]+)\)", svg):
            assert 3 <= style.count(f" --{name}: ")  # light, dark, paper
    assert 0 == html(told(), ABOUT).count("ECE ")
    assert 6 == len(svgs(html(told(), ABOUT)))


@needs_plots
def test_ids_are_unique_and_found() -> None:
    """What a plot refers to is in the page, once."""
    page = Page(html(whole(), ABOUT))
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(set(ids)) == len(ids)
    used = {value[1:] for name, value in page.attributes if name == "href"}
    used |= {one for _, value in page.attributes for one in re.findall(r"url\(#([^)]*)\)", value)}
    assert used
    assert used <= set(ids)


@needs_plots
def test_the_same_bytes() -> None:
    """The same figures give the same page, whatever a person's matplotlib is set to, and in another process."""
    import matplotlib as mpl

    first = html(whole(), ABOUT)
    with mpl.rc_context({"font.size": 30, "axes.grid": True, "svg.hashsalt": None}):
        assert first == html(whole(), ABOUT)
    assert 30 != mpl.rcParams["font.size"]
    code = "from tests.unit.test_report import *; import sys; sys.stdout.write(html(whole(), ABOUT))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert first == done.stdout


@needs_plots
@pytest.mark.parametrize(
    ("share", "asked"),
    [(0.0, 0), (0.0, 1), (1.0, 1), (1.0, 100_000)],
)
def test_edges(share: float, asked: int) -> None:
    """Nothing found, all found, nothing asked: there is a page, and its verdict is that nothing is decided."""
    found = whole()
    for system in found["systems"].values():
        for group in system:
            system[group] = figures(share, asked)
    found["training"] = [{"epoch": 1, "loss": 3.0}]
    found["probability"]["click"]["bins"] = [[0.0, 0.0, 1.0]]
    page = Page(html(found, ABOUT))
    assert "Not decided" in page.text


@needs_plots
def test_long_names_leave_room() -> None:
    """A name of any length, in any script, is cut in a plot, and whole in the table."""
    found = told()
    for name in ("很" * 300, "W" * 300):
        found["systems"][name] = copy.deepcopy(found["systems"]["latest"])
    page = html(found, ABOUT)
    for cut in ("很" * 10, "W" * 21):
        assert f">{cut}…</text>" in page
    assert f">{'很' * 300}</td>" in page


@needs_plots
def test_of_an_evaluation(tmp_path: Path) -> None:
    """What models.measure finds is told whole, by both."""
    items = [f"i{n}" for n in range(8)]
    bundle = random_bundle(tmp_path / "b", item_ids=items, item_categories=["x", "y"] * 4, hidden=8, dim=6)
    now = 1_700_000_000_000
    lines = [event(f"u{n % 5}", items[n * n % 8], now + n * 1000, type="cart" if n % 3 else "click") for n in range(60)]
    found = measure(read(write_log(tmp_path / "log", lines)), bundle, Rules(50, 25, 10**10, 10**11))
    text, page = markdown(found, ABOUT), html(found, ABOUT)
    assert 1 <= found["asked"]
    for system, groups in found["systems"].items():
        assert f"| item | {system} | " in text
        assert f">{system}</td>" in page
        assert "item" in groups
    assert "By type of event" in headings(text)


def test_without_matplotlib() -> None:
    """Markdown needs none; the page says in one line what to install."""
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from tests.unit.test_report import *\n"
        "from stream.errors import InterestError\n"
        "assert markdown(whole(), ABOUT)\n"
        "try:\n    html(whole(), ABOUT)\n"
        "except InterestError as error:\n    print(error)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert "plots need matplotlib: pip install 'interest-stream[train]'\n" == done.stdout
