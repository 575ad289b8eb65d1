"""What the tests of the HTTP front share: the real front on a real database, without a server, at a time they set."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

import httpx2
from fastapi import FastAPI
from sqlalchemy import Connection, func, insert, select

from producer.access.admission import Admission, open_to_all
from producer.api.application import Background, api_parts, create_api
from producer.collections import DEADLINE_S, Collections
from producer.relays.batches import Relay
from producer.retention import Retention
from raingauge.blocking import RunBlocking, inline
from raingauge.clock import SystemClock
from raingauge.database import Database
from raingauge.database.transactions import Transactions
from raingauge.messaging.port import Headers
from raingauge.model import Observation
from raingauge.observability.instrumentation import Instrumentation
from raingauge.settings import CollectSettings, Settings
from raingauge.storage import quota
from raingauge.storage.models import Batch, Collection, QuotaGate, Reading
from tests.support.metrics import samples
from tests.support.settling import settle_cities

NOON: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)
OBSERVED_AT: Final = NOON - timedelta(minutes=7)
JSON: Final = {"Content-Type": "application/json"}


@cache
def settings_for(max_cities: int = 250_000) -> Settings:
    """The usual settings, read once, with that limit on cities."""
    return Settings(collect=CollectSettings(max_cities=max_cities))


class HandClock(SystemClock):
    """The clock of the database, at noon until it is set, and of the producer: for it each step passes time."""

    def __init__(self) -> None:
        self.moment = NOON

    def __call__(self, connection: Connection) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return abs((self.moment - NOON).total_seconds())


class Shelf:
    """A hand-off that only keeps what is published."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        self.keys.append((key or b"").decode())


class WatchedRelay(Relay):
    """A relay that counts how often it was woken and works only when told."""

    woken = 0

    def wake(self) -> None:
        self.woken += 1
        super().wake()

    async def work_once(self) -> None:
        """Publish what is due."""
        await self._round()
        for sending in self._pending.values():
            await sending.task


class Front:
    """The producer's HTTP front over a database."""

    def __init__(
        self,
        database: Database,
        run_database: RunBlocking = inline,
        settings: Settings | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self.clock = HandClock()
        self.settings = settings or settings_for()
        self.account = self.settings.quota.account
        self.shelf = Shelf()
        self.database = Database(database.engine, self.clock)
        self.relay = WatchedRelay(
            Transactions(self.database, inline, SystemClock()),
            self.shelf,
            self.settings.relay,
            topic="cities",
            account=self.account,
            terms=self.settings.terms,
            holder="test",
        )
        self.collections = Collections(
            Transactions(self.database, run_database, self.clock),
            self.settings.terms,
            self.account,
            deadline_s=deadline_s,
        )
        self.http = client(self.settings, self.collections, self.relay)

    async def collect(self, id: int | str = 1, **more: Any) -> httpx2.Response:  # noqa: A002
        """POST /collect."""
        return await self.http.post("/collect", json={"id": id, **more})

    async def get(self, id: int | str = 1, **query: Any) -> httpx2.Response:  # noqa: A002
        """GET /get."""
        return await self.http.get("/get", params={"id": id, **query})

    async def body(self, id: int | str = 1, **query: Any) -> dict[str, Any]:  # noqa: A002
        """The body of a GET that works."""
        answer = await self.get(id, **query)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def pages(self, url: str) -> list[dict[str, Any]]:
        """The bodies of this page and of all that follow; each page links to the next."""
        bodies = []
        following: str | None = url
        while following is not None:
            answer = await self.http.get(following)
            bodies.append(answer.json())
            following = bodies[-1]["next"]
            assert answer.headers.get("link") == (f'<{following}>; rel="next"' if following else None)
        return bodies

    def beat(self, partitions_held: int = 0) -> None:
        """A consumer is alive."""
        self.database.write(lambda c: quota.beat(c, self.clock.moment, "a consumer", self.account, partitions_held))

    def open_gate(self, **columns: Any) -> None:
        """A consumer has made the gate."""
        row = gate_row(self.account) | columns
        self.database.write(lambda c: c.execute(insert(QuotaGate).values(row)))

    def settle(
        self,
        id: str,  # noqa: A002
        observations: Iterable[Observation] = (),
        failures: Mapping[int, str] | None = None,
    ) -> None:
        """What a consumer does when answers are in."""
        now = self.clock.moment
        self.database.write(lambda connection: settle_cities(connection, now, id, list(observations), failures))

    def rows(self) -> tuple[int, int, int]:
        """How many collections, batches and readings are stored."""

        def work(connection: Connection) -> tuple[int, int, int]:
            counts = [connection.scalar(select(func.count()).select_from(t)) or 0 for t in (Collection, Batch, Reading)]
            return counts[0], counts[1], counts[2]

        return self.database.read(work)

    async def assert_nothing_happened(self) -> None:
        """No row, and nothing to publish."""
        assert self.relay.woken == 0
        await self.relay.work_once()
        assert (self.rows(), self.shelf.keys) == ((0, 0, 0), [])


def api(
    settings: Settings,
    collections: Collections,
    relay: Relay,
    admitted: Admission | None = None,
    observed: Instrumentation | None = None,
) -> FastAPI:
    """The front; without `admitted` it is open to all."""
    transactions = collections.transactions
    background = Background(relay, Retention(transactions, settings.retention))
    admitted, observed = admitted or open_to_all(transactions), observed or Instrumentation()
    return create_api(api_parts(settings, collections, background, admitted, observed))


def client(
    settings: Settings, collections: Collections, relay: Relay, admitted: Admission | None = None
) -> httpx2.AsyncClient:
    """Calls the front without a network; what it does not handle is answered as a server would."""
    transport = httpx2.ASGITransport(api(settings, collections, relay, admitted), raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://localhost")


async def scrape(http: httpx2.AsyncClient) -> dict[str, float]:
    """The samples of `/metrics`."""
    answer = await http.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return samples(answer.text)


def gate_row(account: str = "openweather") -> dict[str, Any]:
    """A gate that is open, with nothing spent."""
    return {
        "account": account,
        "cities_per_window": 60,
        "window_s": 60.0,
        "pacing": "smooth",
        "last_now": NOON,
        "next_start_at": NOON,
        "turn": 0,
        "state": "open",
        "blocked_until": NOON,
        "strikes": 0,
        "probe_until": NOON,
        "endpoint": "unknown",
        "endpoint_at": NOON,
        "month": "2026-11",
        "month_spent": 0,
        "next_month_spent": 0,
    }


def observation(city_id: int, temperature: float = 19.4, **more: Any) -> Observation:
    """What the provider says about a city."""
    usual: dict[str, Any] = {
        "name": f"City {city_id}",
        "country": "UY",
        "latitude": -32.7,
        "longitude": -57.6,
        "observed_at": OBSERVED_AT,
        "humidity": 55.0,
    }
    return Observation(city_id=city_id, temperature=temperature, **usual | more)


def assert_problem(answer: httpx2.Response, status: int, detail: str) -> dict[str, Any]:
    """The answer is a problem (RFC 9457) with that sentence; gives its body."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    body: dict[str, Any] = answer.json()
    assert (body["type"], body["status"], body["detail"]) == ("about:blank", status, detail)
    assert set(body) == {"type", "title", "status", "detail"} | ({"errors"} if status == 422 else set())
    return body
