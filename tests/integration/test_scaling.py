"""What scales workers by lag sees lag, and nothing else."""

from pathlib import Path

from kafka import KafkaAdminClient

from tests.bundles import random_bundle
from tests.integration.conftest import Names
from tests.integration.workers import Worker, create_topics, wait_for


def test_idle_partitions_have_a_commit(names: Names, tmp_path: Path) -> None:
    """A partition without any event is committed once it is assigned: none looks like all lag to a scaler (O02)."""
    model = random_bundle(tmp_path / "model", item_ids=["a"], item_categories=["c"]).folder
    create_topics(names)

    with Worker(names, model, tmp_path / "state") as worker:
        worker.wait_ready()
        admin = KafkaAdminClient(bootstrap_servers=names.broker)
        try:
            wait_for(lambda: commits(admin, names) == {0: 0, 1: 0, 2: 0, 3: 0}, 20, [worker])
        finally:
            admin.close()
        assert 0 == worker.stop()


def commits(admin: KafkaAdminClient, names: Names) -> dict[int, int]:
    """The committed offset of each partition of the events that has one."""
    found = admin.list_group_offsets(names.app_id)[names.app_id]
    return {tp.partition: at.offset for tp, at in found.items() if tp.topic == names.event_topic and at.offset >= 0}
