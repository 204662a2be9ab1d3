"""Values that do not fit together are refused by one line, before anything reaches a cluster."""

import pytest

from tests.chart.conftest import run, template, tool
from tests.charts import CHART

REFUSED = {
    "more workers than partitions": (
        ("replicas=5",),
        "replicas: expected at most one for each of the 4 partitions, got 5; "
        "carry the topics to more partitions first (interest topics grow)",
    ),
    "a least number above the partitions": (
        ('autoscaling={"kind":"hpa","minReplicas":5}',),
        "autoscaling.minReplicas: expected at most 4 (the lesser of maxReplicas and partitions), got 5",
    ),
    "a least number above the most": (
        ('autoscaling={"kind":"keda","minReplicas":3,"maxReplicas":2}',),
        "autoscaling.minReplicas: expected at most 2 (the lesser of maxReplicas and partitions), got 3",
    ),
    "grace as long as a drain": (
        ("settings.drain_s=45",),
        "terminationGracePeriodSeconds: expected more than settings.drain_s (45), got 45; a drain would be killed",
    ),
    "no broker": (("kafka.brokers=[]",), "kafka.brokers: name at least one, HOST:PORT"),
    "no bundle": (
        ('kafka.brokers=["kafka:9092"]', "model={}"),
        "model: name where the bundle comes from, one of image, volume, url",
    ),
    "a URL without version": (
        ('kafka.brokers=["kafka:9092"]', 'model.url={"from":"s3://models/shop"}'),
        "model.url.version: name the bundle version, or set model.url.follow",
    ),
    "SASL without mechanism": (
        ('kafka.securityProtocol="sasl_ssl"',),
        "kafka.auth.mechanism: expected one, as kafka.securityProtocol is sasl_ssl",
    ),
    "a mechanism without Secret": (
        ('kafka.securityProtocol="sasl_ssl"', 'kafka.auth.mechanism="PLAIN"'),
        "kafka.auth.existingSecret: expected the name of a Secret, as kafka.auth.mechanism is PLAIN",
    ),
    "tokens without provider": (
        ('kafka.securityProtocol="sasl_ssl"', 'kafka.auth.mechanism="OAUTHBEARER"'),
        "kafka.auth.tokenProvider: expected module:function and no existingSecret, "
        "as kafka.auth.mechanism is OAUTHBEARER",
    ),
    "a user without SASL": (
        ('kafka.auth.existingSecret="user"',),
        "kafka.securityProtocol: expected sasl_ssl or sasl_plaintext, as kafka.auth is given, got plaintext",
    ),
    "certificates without TLS": (
        ('kafka.ssl.caSecret="ca"',),
        "kafka.securityProtocol: expected ssl or sasl_ssl, as kafka.ssl is given, got plaintext",
    ),
    "a monitor that is kept out": (
        ("metrics.serviceMonitor.enabled=true",),
        "networkPolicy.metricsFrom: name who scrapes, as metrics.serviceMonitor is on",
    ),
    "tokens and KEDA": (
        (
            'kafka.securityProtocol="sasl_ssl"',
            'kafka.auth={"mechanism":"OAUTHBEARER","tokenProvider":"a:b"}',
            'autoscaling.kind="keda"',
        ),
        "autoscaling.authenticationRef: name a TriggerAuthentication of yours, "
        "KEDA cannot use the worker's token provider",
    ),
}


@pytest.mark.parametrize(("sets", "expected"), REFUSED.values(), ids=REFUSED)
def test_refused(sets: tuple[str, ...], expected: str) -> None:
    """O04 and others: each refusal alone, in its own words."""
    has_model = any(value.startswith("model") for value in sets)
    result = template(None if has_model else "minimal", *sets)
    assert 1 == result.returncode
    assert [f"wrong values: {expected}"] == [
        line[line.index("wrong values") :] for line in result.stderr.splitlines() if "wrong values" in line
    ]


def test_all_problems_are_told_at_once() -> None:
    """Who names nothing hears of both that are missing."""
    result = template(None)
    assert 1 == result.returncode
    assert "HOST:PORT | model: name where" in result.stderr


def test_schema_is_heeded() -> None:
    """Helm itself refuses what the schema does; the kinds are in tests/unit/test_chart.py."""
    result = template("minimal", "replica=2")
    assert 1 == result.returncode
    assert "additional properties 'replica' not allowed" in result.stderr


def test_old_clusters_are_refused() -> None:
    """A version below the lowest that the chart is checked for."""
    result = run(tool("helm"), "template", "shop", str(CHART), "--kube-version", "1.26.9")
    assert "chart requires kubeVersion: >=1.27.0-0" in result.stderr
