"""Fixtures of the tests on a mock cluster. A module that uses `place` defines a fixture `timeouts`."""

from collections.abc import Iterator

import pytest

from raingauge.messaging.kafka import Timeouts
from tests.contract.messaging_helpers import KafkaPlace
from tests.contract.messaging_mock_cluster import MockCluster


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    """A cluster for one test, which may disturb it."""
    with MockCluster() as cluster:
        yield cluster


@pytest.fixture
def place(cluster: MockCluster, timeouts: Timeouts) -> KafkaPlace:
    """A topic on that cluster."""
    place = KafkaPlace(cluster.server, 100, timeouts)
    cluster.make_topic(place.topic)
    return place
