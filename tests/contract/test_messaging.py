"""What the hand-off promises, whichever adapter it is: in-process, Kafka on a mock cluster, Kafka on a real broker.

Files only take messages: what a publisher promises is tested on them, too.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path

import pytest

from raingauge.messaging.port import Delivery, Headers, Subscription
from raingauge.streams import REQUIRED, ReadingMessage, encode, headers
from tests.contract.messaging_helpers import (
    QUICK,
    FilesPlace,
    InProcessPlace,
    KafkaPlace,
    Place,
    comes_nothing,
    real_place,
    receive,
    values,
)
from tests.contract.messaging_mock_cluster import MockCluster

MakePlace = Callable[[int, int], Awaitable[Place]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[MockCluster]:
    with MockCluster() as cluster:
        yield cluster


ADAPTERS = ["inprocess", "mock", pytest.param("kafka", marks=pytest.mark.services)]
publishing = pytest.mark.parametrize("make_place", [*ADAPTERS, "files"], indirect=True)
"""For the tests of what a publisher promises: with the adapters that only publish."""


@pytest.fixture(params=ADAPTERS)
async def make_place(request: pytest.FixtureRequest, cluster: MockCluster, tmp_path: Path) -> AsyncIterator[MakePlace]:
    """Creates an environment with this window and number of partitions."""
    async with AsyncExitStack() as places:

        async def make(window: int, partitions: int) -> Place:
            if request.param == "inprocess":
                return InProcessPlace(window, partitions)
            if request.param == "files":
                return FilesPlace(tmp_path)
            if request.param == "kafka":
                return await places.enter_async_context(real_place(window, partitions))
            place = KafkaPlace(cluster.server, window, QUICK)
            cluster.make_topic(place.topic, partitions)
            return place

        yield make


@pytest.fixture
async def place(make_place: MakePlace) -> Place:
    return await make_place(100, 1)


async def publish(place: Place, *messages: bytes, key: bytes = b"key") -> None:
    async with place.publisher() as publisher:
        await asyncio.gather(*(publisher.publish(place.topic, key, message) for message in messages))


async def settle(subscription: Subscription, count: int) -> list[Delivery]:
    """Exactly this number of deliveries, each acknowledged on arrival."""
    settled: list[Delivery] = []
    while len(settled) < count:
        for delivery in await subscription.receive():
            subscription.acknowledge(delivery)
            settled.append(delivery)
    assert len(settled) == count
    return settled


@publishing
async def test_events_that_are_published_at_once_come_through_whole(make_place: MakePlace) -> None:
    place = await make_place(100, 1)
    weather = dict.fromkeys(ReadingMessage.model_fields) | {"name": "São Paulo\n", "status": "collected"}
    events = [ReadingMessage(**weather | {"collection_id": str(n), "city_id": n}) for n in range(50)]
    moment = datetime(2026, 11, 20, tzinfo=UTC)
    sent = [(encode(event, "json"), headers(event, moment)) for event in events]
    async with place.publisher() as publisher, place.subscription() as subscription:
        await asyncio.gather(*(publisher.publish(place.topic, b"key", *one) for one in sent))
        found = await receive(subscription, 50)
    key = itemgetter("city_id")
    assert sorted((json.loads(one.value or b"") for one in found), key=key) == [json.loads(value) for value, _ in sent]
    assert {frozenset(one.headers) for one in found} == {frozenset(attributes) for _, attributes in sent}


@publishing
async def test_what_was_published_before_is_still_there_when_more_is_published(make_place: MakePlace) -> None:
    place = await make_place(100, 1)
    attributes = tuple((f"ce_{name}", b"1") for name in sorted(REQUIRED))
    for value in (b"1", b"2"):
        async with place.publisher() as publisher:
            await publisher.publish(place.topic, b"key", value, attributes)
    async with place.subscription() as subscription:
        assert values(await receive(subscription, 2)) == [b"1", b"2"]


async def test_what_is_published_is_delivered(make_place: MakePlace) -> None:
    place = await make_place(100, 3)
    async with place.publisher() as publisher, place.subscription() as subscription:
        for number in range(30):
            await publisher.publish(place.topic, b"key-%d" % number, b"%02d" % number)
        deliveries = await receive(subscription, 30)
    assert values(deliveries) == [b"%02d" % number for number in range(30)]
    assert {delivery.topic for delivery in deliveries} == {place.topic}
    assert len({(delivery.partition, delivery.offset) for delivery in deliveries}) == 30


async def test_a_waiting_subscription_gets_what_is_published_later(place: Place) -> None:
    async with place.publisher() as publisher, place.subscription() as subscription:
        waiting = asyncio.create_task(receive(subscription, 1))
        assert await comes_nothing(subscription, place.lull_s)
        await publisher.publish(place.topic, b"key", b"later")
        assert values(await waiting) == [b"later"]


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        pytest.param(b"key", b'{"version": 1}', (("error", b"none"),), id="plain"),
        pytest.param(b"\xff\xfe\x00", b"\x80\x00\xff", (("raw", b"\xc3\x28"),), id="not UTF-8"),
        pytest.param(b"key", None, (), id="no value"),
        pytest.param(None, b"value", (), id="no key"),
        pytest.param(None, None, (("why", b"nothing"),), id="neither"),
        pytest.param(b"", b"", (("empty", b""),), id="empty"),
        pytest.param(b"key", b"value", (("same", b"1"), ("same", b"2"), ("näme", b"3")), id="headers in their order"),
        pytest.param(b"key", b"x" * 200_000, (), id="large"),
    ],
)
async def test_key_value_and_headers_come_through_unchanged(
    place: Place, key: bytes | None, value: bytes | None, headers: Headers
) -> None:
    async with place.publisher() as publisher, place.subscription() as subscription:
        await publisher.publish(place.topic, key, value, headers)
        (delivery,) = await receive(subscription, 1)
    assert (delivery.key, delivery.value, delivery.headers) == (key, value, headers)


async def test_no_more_than_the_window_is_held(make_place: MakePlace) -> None:
    place = await make_place(10, 3)
    async with place.publisher() as publisher, place.subscription() as subscription:
        await asyncio.gather(*(publisher.publish(place.topic, b"key-%d" % n, b"%02d" % n) for n in range(25)))
        held = await receive(subscription, 10)
        assert await comes_nothing(subscription, place.lull_s)
        for delivery in held[:5]:
            subscription.acknowledge(delivery)
        held = held[5:] + await receive(subscription, 5)
        assert await comes_nothing(subscription, place.lull_s)
        for delivery in held:
            subscription.acknowledge(delivery)
        held += await receive(subscription, 10)
    assert len(set(values(held))) == 20


async def test_a_window_of_one_gives_them_one_by_one(make_place: MakePlace) -> None:
    place = await make_place(1, 1)
    for message in (b"1", b"2", b"3"):
        await publish(place, message)  # one after the other: messages published at once have no order
    async with place.subscription() as subscription:
        for number in (b"1", b"2", b"3"):
            (delivery,) = await receive(subscription, 1)
            assert delivery.value == number
            subscription.acknowledge(delivery)


async def test_what_is_not_acknowledged_comes_again_after_a_restart(place: Place) -> None:
    await publish(place, b"1", b"2", b"3")
    async with place.subscription() as subscription:
        before = await receive(subscription, 3)
    async with place.subscription() as subscription:
        after = await receive(subscription, 3)
    assert values(after) == values(before)


async def test_what_is_acknowledged_does_not_come_again(place: Place) -> None:
    await publish(place, b"1", b"2", b"3")
    async with place.subscription() as subscription:
        await settle(subscription, 3)
    await publish(place, b"4")
    async with place.subscription() as subscription:
        assert values(await receive(subscription, 1)) == [b"4"]
        assert await comes_nothing(subscription, place.lull_s)


async def test_an_acknowledgement_covers_no_earlier_delivery(place: Place) -> None:
    await publish(place, b"1", b"2", b"3", b"4")
    async with place.subscription() as subscription:
        deliveries = sorted(await receive(subscription, 4), key=lambda delivery: delivery.offset)
        for index in (3, 0, 2):  # all but the second
            subscription.acknowledge(deliveries[index])
    async with place.subscription() as subscription:
        again = await subscription.receive()
    assert deliveries[1].value in values(again)
    assert deliveries[0].value not in values(again)


async def test_acknowledging_twice_does_nothing(make_place: MakePlace) -> None:
    place = await make_place(2, 1)
    await publish(place, b"1", b"2", b"3", b"4")
    async with place.subscription() as subscription:
        first, _ = await receive(subscription, 2)
        for _ in range(3):
            subscription.acknowledge(first)
        await receive(subscription, 1)  # the window has room for this one, not for three
        assert await comes_nothing(subscription, place.lull_s)


async def test_an_acknowledgement_from_before_a_restart_is_void(place: Place) -> None:
    await publish(place, b"1")
    async with place.subscription() as subscription:
        stale = await receive(subscription, 1)
    subscription.acknowledge(stale[0])
    async with place.subscription() as subscription:
        await receive(subscription, 1)
        subscription.acknowledge(stale[0])
        subscription.hold(stale[0])
    async with place.subscription() as subscription:
        assert values(await receive(subscription, 1)) == [b"1"]


async def test_a_held_delivery_keeps_its_partition_waiting_and_no_other(make_place: MakePlace) -> None:
    place = await make_place(4, 2)
    async with place.publisher() as publisher, place.subscription() as subscription:
        # Which key goes to which partition is the adapter's business.
        await asyncio.gather(*(publisher.publish(place.topic, b"%d" % number, b"") for number in range(20)))
        keys = {delivery.partition: delivery.key for delivery in await settle(subscription, 20)}
        await publisher.publish(place.topic, keys[0], b"newer")
        (held,) = await receive(subscription, 1)
        subscription.hold(held)
        for number in range(6):  # more than the window
            await publisher.publish(place.topic, keys[0], b"behind it")
            await publisher.publish(place.topic, keys[1], b"%d" % number)
        assert values(await settle(subscription, 6)) == [b"%d" % number for number in range(6)]
        assert await comes_nothing(subscription, place.lull_s)
    async with place.subscription() as subscription:
        assert b"newer" in values(await subscription.receive())


async def test_a_held_delivery_that_is_acknowledged_after_all_lets_its_partition_go_on(place: Place) -> None:
    async with place.publisher() as publisher, place.subscription() as subscription:
        await publisher.publish(place.topic, b"key", b"1")
        (held,) = await receive(subscription, 1)
        subscription.hold(held)
        await publisher.publish(place.topic, b"key", b"2")
        assert await comes_nothing(subscription, place.lull_s)
        subscription.acknowledge(held)
        assert values(await receive(subscription, 1)) == [b"2"]


async def test_the_lag_is_what_is_not_settled_of_each_partition(make_place: MakePlace) -> None:
    place = await make_place(4, 1)  # a window that is full keeps the rest of them from being fetched
    async with place.publisher() as publisher, place.subscription() as subscription:
        for number in range(6):
            await publisher.publish(place.topic, b"key", b"%d" % number)
        deliveries = await receive(subscription, 4)
        assert await subscription.lag() == {0: 6}
        for delivery in deliveries[:3]:
            subscription.acknowledge(delivery)
        assert await subscription.lag() == {0: 3}
        await settle(subscription, 2)
        subscription.acknowledge(deliveries[3])
        assert await subscription.lag() == {0: 0}
    async with place.subscription() as subscription:
        await publish(place, b"another")
        await receive(subscription, 1)
        assert await subscription.lag() == {0: 1}
