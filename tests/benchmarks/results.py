"""The file of results: sections as they were measured, each with its machine; and the README's tables made of it."""

import importlib
import json
import os
import platform
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.benchmarks import plot

HERE = Path(__file__).resolve().parent
FILE = HERE / "results.json"
PLOT = HERE / "results.svg"
README = HERE.parents[1] / "README.md"
_BLOCK = re.compile(r"(<!-- bench:(\w+) -->\n).*?(<!-- /bench -->)", re.DOTALL)

Results = dict[str, dict[str, Any]]  # section: {"machine": …, "quick": …, "result": what its module measured}


def section(name: str) -> ModuleType:
    """The module that measures a section and shows it."""
    return importlib.import_module(f"tests.benchmarks.{name}")


def machine() -> str:
    """This machine in a few words, without its name."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = re.findall(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        model = names[0].strip() if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, Python {platform.python_version()}"


def load(file: Path = FILE) -> Results:
    """What is kept; nothing if there is no such file."""
    if not file.is_file():
        return {}
    found: Results = json.loads(file.read_text())
    return found


def keep(file: Path, new: Results) -> None:
    """Put sections in the place of older ones of the same name; the others stay."""
    merged = dict(sorted((load(file) | new).items()))
    file.write_text(json.dumps(merged, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def table(name: str, results: Results) -> str:
    """The Markdown of a section."""
    return "\n".join(section(name).show(results[name]["result"])) + "\n"


def render(readme: str, results: Results) -> str:
    """The README with what stands between `<!-- bench:SECTION -->` and `<!-- /bench -->` made of the results anew.

    Raises:
        KeyError: it names a section of which there is no result.
    """
    return _BLOCK.sub(lambda block: f"{block[1]}\n{table(block[2], results)}\n{block[3]}", readme)


def write_readme() -> None:
    """Bring README and plot up to date with the file of results."""
    results = load()
    README.write_text(render(README.read_text(), results))
    if "compare" in results:
        PLOT.write_text(plot.draw(results["compare"]["result"]))
