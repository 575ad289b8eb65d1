"""Publishing while Kafka is down, replaced, silent or refuses requests, or lacks topics; on a mock cluster."""

import asyncio
from dataclasses import replace

import pytest
from aiokafka.errors import KafkaError

from raingauge.errors import HandoffUnavailable, Permanent
from raingauge.messaging.kafka import KafkaPublisher, Timeouts, ensure_topics, topics_of
from tests.contract.messaging_helpers import (
    CLOCK,
    QUICK,
    KafkaPlace,
    Road,
    cluster_at,
    eventually,
    nothing_is_left,
    receive,
    values,
)
from tests.contract.messaging_mock_cluster import PRODUCE, MockCluster
from tests.support.servers import free_port

ALERT = replace(QUICK, quiet_s=0.6, check_every_s=0.3)
TOPIC_AUTHORIZATION_FAILED, OUT_OF_ORDER_SEQUENCE, INVALID_PRODUCER_EPOCH = 29, 45, 47


@pytest.fixture
def timeouts() -> Timeouts:
    return ALERT


async def delivered(place: KafkaPlace, count: int) -> list[bytes | None]:
    async with place.subscription() as subscription:
        return values(await receive(subscription, count))


async def test_entering_while_kafka_is_down_waits_for_nothing_and_publishing_waits(
    cluster: MockCluster, place: KafkaPlace, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.go_down()
    async with place.publisher() as publisher:
        publishing = asyncio.create_task(publisher.publish(place.topic, b"key", b"1"))
        await eventually(lambda: "handoff.start_failed" in caplog.messages)
        assert not publishing.done()
        cluster.come_up()
        await publishing
    assert await delivered(place, 1) == [b"1"]


async def test_a_message_under_way_outlasts_an_outage(
    cluster: MockCluster, place: KafkaPlace, caplog: pytest.LogCaptureFixture
) -> None:
    async with place.publisher() as publisher:
        await publisher.publish(place.topic, b"key", b"1")
        cluster.go_down()
        publishing = asyncio.create_task(publisher.publish(place.topic, b"key", b"2"))
        await eventually(lambda: "handoff.quiet" in caplog.messages)
        cluster.come_up()
        await publishing
    assert await delivered(place, 2) == [b"1", b"2"]


async def test_when_the_brokers_have_moved_a_message_under_way_is_unknown_and_the_next_arrives(
    cluster: MockCluster, place: KafkaPlace
) -> None:
    with MockCluster() as elsewhere:
        elsewhere.make_topic(place.topic)
        async with Road(cluster.server) as road:
            place.server = road.address
            async with place.publisher() as publisher:
                await publisher.publish(place.topic, b"key", b"1")
                road.server = elsewhere.server
                cluster.go_down()
                with pytest.raises(HandoffUnavailable):
                    await publisher.publish(place.topic, b"key", b"2")
                await publisher.publish(place.topic, b"key", b"3")


async def test_a_message_larger_than_allowed_is_refused_at_once(place: KafkaPlace) -> None:
    async with place.publisher(max_message_bytes=1000) as publisher:
        with pytest.raises(Permanent):
            await publisher.publish(place.topic, b"key", b"x" * 1000)
        await publisher.publish(place.topic, b"key", b"x" * 500)


@pytest.mark.parametrize("error", [OUT_OF_ORDER_SEQUENCE, INVALID_PRODUCER_EPOCH, TOPIC_AUTHORIZATION_FAILED])
async def test_after_a_fatal_error_the_outcome_is_unknown_and_a_new_client_goes_on(
    cluster: MockCluster, place: KafkaPlace, error: int
) -> None:
    async with place.publisher() as publisher:
        cluster.answer(PRODUCE, error)
        with pytest.raises(HandoffUnavailable):
            await publisher.publish(place.topic, b"key", b"1")
        await publisher.publish(place.topic, b"key", b"2")


async def test_when_aiokafkas_sender_has_died_a_new_client_takes_the_message(place: KafkaPlace) -> None:
    async with place.publisher() as publisher:
        await publisher.publish(place.topic, b"key", b"1")
        publisher._active.result().producer._message_accumulator.fail_all(KafkaError("as a dead sender does"))
        await publisher.publish(place.topic, b"key", b"2")
    assert await delivered(place, 2) == [b"1", b"2"]


async def test_publishing_waits_for_the_topic_to_be_made(
    cluster: MockCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "raingauge.messaging")
    place = KafkaPlace(cluster.server, 100, ALERT)
    async with place.publisher() as publisher:
        publishing = asyncio.create_task(publisher.publish(place.topic, b"key", b"1"))
        await eventually(lambda: "handoff.publish_waits" in caplog.messages)
        assert not publishing.done()
        cluster.make_topic(place.topic)
        await publishing


async def test_topics_that_the_broker_cannot_make_are_waited_for_and_enough_once_they_exist(
    cluster: MockCluster, caplog: pytest.LogCaptureFixture
) -> None:
    there, topics = cluster_at(cluster.server), topics_of("cities", 12)
    ensuring = asyncio.create_task(ensure_topics(there, topics, CLOCK, QUICK))
    await eventually(lambda: "handoff.start_failed" in caplog.messages)
    cluster.make_topic("cities", 12)
    cluster.make_topic("cities.dead")
    await ensuring
    await ensure_topics(there, topics, CLOCK, QUICK)
    assert nothing_is_left()


async def test_giving_up_waiting_does_not_disturb_the_others(cluster: MockCluster, place: KafkaPlace) -> None:
    async with place.publisher() as publisher:
        await publisher.publish(place.topic, b"key", b"1")
        cluster.go_down()
        impatient, patient = (asyncio.create_task(publisher.publish(place.topic, b"key", b"%d" % n)) for n in (2, 3))
        await CLOCK.sleep(0)
        impatient.cancel()
        cluster.come_up()
        await patient


async def test_closing_while_kafka_was_never_there_is_clean(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(4):
        async with KafkaPublisher(cluster_at(f"127.0.0.1:{free_port()}"), CLOCK) as publisher:
            publishing = asyncio.create_task(publisher.publish("cities", b"key", b"1"))
            await eventually(lambda: "handoff.start_failed" in caplog.messages)
    with pytest.raises(HandoffUnavailable):
        await publishing
    assert nothing_is_left()


async def test_closing_while_kafka_is_silent_is_clean() -> None:
    async with Road(None) as silence, asyncio.timeout(4), KafkaPublisher(cluster_at(silence.address), CLOCK):
        await eventually(lambda: silence.visits > 0)
    await eventually(nothing_is_left)


async def test_closing_after_kafka_went_down_is_clean(
    cluster: MockCluster, place: KafkaPlace, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(4):
        async with place.publisher() as publisher:
            await publisher.publish(place.topic, b"key", b"1")
            cluster.go_down()
            publishing = asyncio.create_task(publisher.publish(place.topic, b"key", b"2"))
            await eventually(lambda: "handoff.quiet" in caplog.messages)
    with pytest.raises(HandoffUnavailable):
        await publishing
    assert nothing_is_left()


async def test_a_closed_publisher_says_so(place: KafkaPlace) -> None:
    async with place.publisher() as publisher:
        await publisher.publish(place.topic, b"key", b"1")
    with pytest.raises(HandoffUnavailable):
        await publisher.publish(place.topic, b"key", b"2")
    assert nothing_is_left()
