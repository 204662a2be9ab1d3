"""Reading a topic to its end."""

from kafka import KafkaProducer

from stream.connect import admin
from stream.consume import read_all
from tests.integration.conftest import Names


def test_transactions(names: Names) -> None:
    """Markers of transactions at the end of the log end the reading; what was aborted is not shown."""
    with admin(names.cluster) as client:
        client.create_topics(
            {names.event_topic: {"num_partitions": 2, "replication_factor": 1}}, wait_for_metadata=True
        )
    assert list(read_all(names.cluster, names.event_topic)) == []
    producer = KafkaProducer(bootstrap_servers=names.broker, transactional_id=names.app_id)
    producer.init_transactions()
    for value, keep in ((b"kept", True), (b"aborted", False)):
        producer.begin_transaction()
        producer.send(names.event_topic, value, partition=0)
        producer.commit_transaction() if keep else producer.abort_transaction()
    producer.close()
    assert [record.value for record in read_all(names.cluster, names.event_topic)] == [b"kept"]
