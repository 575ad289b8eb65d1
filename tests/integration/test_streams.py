"""From a stored reading to the messages on both streams: outbox, relay and hand-off."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Connection

from producer.relays.streams import StreamRelay
from raingauge.blocking import inline
from raingauge.database import Database
from raingauge.database.transactions import Transactions
from raingauge.errors import HandoffUnavailable
from raingauge.messaging.inprocess import InProcessBroker
from raingauge.messaging.port import Headers, Publisher
from raingauge.model import BatchKey, CollectionRequest
from raingauge.settings import StreamSettings
from raingauge.storage import retention, streams
from raingauge.storage.cities import remember
from raingauge.storage.enqueueing import enqueue
from raingauge.storage.models import OutgoingReading
from tests.contract.messaging_helpers import CLOCK, eventually
from tests.contract.storage_support import an_observation, rows
from tests.support.accepting import accept
from tests.support.transactions import FailingAtFirst

STREAMS = StreamSettings(enabled=True)


class Kept:
    """A hand-off that keeps all messages, of each topic; publishing meets the given errors first."""

    def __init__(self, *errors: Exception) -> None:
        self.messages: list[tuple[str, bytes | None, bytes | None, Headers]] = []
        self._errors = [*errors]

    async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        if self._errors:
            raise self._errors.pop()
        self.messages.append((topic, key, value, headers))

    def ids(self, topic: str) -> list[str]:
        return [dict(headers)["ce_id"].decode() for there, _, _, headers in self.messages if there == topic]

    def subjects(self, topic: str) -> list[str]:
        return [name.rpartition("/")[0] for name in self.ids(topic)]


def collect(database: Database, name: str, *city_ids: int) -> None:
    """A collection whose cities were just fetched."""

    def work(connection: Connection) -> None:
        now = database.now(connection)
        accept(connection, now, CollectionRequest(name, city_ids, 0, named=True), 10)
        remember(connection, {city_id: an_observation(city_id) for city_id in city_ids}, (), now)
        enqueue(connection, now, "test", 0, [BatchKey(name, 0)], streams=True)

    database.write(work)


def is_done(database: Database) -> bool:
    return rows(database, OutgoingReading) == []


async def relay_until(
    condition: Callable[[], bool], database: Database, publisher: Publisher, transactions: Transactions | None = None
) -> None:
    """The stream relay at work until the condition holds."""
    transactions = transactions or Transactions(database, inline, CLOCK)
    task = asyncio.create_task(StreamRelay(transactions, publisher, CLOCK, STREAMS, every_s=0.01).run())
    await eventually(condition)
    task.cancel()


def lag_s(database: Database) -> float:
    return database.read(lambda connection: streams.stream_lag_s(connection, database.now(connection)))


async def test_each_reading_and_the_latest_weather_are_published(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.relays.streams.MAX_AT_ONCE", 2)
    collect(sqlite, "1", 7, 8, 9)
    kept = Kept()
    await relay_until(lambda: is_done(sqlite), sqlite, kept)
    assert sorted(kept.subjects("readings")) == ["1/7", "1/8", "1/9"]
    assert [key for topic, key, _, _ in kept.messages if topic == "latest"] == [b"7", b"8", b"9"]
    assert lag_s(sqlite) == 0
    topic, key, value, headers = kept.messages[0]
    assert (topic, key) == ("readings", b"7")
    assert json.loads(value or b"")["temperature"] == 20.0
    assert dict(headers)["ce_type"] == b"raingauge.reading"


async def test_an_in_process_hand_off_takes_them_too(sqlite: Database) -> None:
    collect(sqlite, "1", 7)
    broker = InProcessBroker("readings", 10)
    async with broker.subscription() as readings:
        await relay_until(lambda: is_done(sqlite), sqlite, broker)
        (delivery,) = await readings.receive()
    assert (delivery.key, dict(delivery.headers)["ce_id"].rpartition(b"/")[0]) == (b"7", b"1/7")
    assert [other.topic for other in broker.dead_letters] == ["latest"]


@pytest.mark.parametrize("published_before", [0, 1], ids=["the reading", "the latest weather"])
async def test_what_is_not_stored_for_sure_is_published_again_whole(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch, published_before: int
) -> None:
    monkeypatch.setattr("producer.relays.streams.LEASE", timedelta(milliseconds=20))
    collect(sqlite, "1", 7)

    class Fails(Kept):
        async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
            await super().publish(topic, key, value, headers)
            if len(self.messages) == published_before + 1:
                raise HandoffUnavailable("stored, but nobody knows")

    kept = Fails()
    await relay_until(lambda: is_done(sqlite), sqlite, kept)
    assert kept.subjects("readings") == ["1/7", "1/7"]
    assert len({*kept.ids("readings")}) == 1


async def test_a_reading_of_a_later_collection_of_the_same_id_is_another_event(sqlite: Database) -> None:
    kept = Kept()
    for _ in range(2):
        collect(sqlite, "1", 7)
        await relay_until(lambda: is_done(sqlite), sqlite, kept)
        sqlite.write(lambda connection: retention.delete_collection(connection, sqlite.now(connection), "1"))
    assert kept.subjects("readings") == ["1/7", "1/7"]
    assert len({*kept.ids("readings")}) == 2


async def test_the_relay_goes_on_after_errors(sqlite: Database) -> None:
    collect(sqlite, "1", 7)
    kept = Kept()
    await relay_until(lambda: is_done(sqlite), sqlite, kept, FailingAtFirst(sqlite))
    assert kept.subjects("readings") == ["1/7"]


async def test_the_lag_rises_while_nothing_can_be_published(sqlite: Database) -> None:
    class Silent(Kept):
        async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
            await asyncio.Event().wait()

    collect(sqlite, "1", 7)
    await relay_until(lambda: lag_s(sqlite) >= 0.05, sqlite, Silent())
