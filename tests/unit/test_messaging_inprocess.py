"""What applies to the in-process hand-off only."""

import pytest

from raingauge.messaging.inprocess import MAX_DEAD_LETTERS, InProcessBroker


async def test_messages_for_other_topics_are_kept_for_inspection_the_latest_of_them() -> None:
    broker = InProcessBroker("cities", window=10)
    for number in range(MAX_DEAD_LETTERS + 1):
        await broker.publish("cities.dead", b"key", b"%d" % number, (("error", b"not JSON"),))
    assert len(broker.dead_letters) == MAX_DEAD_LETTERS
    latest = broker.dead_letters[-1]
    assert (latest.topic, latest.key, latest.value) == ("cities.dead", b"key", b"%d" % MAX_DEAD_LETTERS)
    assert latest.headers == (("error", b"not JSON"),)


async def test_there_is_one_subscription_at_a_time() -> None:
    broker = InProcessBroker("cities", window=10)
    async with broker.subscription():
        with pytest.raises(RuntimeError):
            await broker.subscription().__aenter__()


async def test_held_deliveries_are_visible_until_the_subscription_closes() -> None:
    broker = InProcessBroker("cities", window=10)
    await broker.publish("cities", b"key", b"1")
    async with broker.subscription() as subscription:
        (delivery,) = await subscription.receive()
        subscription.hold(delivery)
        assert list(subscription.held) == [delivery]
    assert not subscription.held
