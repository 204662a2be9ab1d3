"""The chart's values, their schema, their table and the worker's settings say the same; needs no Helm."""

import json
import tomllib
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from stream.settings import Settings
from tests.charts import CHART, EXAMPLES, ROOT, SCHEMA, VALUES, at, example, merged, parts

GUIDE = (ROOT / "deploy" / "docs" / "kubernetes.md").read_text()
#: Settings of the worker without a value: the chart decides the first two, secrets come as files.
FIXED = {"data_dir", "instance_id", "sasl_password", "ssl_key_password"}
#: A volume source is the API server's to check; `global` is Helm's, for charts within charts.
OPEN = {"model.volume.source", "global"}

valid = Draft7Validator(SCHEMA)


def table() -> dict[str, tuple[str, str]]:
    """Of each row of the guide's table of values: its default and the setting that it gives, as written."""
    lines = GUIDE.split("## Values")[1].split("## ")[0].splitlines()
    rows = [[cell.strip().strip("`") for cell in line.split("|")] for line in lines if line.startswith("| `")]
    return {row[1]: (row[2], row[3]) for row in rows}


def leaves() -> list[str]:
    """The values that can be set, in the schema's order; the settings as one."""
    return [
        path
        for path, node in parts(SCHEMA)
        if path == "settings"
        or ("properties" not in node and "[]" not in path and not path.startswith("settings.") and path != "global")
    ]


def worker_rules() -> dict[str, dict[str, Any]]:
    """What the schema must say of each setting: the worker's own types and bounds."""
    owned = FIXED | {setting for _, setting in table().values() if setting}
    rules = {}
    for name, field in Settings.model_json_schema()["properties"].items():
        if name not in owned:
            given: dict[str, Any] = next((kind for kind in field.get("anyOf", []) if kind["type"] != "null"), {})
            left_out = ("anyOf", "default", "description", "title", "format")
            rules[name] = {key: value for key, value in (field | given).items() if key not in left_out}
    return rules


def test_schema_is_closed() -> None:
    """Every object of the schema names what may be in it, or is a map of texts, so that a typing error is an error."""
    Draft7Validator.check_schema(SCHEMA)
    objects = {path: node for path, node in parts(SCHEMA) if node.get("type") == "object"}
    maps = [{"type": "string"}, False]
    assert sorted(OPEN) == sorted(
        path for path, node in objects.items() if node.get("additionalProperties") not in maps
    )
    assert {True} == {any(word in node for word in ("type", "enum")) for _, node in parts(SCHEMA)}


@pytest.mark.parametrize("name", [None, *EXAMPLES])
def test_values_are_valid(name: str | None) -> None:
    """The chart's own values fit its schema, and so does each example over them."""
    over = yaml.safe_load(example(name).read_text()) if name else {}
    assert [] == [error.message for error in valid.iter_errors(merged(over))]


def test_settings_are_the_workers() -> None:
    """`settings` takes what the worker takes, by name, type and bounds, without what has a value of its own."""
    assert {setting for _, setting in table().values() if setting} | FIXED <= set(Settings.model_fields)
    expected = worker_rules()
    found = SCHEMA["properties"]["settings"]["properties"]
    wrong = [
        f"values.schema.json, {name}: expected {json.dumps(expected.get(name))}, got {json.dumps(found.get(name))}"
        for name in expected | found
        if expected.get(name) != found.get(name)
    ]
    assert "" == "\n".join(wrong)


def test_settings_that_the_chart_names_have_the_workers_defaults() -> None:
    """The chart reads some settings itself, so values.yaml repeats the worker's defaults of these."""
    defaults = Settings.model_json_schema()["properties"]
    assert {name: defaults[name]["default"] for name in VALUES["settings"]} == VALUES["settings"]
    assert list(VALUES["settings"]) == SCHEMA["properties"]["settings"]["required"]


def test_table_is_the_values() -> None:
    """Every value stands in the guide's table with its default, in the schema's order, and no other does."""
    rows = table()
    assert leaves() == list(rows)
    defaults = {}
    for path in leaves():
        try:
            defaults[path] = json.dumps(at(VALUES, path))
        except KeyError:
            defaults[path] = ""
    assert defaults == {path: default for path, (default, _) in rows.items()}
    assert [] == [path for path, default in defaults.items() if default == "" and not path.startswith("model.")]


WRONG = {
    "a wrong type": ("replicas: two", "'two' is not of type 'integer'"),
    "an unknown name": ("replica: 2", "'replica' was unexpected"),
    "an unknown name further in": ("networkPolicy: {brokers: {port: 9092}}", "'port' was unexpected"),
    "no worker": ("replicas: 0", "less than the minimum"),
    "a negative number": ("replicas: -1", "less than the minimum"),
    "no partition": ("partitions: 0", "less than the minimum"),
    "two scalers": ("autoscaling: {kind: [keda, hpa]}", "is not one of"),
    "an unknown scaler": ("autoscaling: {kind: vpa}", "is not one of"),
    "scaling to zero": ("autoscaling: {minReplicas: 0}", "less than the minimum"),
    "an unknown protocol": ("kafka: {securityProtocol: SSL}", "is not one of"),
    "an unknown mechanism": ("kafka: {auth: {mechanism: GSSAPI}}", "is not one of"),
    "a broker without port": ("kafka: {brokers: [kafka]}", "does not match"),
    "brokers as one text": ("kafka: {brokers: 'a:9092,b:9092'}", "is not of type 'array'"),
    "a password": ("kafka: {auth: {password: secret}}", "'password' was unexpected"),
    "a token provider that is none": ("kafka: {auth: {tokenProvider: shop.tokens}}", "does not match"),
    "two bundles": ("model: {image: {reference: a, path: /b}, url: {from: 's3://a'}}", "has too many properties"),
    "a bundle without its path": ("model: {image: {reference: a}}", "'path' is a required property"),
    "two volumes": ("model: {volume: {source: {emptyDir: {}, nfs: {}}}}", "has too many properties"),
    "credentials in a URL": ("model: {url: {from: 's3://key:secret@bucket/a'}}", "does not match"),
    "a signed URL": ("model: {url: {from: 'https://store/a?sig=1'}}", "does not match"),
    "a setting that is the chart's": ("settings: {broker: 'a:9092'}", "'broker' was unexpected"),
    "an unknown setting": ("settings: {drain: 25}", "'drain' was unexpected"),
    "a setting out of bounds": ("settings: {window_max_events: 1}", "less than the minimum"),
    "a setting of another type": ("settings: {sweep_users: 10.5}", "is not of type 'integer'"),
    "a setting in the environment": ("env: {INTEREST_BROKER: 'a:9092'}", "should not be valid"),
    "a number in the environment": ("env: {RETRIES: 3}", "is not of type 'string'"),
    "an unknown resource": ("resources: {limits: {cpus: '1'}}", "'cpus' was unexpected"),
    "a quantity with a word": ("storage: {size: 10 GB}", "does not match"),
    "a tag as a number": ("image: {tag: 1.0}", "is not of type 'string'"),
    "a digest that is none": ("image: {digest: 'sha256:1'}", "does not match"),
    "a privileged port": ("health: {port: 80}", "less than the minimum"),
    "an unknown peer": ("networkPolicy: {metricsFrom: [{pods: {}}]}", "'pods' was unexpected"),
    "a peer that is everybody": ("networkPolicy: {metricsFrom: [{}]}", "should be non-empty"),
    "an unknown kind of toleration": ("tolerations: [{key: a, operator: In}]", "is not one of"),
}


@pytest.mark.parametrize(("wrong", "expected"), WRONG.values(), ids=WRONG)
def test_wrong_values_are_refused(wrong: str, expected: str) -> None:
    """The schema refuses each kind of wrong value, and says which."""
    values = merged(yaml.safe_load(wrong))
    assert [True] == [expected in error.message for error in valid.iter_errors(values)]


def test_alerts_are_those_of_the_project() -> None:
    """The chart can only read within itself: a link leads to the one file of alerts."""
    link = CHART / "files" / "alerts.yaml"
    assert link.is_symlink()
    assert (ROOT / "deploy" / "alerts" / "interest-stream.yaml").resolve() == link.resolve()
    assert {"groups"} == set(yaml.safe_load(link.read_text()))


def test_version_is_the_projects() -> None:
    """Chart and image carry the project's version."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (version, version) == (chart["version"], chart["appVersion"])
