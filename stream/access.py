"""What a user may do with topics and groups, and the line that says what is missing and how it is granted."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import aiokafka.errors
import kafka.errors

from stream.errors import AccessError, BrokerError
from stream.security import Cluster
from stream.settings import Settings

#: Kafka's numbers of the errors, by what they are about.
KINDS = {29: "topic", 30: "group", 31: "cluster", 53: "transactional-id"}


class Need(NamedTuple):
    """One operation on one resource, in the words of `kafka-acls.sh`."""

    operation: str  # Read, Write, Create, Describe, DescribeConfigs, AlterConfigs, IdempotentWrite
    kind: str  # topic, group, transactional-id, cluster
    name: str  # of the cluster: empty


def needs_of(topics: Iterable[str], *operations: str) -> list[Need]:
    """Each operation on each topic."""
    return [Need(operation, "topic", topic) for topic in topics for operation in operations]


def worker_needs(settings: Settings) -> list[Need]:
    """All that a worker does, and the least that its user must be allowed."""
    kept = [settings.update_topic, settings.changelog_topic]  # written, and read by whoever takes a partition over
    return [
        *needs_of(settings.event_topics, "Read", "DescribeConfigs"),
        *needs_of(kept, "Read", "Write", "DescribeConfigs"),
        *needs_of([settings.deadletter_topic], "Write", "DescribeConfigs"),
        *needs_of([settings.shadow_topic] if settings.shadow_model else [], "Write", "DescribeConfigs"),
        Need("Read", "group", settings.app_id),
    ]


def lacking(needs: Iterable[Need], described: Mapping[str, Any]) -> list[Need]:
    """Those of `needs` that kafka-python's description of the resource does not allow. Some brokers do not tell."""
    allowed = {name.replace("_", "") for name in described.get("authorized_operations") or ()}
    return [need for need in needs if allowed and need.operation.upper() not in allowed]


def denied(broker: Cluster, needs: Iterable[Need]) -> AccessError:
    """The error that names every operation that is missing, and the commands that grant them."""
    needs = list(needs)
    user = broker.security.user
    missing = ", ".join(f"{need.operation} {need.kind} {need.name}".rstrip() for need in needs)
    by_resource: dict[tuple[str, str], list[str]] = {}
    for need in needs:
        by_resource.setdefault((need.kind, need.name), []).append(need.operation)
    base = f"kafka-acls.sh --bootstrap-server {broker} --add --allow-principal {broker.security.principal}"
    commands = [
        " ".join([base, *(f"--operation {operation}" for operation in operations), f"--{kind} {name}".rstrip()])
        for (kind, name), operations in by_resource.items()
    ]
    return AccessError(f"{user} may not {missing}: grant it by {' && '.join(commands)}")


def refusal(error: Exception, broker: Cluster, *needs: Need) -> AccessError | None:
    """The AccessError for an error of a client, of kafka-python or aiokafka; None: it is about something else.

    `needs` are what was being done; of these, those are missing that are of the kind which the error is about.
    """
    if not isinstance(error, kafka.errors.KafkaError | aiokafka.errors.KafkaError):
        return None
    if "CERTIFICATE_VERIFY_FAILED" in str(error):  # at first it was trusted: by another name
        return AccessError(
            f"broker {broker} sends its clients to a name that its certificate is not for: {error}; change its "
            "advertised.listeners or its certificate"
        )
    kind = KINDS.get(getattr(error, "errno", None) or 0)
    if kind is None:
        return None
    about = [need for need in needs if need.kind == kind]
    told = error.args[0] if error.args else ()
    names = {told} if isinstance(told, str) else set(told)  # both clients tell the names, one or several
    about = [need for need in about if need.name in names] or about
    return denied(broker, about) if about else AccessError(f"{broker.security.user} may not do this: {error}")


def explain(error: Exception, broker: Cluster, *needs: Need) -> BrokerError:
    """The BrokerError for any error of a client; see `refusal`."""
    return refusal(error, broker, *needs) or BrokerError(f"broker {broker}: {error or type(error).__name__}")
