"""Topics that change under a worker, which must not go on then.

Keys move when partitions become more: it would work on half of a user's window. A topic that is deleted may be made
anew: it would take the new one's offsets for the old one's, and never see what lies before them.
"""

from collections.abc import Callable, Container, Iterable, Mapping

from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import TopicAuthorizationFailedError

from stream import partitioning
from stream.ending import EXIT_FAILURE, EXIT_MOVED, end
from stream.table import SequenceTable
from stream.topics import GROW

SAMPLE_USERS = 200
_VERSION = slice(1, 9)  # of a table value
_MARKER = bytes(8)


def watch(
    cluster: ClusterMetadata,
    expected: Mapping[str, int],
    refused: Callable[[TopicAuthorizationFailedError], object],
    lasting: Container[str] = (),
) -> None:
    """End the process when a client knows of other partition counts, now or at any later update of what it knows.

    Of `lasting` topics the client asks at each update: one that it knew and knows no longer was deleted, which ends the
    process too. Others may come and go in what it knows. `refused` is called with those that it may not see (any more):
    a group that begins anew then gives their partitions to nobody, and no fetch would ever tell.
    """
    known: set[str] = set()

    def look(cluster: ClusterMetadata) -> None:
        unseen = [topic for topic in cluster.unauthorized_topics if topic in lasting]
        if unseen:
            refused(TopicAuthorizationFailedError(unseen))
        for topic, count in expected.items():
            partitions = cluster.partitions_for_topic(topic)
            if partitions:
                known.add(topic)
            elif topic in known and topic in lasting and topic not in cluster.unauthorized_topics:
                end(EXIT_FAILURE, "topic %s was deleted; ends, to look at the topics afresh", topic)
            if partitions and len(partitions) != count:
                end(
                    EXIT_MOVED,
                    "keys have moved: topic %s has %d partitions, %d expected; stop all workers and run %s",
                    topic,
                    len(partitions),
                    count,
                    GROW,
                )

    cluster.add_listener(look)
    look(cluster)


def check_table(table: SequenceTable, partitions: Iterable[int], count: int) -> None:
    """End the process if users of the table's `partitions` lie where fewer than `count` would have put them.

    Who was erased does not count: the marker lies on every partition.
    """
    for partition in partitions:
        some = table.store.scan(partition, None, SAMPLE_USERS)
        keys = [key for key, value in some if value[_VERSION] != _MARKER]
        former = partitioning.moved_from(keys, partition, count)
        if former is not None:
            end(
                EXIT_MOVED,
                "keys have moved: the users of %s/%d lie there for %d partitions, the topics have %d; stop all workers "
                "and run %s",
                table.changelog_topic_name,
                partition,
                former,
                count,
                GROW,
            )
