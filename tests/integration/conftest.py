"""One real broker for the whole session, fresh names for every test."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from stream.broker import Broker
from stream.security import Cluster
from tests.conftest import TOLD_BROKER


@dataclass(frozen=True)
class Names:
    """Topic and group names that no other test uses, and the environment that gives them to a command."""

    broker: str
    app_id: str
    event_topic: str
    update_topic: str
    deadletter_topic: str

    @property
    def cluster(self) -> Cluster:
        """The broker as a client reaches it."""
        return Cluster(self.broker)

    @property
    def changelog_topic(self) -> str:
        """The changelog that belongs to `app_id`."""
        return f"{self.app_id}-users-changelog"

    @property
    def environment(self) -> dict[str, str]:
        """The INTEREST_ variables of these names."""
        return {
            "INTEREST_BROKER": self.broker,
            "INTEREST_APP_ID": self.app_id,
            "INTEREST_EVENT_TOPICS": self.event_topic,
            "INTEREST_UPDATE_TOPIC": self.update_topic,
            "INTEREST_DEADLETTER_TOPIC": self.deadletter_topic,
        }


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    """HOST:PORT of a real broker; INTEREST_TEST_BROKER names one that runs already."""
    if TOLD_BROKER:
        yield TOLD_BROKER
        return
    with Broker() as own:
        yield own.address


@pytest.fixture
def names(broker: str) -> Names:
    """Names of this test alone."""
    tag = uuid.uuid4().hex[:12]
    return Names(broker, f"app-{tag}", f"events-{tag}", f"updates-{tag}", f"dead-{tag}")
