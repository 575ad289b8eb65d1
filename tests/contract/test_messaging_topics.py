"""Ensuring topics on a broker that can neither create topics nor describe their settings; on a mock cluster."""

import asyncio

import pytest

from raingauge.messaging.kafka import ensure_topics, topics_of
from tests.contract.messaging_helpers import CLOCK, QUICK, cluster_at, eventually, nothing_is_left
from tests.contract.messaging_mock_cluster import MockCluster


async def test_topics_that_exist_are_enough() -> None:
    with MockCluster() as cluster:
        cluster.make_topic("cities", 12)
        cluster.make_topic("cities.dead")
        await ensure_topics(cluster_at(cluster.server), topics_of("cities", 12), CLOCK, QUICK)
    assert nothing_is_left()


async def test_topics_that_cannot_be_made_are_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with MockCluster() as cluster:
        ensuring = asyncio.create_task(ensure_topics(cluster_at(cluster.server), topics_of("cities", 12), CLOCK, QUICK))
        await eventually(lambda: "handoff.start_failed" in caplog.messages)
        cluster.make_topic("cities", 12)
        cluster.make_topic("cities.dead")
        await ensuring
