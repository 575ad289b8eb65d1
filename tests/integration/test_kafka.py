"""What only a real Kafka shows: rebalances between members, sequence numbers, topics made and looked at."""

import asyncio
from contextlib import AsyncExitStack
from uuid import uuid4

import confluent_kafka
import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from raingauge.contracts import MAX_MESSAGE_BYTES, dead_letter_topic
from raingauge.errors import Permanent
from raingauge.messaging.kafka import KafkaSubscription, Timeouts, ensure_topics, topics_of
from raingauge.messaging.port import Delivery
from tests.contract.messaging_helpers import (
    CLOCK,
    SERVER,
    KafkaPlace,
    cluster_at,
    comes_nothing,
    deleting,
    eventually,
    nothing_is_left,
    place_of,
    real_place,
    receive,
    values,
    with_admin,
)
from tests.support.databases import need_port

pytestmark = pytest.mark.services
NARROW = {"max.message.bytes": "1000"}


class Member:
    """A worker in the group: notes what it receives and what it settles."""

    def __init__(self, place: KafkaPlace) -> None:
        self.subscription: KafkaSubscription = place.subscription()
        self.in_hand: dict[tuple[int, int], Delivery] = {}
        self.settled: list[bytes | None] = []

    async def work(self) -> None:
        while True:
            for delivery in await self.subscription.receive():
                # Of an epoch before: those were taken away.
                for key in [key for key, other in self.in_hand.items() if other.epoch != delivery.epoch]:
                    del self.in_hand[key]
                self.in_hand[delivery.partition, delivery.offset] = delivery

    def settle(self) -> None:
        for delivery in self.in_hand.values():
            self.settled.append(delivery.value)
            self.subscription.acknowledge(delivery)
        self.in_hand.clear()


async def enter(members: AsyncExitStack, member: Member) -> None:
    """Let a member join and work until the end."""
    await members.enter_async_context(member.subscription)
    task = asyncio.create_task(member.work())
    members.callback(task.cancel)


async def publish(place: KafkaPlace, count: int, first: int = 0) -> list[bytes]:
    messages = [b"%04d" % number for number in range(first, first + count)]
    async with place.publisher() as publisher:
        await asyncio.gather(*(publisher.publish(place.topic, message, message) for message in messages))
    return messages


async def test_when_another_joins_what_is_settled_stays_settled_and_the_rest_is_delivered_to_either() -> None:
    async with real_place(partitions=6) as place, AsyncExitStack() as members:
        first, second = Member(place), Member(place)
        await publish(place, 60)
        await enter(members, first)
        await eventually(lambda: len(first.in_hand) == 60)
        first.settle()
        later = await publish(place, 60, first=60)
        await eventually(lambda: len(first.in_hand) == 60)
        await enter(members, second)
        await eventually(lambda: len(first.in_hand) + len(second.in_hand) == 60 and bool(second.in_hand), within_s=30)
        assert not first.in_hand.keys() & second.in_hand.keys()
        assert values([*first.in_hand.values(), *second.in_hand.values()]) == later


async def test_when_a_member_leaves_the_other_gets_its_deliveries() -> None:
    async with real_place(partitions=4) as place, AsyncExitStack() as members:
        stays, leaves = Member(place), Member(place)
        await enter(members, stays)
        async with AsyncExitStack() as short:
            await enter(short, leaves)
            messages = await publish(place, 40)
            await eventually(
                lambda: len(stays.in_hand) + len(leaves.in_hand) == 40 and bool(leaves.in_hand), within_s=30
            )
        await eventually(lambda: values(list(stays.in_hand.values())) == messages, within_s=30)


async def test_a_foreign_client_with_another_assignor_is_named_and_work_goes_on_when_it_has_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with real_place() as place:
        settings = {"bootstrap.servers": place.server, "group.id": place.group}
        foreign = confluent_kafka.Consumer(settings | {"partition.assignment.strategy": "range"})
        foreign.subscribe([place.topic])
        await asyncio.to_thread(_poll_until_assigned, foreign)
        messages = await publish(place, 3)
        async with place.subscription() as subscription:
            await eventually(lambda: "handoff.client_given_up" in caplog.messages, within_s=30)
            await asyncio.to_thread(foreign.close)
            assert values(await receive(subscription, 3)) == messages
    given_up = [record for record in caplog.records if record.message == "handoff.client_given_up"]
    reason = f"another client in the group {place.group} has other assignors: stop it, or change broker.group"
    assert {(record.__dict__["error"], record.exc_info) for record in given_up} == {(reason, None)}
    assert not [record for record in caplog.records if record.exc_info]


def _poll_until_assigned(consumer: confluent_kafka.Consumer) -> None:
    while not consumer.assignment():
        consumer.poll(0.1)


async def test_many_messages_pass_a_small_window(caplog: pytest.LogCaptureFixture) -> None:
    async with real_place(window=100, partitions=12) as place, place.subscription() as subscription:
        messages = await publish(place, 3000)
        received: list[Delivery] = []
        async with asyncio.timeout(30):
            while len(received) < len(messages):
                for delivery in await subscription.receive():
                    received.append(delivery)
                    subscription.acknowledge(delivery)
        assert values(received) == messages
        assert "handoff.commit_failed" not in caplog.messages
    async with place.subscription() as subscription:
        assert await comes_nothing(subscription, place.lull_s)


async def test_a_message_the_broker_refuses_stops_no_other() -> None:
    async with place_of(NARROW) as place, place.publisher() as publisher, place.subscription() as subscription:
        await publisher.publish(place.topic, b"key", b"1")
        for _ in range(2):
            with pytest.raises(Permanent):
                await publisher.publish(place.topic, b"key", b"x" * 2000)
            await publisher.publish(place.topic, b"key", b"2")
        assert values(await receive(subscription, 3)) == [b"1", b"2", b"2"]


async def test_messages_too_large_only_together_are_all_stored() -> None:
    messages = [str(number).encode() * 150 for number in range(10)]
    async with place_of(NARROW) as place, place.publisher() as publisher, place.subscription() as subscription:
        await asyncio.gather(*(publisher.publish(place.topic, b"key", message) for message in messages))
        assert values(await receive(subscription, 10)) == messages


async def test_missing_topics_are_made_as_they_should_be() -> None:
    async with real_place(partitions=5) as place:
        names = [place.topic, dead_letter_topic(place.topic)]
        topics = await with_admin(SERVER, lambda admin: admin.describe_topics(names))
        assert {topic["topic"]: len(topic["partitions"]) for topic in topics} == dict(zip(names, (5, 1), strict=True))
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        (answer,) = await with_admin(SERVER, lambda admin: admin.describe_configs(resources))
        settings = {name: {entry[0]: entry[1] for entry in entries} for _, _, _, name, entries in answer.resources}
        assert [settings[name]["retention.ms"] for name in names] == ["-1", "-1"]
        sizes = [int(settings[name]["max.message.bytes"]) for name in names]
        assert sizes == [MAX_MESSAGE_BYTES, 2 * MAX_MESSAGE_BYTES]


async def test_many_processes_may_make_the_topics_at_once() -> None:
    need_port(9092, "Kafka")
    topic = f"test-{uuid4().hex}"
    async with deleting(topic, dead_letter_topic(topic)):
        await asyncio.gather(*(ensure_topics(cluster_at(SERVER), topics_of(topic, 3), CLOCK) for _ in range(5)))
    assert nothing_is_left()


async def test_an_unfit_topic_is_warned_of_and_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    async with place_of(NARROW | {"retention.ms": "3600000"}) as place, deleting(dead_letter_topic(place.topic)):
        await ensure_topics(cluster_at(SERVER), topics_of(place.topic, 3), CLOCK, Timeouts())
    warned = {record.__dict__["setting"] for record in caplog.records if record.message == "handoff.topic_unfit"}
    assert warned == {"partitions", "retention.ms", "max.message.bytes"}


async def test_the_largest_allowed_message_arrives_and_its_dead_letter_has_room() -> None:
    async with real_place() as place, place.publisher(max_message_bytes=2 * MAX_MESSAGE_BYTES) as publisher:
        largest = b"x" * (MAX_MESSAGE_BYTES - 200)
        await publisher.publish(place.topic, b"key", largest)
        async with place.subscription() as subscription:
            (delivery,) = await receive(subscription, 1)
        assert delivery.value == largest
        about_it = (("topic", place.topic.encode()), ("error", b"x" * 1000))
        await publisher.publish(dead_letter_topic(place.topic), b"key", largest, about_it)
