"""Receiving during rebalances, and while Kafka is down, replaced, silent or refuses requests; on a mock cluster."""

import asyncio
from dataclasses import replace

import confluent_kafka
import pytest

from raingauge.messaging.kafka import Timeouts
from tests.contract.messaging_helpers import (
    QUICK,
    KafkaPlace,
    Road,
    comes_nothing,
    eventually,
    nothing_is_left,
    receive,
    values,
)
from tests.contract.messaging_mock_cluster import HEARTBEAT, OFFSET_COMMIT, MockCluster
from tests.support.servers import free_port

ALERT = replace(QUICK, quiet_s=0.7, check_every_s=0.6)
OFFSET_METADATA_TOO_LARGE, REBALANCE_IN_PROGRESS, GROUP_AUTHORIZATION_FAILED = 12, 27, 30


@pytest.fixture
def timeouts() -> Timeouts:
    return ALERT


async def publish(place: KafkaPlace, *messages: bytes) -> None:
    async with place.publisher() as publisher:
        for message in messages:
            await publisher.publish(place.topic, b"key", message)


async def test_entering_while_kafka_is_down_waits_for_nothing_and_receiving_waits(
    cluster: MockCluster, place: KafkaPlace, caplog: pytest.LogCaptureFixture
) -> None:
    await publish(place, b"1")
    cluster.go_down()
    async with place.subscription() as subscription:
        receiving = asyncio.create_task(receive(subscription, 1))
        await eventually(lambda: "handoff.start_failed" in caplog.messages)
        assert not subscription.connected
        assert not receiving.done()
        cluster.come_up()
        assert values(await receiving) == [b"1"]
        assert subscription.connected


async def test_receiving_waits_for_the_topic_to_be_made(cluster: MockCluster, caplog: pytest.LogCaptureFixture) -> None:
    place = KafkaPlace(cluster.server, 100, ALERT)
    async with place.subscription() as subscription:
        await eventually(lambda: "handoff.start_failed" in caplog.messages)
        cluster.make_topic(place.topic, 3)
        await publish(place, b"1")
        assert values(await receive(subscription, 1)) == [b"1"]


async def test_after_a_rebalance_what_is_not_settled_comes_again_and_stale_acknowledgements_are_void(
    cluster: MockCluster, place: KafkaPlace
) -> None:
    await publish(place, b"1", b"2", b"3")
    async with place.subscription() as subscription:
        before = await receive(subscription, 3)
        for settled in before[:2]:
            subscription.acknowledge(settled)
        cluster.answer(HEARTBEAT, REBALANCE_IN_PROGRESS)
        assert values(await receive(subscription, 1)) == [b"3"]
        subscription.acknowledge(before[2])  # of the epoch before: it may be another member's by now
    async with place.subscription() as subscription:
        assert values(await receive(subscription, 1)) == [b"3"]


async def test_a_commit_that_fails_is_tried_again(
    cluster: MockCluster, place: KafkaPlace, caplog: pytest.LogCaptureFixture
) -> None:
    await publish(place, b"1", b"2")
    async with place.subscription() as subscription:
        first, _ = await receive(subscription, 2)
        cluster.answer(OFFSET_COMMIT, OFFSET_METADATA_TOO_LARGE)
        subscription.acknowledge(first)
        await eventually(lambda: "handoff.commit_failed" in caplog.messages)
        await eventually(lambda: not subscription._window.to_commit())
    async with place.subscription() as subscription:
        assert values(await receive(subscription, 1)) == [b"2"]


async def test_a_member_that_may_not_go_on_starts_anew(
    cluster: MockCluster, place: KafkaPlace, caplog: pytest.LogCaptureFixture
) -> None:
    await publish(place, b"1")
    async with place.subscription() as subscription:
        await receive(subscription, 1)
        cluster.answer(HEARTBEAT, GROUP_AUTHORIZATION_FAILED)
        assert values(await receive(subscription, 1)) == [b"1"]
        assert "handoff.client_given_up" in caplog.messages


async def test_when_offsets_fall_back_what_is_in_hand_is_void(cluster: MockCluster, place: KafkaPlace) -> None:
    await publish(place, b"1", b"2")
    async with place.subscription() as subscription:
        _, second = await receive(subscription, 2)
        assert subscription._member
        await subscription._member._consumer.seek_to_beginning()  # as when the topic was deleted and made again
        assert values(await receive(subscription, 2)) == [b"1", b"2"]
        subscription.acknowledge(second)
    async with place.subscription() as subscription:
        assert values(await receive(subscription, 2)) == [b"1", b"2"]


@pytest.mark.long
async def test_an_outage_takes_no_delivery_away(cluster: MockCluster, place: KafkaPlace) -> None:
    await publish(place, b"1", b"2")
    async with place.subscription(timeouts=replace(ALERT, session_s=10, check_every_s=1.5)) as subscription:
        first, _ = await receive(subscription, 2)
        cluster.go_down()
        await eventually(lambda: not subscription.connected)
        subscription.acknowledge(first)
        cluster.come_up()
        await eventually(lambda: subscription.connected)
        await eventually(lambda: not subscription._window.to_commit())
    async with place.subscription() as subscription:
        assert values(await receive(subscription, 1)) == [b"2"]


async def test_when_the_brokers_have_moved_a_new_client_finds_them(cluster: MockCluster, place: KafkaPlace) -> None:
    await publish(place, b"1")
    with MockCluster() as elsewhere:
        elsewhere.make_topic(place.topic)
        there = KafkaPlace(elsewhere.server, 100, ALERT)
        there.topic = place.topic
        await publish(there, b"2")
        async with Road(cluster.server) as road:
            place.server = road.address
            async with place.subscription(window=10, timeouts=replace(ALERT, commit_s=0.5)) as subscription:
                (first,) = await receive(subscription, 1)
                road.server = elsewhere.server
                cluster.go_down()
                subscription.acknowledge(first)
                assert values(await receive(subscription, 1)) == [b"2"]


async def test_a_full_window_is_no_silence(place: KafkaPlace) -> None:
    await publish(place, b"1", b"2")
    async with place.subscription(window=1) as subscription:
        (first,) = await receive(subscription, 1)
        assert await comes_nothing(subscription, 1.5 * ALERT.quiet_s)
        assert subscription.connected
        subscription.acknowledge(first)
        assert values(await receive(subscription, 1)) == [b"2"]


def publish_compressed(place: KafkaPlace, codec: str, *messages: bytes, partition: int = 0) -> None:
    """As another program does it: all in one compressed record batch."""
    settings = {"bootstrap.servers": place.server, "compression.type": codec, "linger.ms": 100}
    producer = confluent_kafka.Producer(settings)
    for message in messages:
        producer.produce(place.topic, message, partition=partition)
    assert producer.flush(10) == 0


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_records_that_another_program_compressed_are_delivered(place: KafkaPlace, codec: str) -> None:
    messages = [b"%02d" % number * 100 for number in range(20)]
    publish_compressed(place, codec, *messages)
    async with place.subscription() as subscription:
        assert values(await receive(subscription, 20)) == messages


async def test_an_unreadable_record_holds_up_only_its_own_partition_and_is_read_once_it_can_be(
    cluster: MockCluster, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = KafkaPlace(cluster.server, 100, replace(ALERT, reread_s=2))
    cluster.make_topic(place.topic, 3)
    monkeypatch.setattr("aiokafka.codec.cramjam", None)  # as in an installation without it
    unreadable = [b"zstd" * 100 + b"%d" % number for number in range(3)]
    readable = [b"%02d" % number for number in range(12)]
    for number, message in enumerate(readable):
        publish_compressed(place, "none", message, partition=number % 3)
    publish_compressed(place, "zstd", *unreadable, partition=1)
    async with place.subscription() as subscription:
        assert values(await receive(subscription, 12)) == readable
        await eventually(lambda: "handoff.unreadable" in caplog.messages)
        publish_compressed(place, "none", b"later", partition=0)
        assert values(await receive(subscription, 1)) == [b"later"]
        (first, *_) = [record.__dict__ for record in caplog.records if record.message == "handoff.unreadable"]
        assert (first["partition"], first["offset"]) == (1, 4)
        assert "zstd" in first["error"]
        assert "handoff.client_given_up" not in caplog.messages
        await eventually(lambda: caplog.messages.count("handoff.unreadable") > 1)
        monkeypatch.undo()
        assert values(await receive(subscription, 3)) == unreadable


async def test_what_is_held_is_visible(place: KafkaPlace) -> None:
    await publish(place, b"1")
    async with place.subscription() as subscription:
        (delivery,) = await receive(subscription, 1)
        subscription.hold(delivery)
        assert values(subscription.held) == [b"1"]


async def test_closing_while_kafka_was_never_there_is_clean(caplog: pytest.LogCaptureFixture) -> None:
    place = KafkaPlace(f"127.0.0.1:{free_port()}", 100, ALERT)
    async with asyncio.timeout(4):
        async with place.subscription():
            await eventually(lambda: "handoff.start_failed" in caplog.messages)
    assert nothing_is_left()


async def test_closing_while_kafka_is_silent_is_clean() -> None:
    async with Road(None) as silence, asyncio.timeout(4), KafkaPlace(silence.address, 100, ALERT).subscription():
        await eventually(lambda: silence.visits > 0)
    await eventually(nothing_is_left)


async def test_closing_after_kafka_went_down_is_clean(cluster: MockCluster, place: KafkaPlace) -> None:
    await publish(place, b"1", b"2")
    async with asyncio.timeout(8):
        async with place.subscription() as subscription:
            first, _ = await receive(subscription, 2)
            cluster.go_down()
            subscription.acknowledge(first)
    assert nothing_is_left()
