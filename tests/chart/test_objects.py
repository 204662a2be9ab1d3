"""What the rendered objects say."""

from collections.abc import Callable
from typing import Any

import pytest

from stream.settings import Settings, load
from tests.chart.conftest import Objects
from tests.charts import EXAMPLES

Rendered = Callable[..., Objects]

CONTAINER = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def one(objects: Objects, kind: str) -> dict[str, Any]:
    """The only object of a kind."""
    (found,) = [thing for thing in objects if thing["kind"] == kind]
    return found


def pods(objects: Objects) -> list[dict[str, Any]]:
    """The pods that objects describe."""
    return [thing["spec"]["template"]["spec"] for thing in objects if thing["kind"] in ("StatefulSet", "Job")]


def worker(objects: Objects) -> dict[str, Any]:
    """The worker's container."""
    (found,) = one(objects, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def seconds(probe: dict[str, Any]) -> int:
    """For so long may a probe fail."""
    return int(probe["periodSeconds"] * probe["failureThreshold"])


@pytest.mark.parametrize("name", EXAMPLES)
def test_pods_have_no_rights(rendered: Rendered, name: str) -> None:
    """Every container of every pod is what the strictest level of Kubernetes asks for, without a token of the API."""
    for pod in pods(rendered(name)):
        assert (False, False) == (pod["automountServiceAccountToken"], pod["enableServiceLinks"])
        assert {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}.items() <= pod[
            "securityContext"
        ].items()
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert CONTAINER == container["securityContext"]
            assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"]["limits"])


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_secret_leaves_its_place(rendered: Rendered, name: str) -> None:
    """The chart makes no Secret, and no variable holds a password."""
    objects = rendered(name)
    assert [] == [thing for thing in objects if thing["kind"] == "Secret"]
    assert [] == [key for key in one(objects, "ConfigMap")["data"] if key.endswith("PASSWORD")]


def test_worker_takes_the_settings(rendered: Rendered, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the chart gives a worker is understood by it; numbers stay numbers, however large."""
    sets = ("settings.batch_max_events=1000000", "settings.idle_ttl_days=180.5", 'settings.event_topics=["a","b"]')
    objects = rendered("minimal", *sets)
    for key, value in one(objects, "ConfigMap")["data"].items():
        monkeypatch.setenv(key, value)
    assert ["INTEREST_INSTANCE_ID"] == [variable["name"] for variable in worker(objects)["env"]]
    expected = {
        "broker": "kafka:9092",
        "event_topics": ("a", "b"),
        "batch_max_events": 1_000_000,
        "idle_ttl_days": 180.5,
        "health_address": "0.0.0.0:9404",
        "provider": "cpu",
    }
    settings = load()
    assert expected == {name: getattr(settings, name) for name in expected}
    assert ("/data", "/model/bundle") == (str(settings.data_dir), str(settings.model))


def test_all_settings_reach_the_worker(rendered: Rendered) -> None:
    """With every option on, each setting is given but those of the pod, of a Secret, or of tokens only."""
    given = set(one(rendered("all-on"), "ConfigMap")["data"])
    missing = {name for name in Settings.model_fields if f"INTEREST_{name.upper()}" not in given}
    assert {"instance_id", "sasl_username", "sasl_password", "sasl_token_provider", "ssl_key_password"} == missing


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_understood(rendered: Rendered, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker takes the environment of each example, the ways to the brokers included."""
    objects = rendered(name)
    for key, value in one(objects, "ConfigMap")["data"].items():
        monkeypatch.setenv(key, value)
    for variable in worker(objects)["env"]:
        monkeypatch.setenv(variable["name"], "from elsewhere")
    assert {"minimal": "plaintext"}.get(name, "sasl_ssl") == load().security_protocol


@pytest.mark.parametrize("name", EXAMPLES)
def test_threads_are_left_to_the_worker(rendered: Rendered, name: str) -> None:
    """O01: a worker counts cores by quota and affinity; the chart gives a quota, and keeps numpy from counting more."""
    objects = rendered(name)
    data = one(objects, "ConfigMap")["data"]
    assert ("1", "1") == (data["OMP_NUM_THREADS"], data["OPENBLAS_NUM_THREADS"])
    assert "cpu" in worker(objects)["resources"]["limits"]
    assert "INTEREST_ENCODER_THREADS" not in data or name == "all-on"


@pytest.mark.parametrize("name", EXAMPLES)
def test_probes(rendered: Rendered, name: str) -> None:
    """O05: each probe has its path on the metrics port; a start may take a recovery; grace is longer than a drain."""
    objects = rendered(name)
    container = worker(objects)
    kinds = {"startupProbe": "/startupz", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    assert kinds == {kind: container[kind]["httpGet"]["path"] for kind in kinds}
    assert {"metrics"} == {container[kind]["httpGet"]["port"] for kind in kinds}
    assert {"all-on": 3605}.get(name, 1800) == seconds(container["startupProbe"])
    data = one(objects, "ConfigMap")["data"]
    assert float(data["INTEREST_DRAIN_S"]) < pods(objects)[0]["terminationGracePeriodSeconds"]
    port = container["ports"][0]["containerPort"]
    assert data["INTEREST_HEALTH_ADDRESS"].endswith(f":{port}")


def test_state_is_a_volume_a_pod(rendered: Rendered) -> None:
    """RocksDB has a claim for each pod, the store in memory none."""
    assert ["data"] == [
        claim["metadata"]["name"] for claim in one(rendered("minimal"), "StatefulSet")["spec"]["volumeClaimTemplates"]
    ]
    in_memory = one(rendered("hpa"), "StatefulSet")["spec"]
    assert "volumeClaimTemplates" not in in_memory
    assert {"data", "tmp", "model", "kafka"} == {volume["name"] for volume in in_memory["template"]["spec"]["volumes"]}


@pytest.mark.parametrize("name", EXAMPLES)
def test_mounts_have_volumes(rendered: Rendered, name: str) -> None:
    """What is mounted is there, and what is there is mounted."""
    for thing in rendered(name):
        if thing["kind"] in ("StatefulSet", "Job"):
            pod = thing["spec"]["template"]["spec"]
            claims = [claim["metadata"]["name"] for claim in thing["spec"].get("volumeClaimTemplates", [])]
            containers = [*pod["containers"], *pod.get("initContainers", [])]
            mounted = {mount["name"] for container in containers for mount in container["volumeMounts"]}
            assert sorted(mounted) == sorted([*claims, *(volume["name"] for volume in pod["volumes"])])


@pytest.mark.parametrize(
    ("name", "sets", "folder", "command"),
    [
        ("minimal", (), "/model/bundle", ["cp", "-R", "/bundle/.", "/model/bundle"]),
        ("volume", (), "/model/shop", None),
        ("all-on", (), "s3://models/shop", None),
        (
            "all-on",
            ("model.url.follow=false",),
            "/model/bundle",
            ["model", "fetch", "s3://models/shop", "/model/bundle", "--bundle-version", "f3fb8030f9cd0451"],
        ),
    ],
)
def test_bundle_comes(
    rendered: Rendered, name: str, sets: tuple[str, ...], folder: str, command: list[str] | None
) -> None:
    """A bundle is copied, mounted, fetched before the start, or fetched by the worker."""
    objects = rendered(name, *sets)
    inits = pods(objects)[0].get("initContainers", [])
    assert folder == one(objects, "ConfigMap")["data"]["INTEREST_MODEL"]
    assert [command] == [init.get("command") or init["args"] for init in inits] or (command, inits) == (None, [])


def test_a_change_rolls_the_pods(rendered: Rendered) -> None:
    """Another setting is another pod template."""
    notes = [
        one(rendered("minimal", *sets), "StatefulSet")["spec"]["template"]["metadata"]["annotations"]
        for sets in ((), ("settings.drain_s=20",))
    ]
    assert notes[0]["checksum/config"] != notes[1]["checksum/config"]


def test_gpu(rendered: Rendered) -> None:
    """A GPU is asked for, its taint borne, its image taken and the model put on it."""
    objects = rendered("minimal", "gpu.enabled=true")
    container = worker(objects)
    assert (
        1 == container["resources"]["limits"]["nvidia.com/gpu"] == container["resources"]["requests"]["nvidia.com/gpu"]
    )
    assert "interest-stream:0.1.0-gpu" == container["image"]
    assert "cuda" == one(objects, "ConfigMap")["data"]["INTEREST_PROVIDER"]
    assert [["nvidia.com/gpu"], ["nvidia.com/gpu"]] == [
        [bear["key"] for bear in pod["tolerations"]] for pod in pods(objects)
    ]


def test_network_is_closed(rendered: Rendered) -> None:
    """In: metrics for who is named, else nothing. Out: DNS, brokers at their ports, object storage where it is used."""
    minimal = one(rendered("minimal"), "NetworkPolicy")["spec"]
    assert "ingress" not in minimal
    assert [[53, 53], [9092]] == [[port["port"] for port in way["ports"]] for way in minimal["egress"]]
    all_on = one(rendered("all-on"), "NetworkPolicy")["spec"]
    assert [[9500]] == [[port["port"] for port in way["ports"]] for way in all_on["ingress"]]
    ways = [[port["port"] for port in way["ports"]] for way in all_on["egress"]]
    assert [[53, 53], [9094, 9095, 9093], [443, 9000], [8443]] == ways


def test_topics_are_made_first(rendered: Rendered) -> None:
    """The job runs before anything else is there and asks for the partitions that the chart counts on."""
    job = one(rendered("all-on"), "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert "pre-install,pre-upgrade" == job["metadata"]["annotations"]["helm.sh/hook"]
    assert ["topics", "create", "--partitions=12", "--replication=3"] == container["args"]
    assert ["more"] == [source["secretRef"]["name"] for source in container["envFrom"]]
    assert {"configMapRef"}.isdisjoint(*container["envFrom"])


def test_two_fleets_side_by_side(rendered: Rendered) -> None:
    """Two releases in one namespace share no object and select none of each other's pods."""
    first, second = rendered("minimal"), rendered("minimal", release="shop-b")
    assert set() == {(t["kind"], t["metadata"]["name"]) for t in first} & {
        (t["kind"], t["metadata"]["name"]) for t in second
    }
    labels = one(second, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    chosen = [
        one(first, "Service")["spec"]["selector"],
        *(one(first, kind)["spec"]["selector"]["matchLabels"] for kind in ("StatefulSet", "PodDisruptionBudget")),
        one(first, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    assert [] == [selector for selector in chosen if selector.items() <= labels.items()]
