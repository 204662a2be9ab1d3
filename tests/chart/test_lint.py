"""What judges charts and objects finds nothing wrong, with every option on and with none."""

import json
import sys
from pathlib import Path

import pytest

from tests.chart.conftest import VERSIONS, run, template, tool
from tests.charts import CHART, EXAMPLES, example


@pytest.mark.parametrize("name", EXAMPLES)
def test_helm_lints(name: str) -> None:
    """Helm's own checks, warnings included."""
    result = run(tool("helm"), "lint", "--strict", str(CHART), "--values", str(example(name)))
    assert 0 == result.returncode, result.stdout


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_kubernetes_knows_every_field(name: str, version: str, tmp_path: Path) -> None:
    """Each object fits the schema of the lowest and the highest version, and has no field besides."""
    pytest.importorskip("kubernetes_validate", reason="`make chart-test` installs it")
    objects = tmp_path / "objects.yaml"
    objects.write_text(template(name).stdout)
    result = run(sys.executable, "-m", "kubernetes_validate", "--strict", "-k", version, str(objects))
    told = result.stdout + result.stderr
    assert (0, True) == (result.returncode, "passed for resource statefulset/" in told), told


@pytest.mark.parametrize("name", ["minimal", "all-on", "hpa"])
def test_kube_score_has_no_critical(name: str) -> None:
    """Limits, probes, users, policies and the rest; volume.yaml leaves policy and budget out."""
    # It wants images pulled at every start. A tag of ours never changes, and a start must not hang on the registry.
    ignored = ("--ignore-test", "container-image-pull-policy")
    command = (tool("kube-score"), "score", "--output-format", "json", "--kubernetes-version", "v1.27", *ignored, "-")
    result = run(*command, given=template(name).stdout)
    judged = json.loads(result.stdout)
    critical = [
        f"{thing['object_name']}: {check['check']['id']}: {check['comments']}"
        for thing in judged
        for check in thing["checks"]
        if not check["skipped"] and check["grade"] == 1
    ]
    assert [] == critical
    assert {"StatefulSet", "Job"} <= {thing["type_meta"]["kind"] for thing in judged}
