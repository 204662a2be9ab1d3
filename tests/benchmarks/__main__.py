"""`make bench`: this worker beside others on the same events, model, broker and machine, and what it costs.

Prints tables as they are measured, and as the last line how many times the events a second of each other this worker
does. Broker, load and program share the machine's cores; the load is published before a program starts. Machines
differ: compare the ratios, not the numbers.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from stream.broker import Broker
from tests.benchmarks import results, workloads

SECTIONS = ("compare", "latency", "recovery", "footprint")
NAMED = ("scaling", "gpu")  # that take long, or another machine: run only where they are asked for


def say(line: str) -> None:
    """A line of progress or result."""
    click.echo(line)


@click.command()
@click.option("--quick", is_flag=True, help="Smaller loads; under 3 minutes in all.")
@click.option("--only", multiple=True, type=click.Choice([*SECTIONS, *NAMED]), help="Measure these sections.")
@click.option(
    "--workload", multiple=True, type=click.Choice([one.name for one in workloads.ALL]), help="compare: on these only."
)
@click.option("--peers", default="", help="compare: these systems only, comma between several.")
@click.option("--steady", type=click.FloatRange(1), help="footprint: events come for so many seconds, each worker.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="JSON; sections measured are replaced.")
@click.option("--readme", is_flag=True, help="Measure nothing: bring README and plot up to date with results.json.")
def main(
    quick: bool,
    only: tuple[str, ...],
    workload: tuple[str, ...],
    peers: str,
    steady: float | None,
    output: Path | None,
    readme: bool,
) -> None:
    """Measure, print, keep."""
    if readme:
        results.write_readme()
        return
    found: dict[str, Any] = {}
    say(f"machine: {results.machine()}; broker, load and program share it")
    with tempfile.TemporaryDirectory() as folder, Broker() as broker:
        for name in only or SECTIONS:
            section = results.section(name)
            more: dict[str, Any] = {}
            if name == "compare":
                more = {"only": workload, "peers": _names(peers)}
            elif name == "footprint":
                more = {"steady_s": steady}
            work = Path(folder) / name
            work.mkdir()
            began_s = time.monotonic()
            result = section.measure(broker.address, work, quick, say, **more)
            found[name] = {"machine": results.machine(), "quick": quick, "result": result}
            say(f"\n{name} ({time.monotonic() - began_s:.0f} s)\n")
            say("\n".join(section.show(result)) + "\n")
            if output:
                results.keep(output, {name: found[name]})
    if not output:
        say(json.dumps(found))
        say("To keep it: --output FILE (the README's figures: --output tests/benchmarks/results.json, then --readme)")
    if "compare" in found:
        ratios = results.section("compare").ratios(found["compare"]["result"])
        say(f"ratios {' '.join(f'{name}={ratio:.2f}' for name, ratio in ratios.items())}")


def _names(peers: str) -> tuple[str, ...]:
    from tests.benchmarks import systems

    names = tuple(filter(None, peers.split(",")))
    known = [system.name for system in systems.ALL]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise click.BadParameter(f"expected some of {','.join(known)}, got {unknown[0]!r}", param_hint="--peers")
    return names


if __name__ == "__main__":
    main()
