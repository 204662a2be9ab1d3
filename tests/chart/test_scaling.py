"""Scaling: what KEDA's own schemas say of the objects, and how far it may go."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from tests.chart.conftest import tool
from tests.chart.test_objects import Rendered, one


def closed(node: Any) -> Any:
    """A schema of an API that drops what it does not know, as one that refuses it."""
    if isinstance(node, list):
        return [closed(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    inner = {key: closed(value) for key, value in node.items()}
    has_more = node.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in node
    return inner if "properties" not in node or has_more else inner | {"additionalProperties": False}


def definition(kind: str) -> Draft7Validator:
    """KEDA's schema of a kind."""
    crd = yaml.safe_load(Path(tool(f"keda/keda.sh_{kind}s.yaml")).read_text())
    return Draft7Validator(closed(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))


@pytest.mark.parametrize("kind", ["ScaledObject", "TriggerAuthentication"])
def test_keda_knows_every_field(rendered: Rendered, kind: str) -> None:
    """The objects fit KEDA's definitions, which refuse what is wrong."""
    schema = definition(kind.lower())
    thing = one(rendered("all-on"), kind)
    assert [] == [error.message for error in schema.iter_errors(thing)]
    assert [] != list(schema.iter_errors(thing | {"spec": thing["spec"] | {"maxReplicas": 3}}))


def test_keda_knows_every_word_of_the_trigger(rendered: Rendered) -> None:
    """Each parameter is one that the scaler reads, with a value that it allows, and none that it needs is missing."""
    scaler = Path(tool("keda/kafka_scaler.go")).read_text()
    # KEDA publishes the parameters of its other Kafka scaler, which has them by the same names.
    published = json.loads(Path(tool("keda/scalers-metadata-schema.json")).read_text())["scalers"]
    known = {p["name"]: p for scaler in published if scaler["type"] == "apache-kafka" for p in scaler["parameters"]}
    triggers = one(rendered("all-on"), "ScaledObject")["spec"]["triggers"]
    assert ["clicks", "orders"] == [trigger["metadata"]["topic"] for trigger in triggers]
    for trigger in triggers:
        given = trigger["metadata"]
        assert [] == [name for name in given if f'"{name}"' not in scaler]
        assert {"version"} == set(given) - set(known)
        assert {} == {k: v for k, v in given.items() if v not in known.get(k, {}).get("allowedValue", [v])}
        needed = {name for name, p in known.items() if not p.get("optional") and "default" not in p}
        assert set() == needed - set(given)


def test_scaling_by_lag(rendered: Rendered) -> None:
    """O02, O04: a missing offset is no lag; never more workers than partitions, fewer only slowly, never none."""
    objects = rendered("all-on")
    spec = one(objects, "ScaledObject")["spec"]
    assert (2, 12) == (spec["minReplicaCount"], spec["maxReplicaCount"])
    assert "replicas" not in one(objects, "StatefulSet")["spec"]
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert (900, [{"type": "Pods", "value": 1, "periodSeconds": 300}]) == (
        down["stabilizationWindowSeconds"],
        down["policies"],
    )
    given = spec["triggers"][0]["metadata"]
    expected = {
        "consumerGroup": "shop",
        "lagThreshold": "1000000",
        "offsetResetPolicy": "latest",
        "allowIdleConsumers": "false",
        "limitToPartitionsWithLag": "false",
        "excludePersistentLag": "true",
        "sasl": "scram_sha512",
        "tls": "enable",
    }
    assert expected == {name: given[name] for name in expected}


@pytest.mark.parametrize(("most", "expected"), [(0, 4), (3, 3), (100, 4)])
def test_most_workers(rendered: Rendered, most: int, expected: int) -> None:
    """O04: an HPA may ask for at most one worker a partition."""
    objects = rendered("hpa", f"autoscaling.maxReplicas={most}")
    assert expected == one(objects, "HorizontalPodAutoscaler")["spec"]["maxReplicas"]
    assert "replicas" not in one(objects, "StatefulSet")["spec"]


def test_keda_signs_in_as_the_worker_does(rendered: Rendered) -> None:
    """Without secrets there is nothing to sign in with; a TriggerAuthentication of the user's is taken as it is."""
    plain = rendered("minimal", 'autoscaling.kind="keda"')
    assert [] == [thing for thing in plain if thing["kind"] == "TriggerAuthentication"]
    assert "authenticationRef" not in one(plain, "ScaledObject")["spec"]["triggers"][0]
    own = rendered("all-on", 'autoscaling.authenticationRef="mine"')
    assert [] == [thing for thing in own if thing["kind"] == "TriggerAuthentication"]
    assert {"name": "mine"} == one(own, "ScaledObject")["spec"]["triggers"][0]["authenticationRef"]
