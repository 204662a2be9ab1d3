"""deploy/compose.yaml beside what it names: settings, commands, files, versions; and what it opens."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from stream.commands import interest
from stream.settings import PREFIX, load

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("interest-stream:")}
WORKERS = {name: service for name, service in OURS.items() if "command" not in service}
MOUNTS = [(name, mount) for name, service in SERVICES.items() for mount in service.get("volumes", [])]


def test_services() -> None:
    """A broker, its topics, two workers, a shop, Prometheus and Grafana, each of a version that is named."""
    assert {"broker", "topics", "worker-1", "worker-2", "shop", "prometheus", "grafana"} == SERVICES.keys()
    assert {"worker-1", "worker-2"} == WORKERS.keys()
    for service in SERVICES.values():
        assert re.search(r":v?[0-9]+\.[0-9]+\.[0-9]+$", service["image"])


def test_versions() -> None:
    """The image is of this version of the project, the broker the one that the tests run."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {f"interest-stream:{version}"} == {service["image"] for service in OURS.values()}
    kafka = re.search(r"<artifactId>kafka_.*\s*<version>(.*)</version>", (DEPLOY / "kafka" / "pom.xml").read_text())
    assert kafka is not None
    assert f"apache/kafka:{kafka[1]}" == SERVICES["broker"]["image"]


@pytest.mark.parametrize("name", OURS)
def test_settings(name: str) -> None:
    """Every variable is a setting, and its value one that the setting takes."""
    environment = SERVICES[name]["environment"]
    assert all(key.startswith(PREFIX) for key in environment)
    load({key.removeprefix(PREFIX).lower(): value for key, value in environment.items()})


@pytest.mark.parametrize("name", OURS)
def test_commands(name: str) -> None:
    """The command exists and takes these options."""
    arguments = SERVICES[name].get("command", ["worker"])
    command: click.Command = interest
    context = click.Context(command)
    while isinstance(command, click.Group):
        command_name, *arguments = arguments
        found = command.get_command(context, command_name)
        assert found is not None, command_name
        command = found
    command.make_context(command.name, list(arguments))


@pytest.mark.parametrize(("name", "mount"), MOUNTS)
def test_mounts(name: str, mount: str) -> None:
    """A file or folder of the project is there and mounted read-only; other volumes are declared."""
    source, _, options = mount.partition(":")
    if source.startswith("."):
        assert (DEPLOY / source).exists(), f"{name}: {source}"
        assert options.endswith(":ro")
    else:
        assert source in COMPOSE["volumes"]


def test_contained() -> None:
    """No service has a capability or may gain one; what is ours cannot write its root; ports are of 127.0.0.1."""
    for name, service in SERVICES.items():
        assert ["ALL"] == service["cap_drop"], name
        assert ["no-new-privileges:true"] == service["security_opt"], name
        assert not {"privileged", "cap_add", "network_mode", "pid", "user"} & service.keys(), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    assert all(service["read_only"] for service in OURS.values())


def test_workers() -> None:
    """Each has a volume of its own, and more time to stop than a drain takes."""
    data = [volume for service in WORKERS.values() for volume in service["volumes"] if volume.endswith(":/data")]
    assert len(WORKERS) == len(set(data))
    for service in WORKERS.values():
        assert int(service["stop_grace_period"].removesuffix("s")) > load().drain_s
        assert "http://127.0.0.1:9404/readyz" in service["healthcheck"]["test"][-1]


def test_prometheus() -> None:
    """Both workers are scraped where they serve, and the rules are where they are mounted."""
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    port = SERVICES["worker-1"]["environment"]["INTEREST_HEALTH_ADDRESS"].rpartition(":")[2]
    (scraped,) = config["scrape_configs"][0]["static_configs"]
    assert [f"{name}:{port}" for name in WORKERS] == scraped["targets"]
    mounted = [volume.split(":")[1] for volume in SERVICES["prometheus"]["volumes"]]
    assert all(f"/etc/prometheus/{rules}" in mounted for rules in config["rule_files"])


def test_prometheus_takes_it(tmp_path: Path) -> None:
    """promtool finds nothing wrong with configuration and rules, laid as the containers see them."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not here; Debian: apt install prometheus")
    shutil.copy(DEPLOY / "prometheus" / "prometheus.yml", tmp_path)
    shutil.copytree(DEPLOY / "alerts", tmp_path / "alerts")
    done = subprocess.run(
        ["promtool", "check", "config", str(tmp_path / "prometheus.yml")], capture_output=True, text=True, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)


def test_grafana() -> None:
    """The dashboard lies where it is looked for, its source is the Prometheus, and a visitor may only look."""
    grafana = SERVICES["grafana"]
    mounted = [volume.split(":")[1] for volume in grafana["volumes"]]
    provider = yaml.safe_load((DEPLOY / "grafana" / "dashboards.yaml").read_text())["providers"][0]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home in mounted
    assert str(Path(home).parent) == provider["options"]["path"]
    source = yaml.safe_load((DEPLOY / "grafana" / "datasource.yaml").read_text())["datasources"][0]
    assert "http://prometheus:9090" == source["url"]
    assert "Viewer" == grafana["environment"]["GF_AUTH_ANONYMOUS_ORG_ROLE"]
    assert "true" == grafana["environment"]["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"]
