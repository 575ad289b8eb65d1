"""Fixtures of the tests on a mock cluster. A module that wants `place` says by a fixture `timeouts` how alert it is."""

from collections.abc import Iterator

import pytest

from raingauge.messaging.kafka import Timeouts
from tests.contract.messaging_helpers import KafkaPlace
from tests.contract.messaging_mock_cluster import MockCluster


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    """A cluster for one test, which may do to it what it likes."""
    with MockCluster() as cluster:
        yield cluster


@pytest.fixture
def place(cluster: MockCluster, timeouts: Timeouts) -> KafkaPlace:
    """A topic on it."""
    place = KafkaPlace(cluster.server, 100, timeouts)
    cluster.make_topic(place.topic)
    return place
