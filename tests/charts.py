"""The chart's files as tests read them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy" / "chart"
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
#: Values files that between them have every option on.
EXAMPLES = ("minimal", "all-on", "hpa", "volume")


def example(name: str) -> Path:
    """A values file."""
    return CHART / "ci" / f"{name}.yaml"


def merged(over: dict[str, Any], base: dict[str, Any] = VALUES) -> dict[str, Any]:
    """Values over others, as Helm lays them: maps are merged, all else is replaced."""
    both = {key: merged(over[key], value) if _maps(over.get(key), value) else value for key, value in base.items()}
    return both | {key: value for key, value in over.items() if not _maps(value, base.get(key))}


def _maps(*values: object) -> bool:
    return all(isinstance(value, dict) for value in values)


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """A part of the schema, or what it refers to."""
    if "$ref" not in node:
        return node
    found: dict[str, Any] = SCHEMA["definitions"][node["$ref"].removeprefix("#/definitions/")]
    return found


def parts(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """All of the schema with its path, what is referred to included, from the top down."""
    node = resolved(node)
    yield path, node
    for name, inner in node.get("properties", {}).items():
        yield from parts(inner, f"{path}.{name}".removeprefix("."))
    if "items" in node:
        yield from parts(node["items"], f"{path}[]")


def at(values: dict[str, Any], path: str) -> Any:
    """The value at a path of names with dots between; KeyError where there is none."""
    found: Any = values
    for name in path.split("."):
        found = found[name]
    return found
