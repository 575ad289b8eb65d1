"""The consumer's composition root: builds its parts, runs them, stops them in order."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI

from consumer.keyless import Keyless
from consumer.means import Means, Tally
from consumer.openweather import OpenWeather
from consumer.provider import Provider
from consumer.quota import Ledger
from consumer.store import Store
from consumer.worker import Worker
from raingauge import health
from raingauge.blocking import Threads, until_available
from raingauge.clock import Clock, SystemClock
from raingauge.contracts import MAX_MESSAGE_BYTES
from raingauge.errors import DatabaseUnavailable, HandoffUnavailable
from raingauge.messaging.kafka import KafkaPublisher, KafkaSubscription, ensure_topics, servers_of
from raingauge.messaging.port import Delivery
from raingauge.pacing import CALL_SIZE
from raingauge.process import in_background, serving, until_signalled
from raingauge.settings import Settings, provider_key
from raingauge.storage.database import Database, open_database

log = logging.getLogger("raingauge.consumer")

DATABASE_THREADS: Final = 10
"""One reserves, one stores, whatever the number of lanes; the others: refusals, intake, heartbeat, readiness."""
GRACE_S: Final = 5.0
"""How much longer than a call's timeout a stop may take."""
LEAVE_S: Final = 1.0
"""For saying that it stops; what is not said is found out by its silence."""


class WorkerFacts:
    """What a consumer says of itself; before it has a worker, that it waits for the database."""

    def __init__(self, worker: Worker | None = None) -> None:
        self.worker = worker

    def details(self) -> Mapping[str, Any]:
        """For people."""
        if self.worker is None:
            return {"cities_wanted": 0, "waiting_for": "database"}
        return {"cities_wanted": self.worker.wanted, "waiting_for": self.worker.caller.waiting_for}

    def counts(self) -> Mapping[str, float]:
        """Since the start."""
        tally = Tally() if self.worker is None else self.worker.caller.tally
        return {
            "provider_calls": tally.calls,
            "provider_cities_asked": tally.cities_asked,
            "cities_collected": tally.cities_collected,
            "provider_refusals": tally.refusals,
            "provider_silences": tally.silences,
        }

    def gauges(self) -> Mapping[str, float]:
        """Now."""
        if self.worker is None:
            return {"cities_wanted": 0, "caller_quiet_seconds": 0}
        return {"cities_wanted": self.worker.wanted, "caller_quiet_seconds": self.worker.caller.quiet_s}


def consumer_id() -> str:
    """A name that no other consumer has ever had."""
    return secrets.token_hex(8)


def threads_for(settings: Settings) -> tuple[Threads, Threads]:
    """For the database and for the provider."""
    return Threads(DATABASE_THREADS, "database"), Threads(settings.consumer.lanes * CALL_SIZE, "provider")


@contextlib.asynccontextmanager
async def open_provider(settings: Settings, key: str | None, clock: Clock) -> AsyncIterator[Provider]:
    """The provider's client; without a key, what stands for it."""
    if key is None:
        log.warning("consumer.no_key", extra={"hint": "set OPENWEATHER_API_KEY; collections wait until then"})
        yield Keyless()
        return
    weather = settings.openweather
    connections = settings.consumer.lanes * CALL_SIZE
    with contextlib.closing(OpenWeather(weather.base_url, key, weather.timeout_s, clock, connections)) as provider:
        yield provider


@contextlib.asynccontextmanager
async def equipped(settings: Settings, database: Database, provider: Provider, clock: Clock) -> AsyncIterator[Means]:
    """What a worker works with. Waits for the database.

    Raises:
        GateMismatch: the account's gate was made with other terms.
    """
    on_database, on_provider = threads_for(settings)
    name = consumer_id()
    ledger = Ledger(database, settings.quota.account, settings.terms, settings.openweather.endpoint, name)
    store = Store(database, ledger, name, settings.quota.account)
    try:
        await until_available(on_database, ledger.open, clock)
        yield Means(ledger, provider, store, on_database, on_provider, clock, settings.consumer.lanes)
    finally:
        on_database.close()
        on_provider.close()


@contextlib.asynccontextmanager
async def working(worker: Worker, means: Means, grace_s: float) -> AsyncIterator[asyncio.Task[None]]:
    """The worker at work while the block runs; at its end calls under way are finished, within the grace period."""
    task = asyncio.create_task(worker.run())
    try:
        yield task
    finally:
        worker.stop()
        _, unfinished = await asyncio.wait([task], timeout=grace_s)
        for late in unfinished:
            log.warning("consumer.abandoned", extra={"wanted": worker.wanted})
            late.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with contextlib.suppress(DatabaseUnavailable, TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await means.run_database(means.store.leave)


def create_api(facts: WorkerFacts, check: Callable[[], Awaitable[None]]) -> FastAPI:
    """Health, readiness and metrics."""
    api = FastAPI(title="Raingauge consumer", version="0.1.0", docs_url=None, redoc_url=None, openapi_url=None)
    api.include_router(health.router([facts], check))
    return api


async def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT.

    Raises:
        SettingsError: the hand-off is not Kafka, or the address is taken.
        GateMismatch: the account's gate was made with other terms.
    """
    await until_signalled(_work(settings))


async def _work(settings: Settings) -> None:
    servers = servers_of(settings.broker.url)
    broker, clock = settings.broker, SystemClock()
    facts = WorkerFacts()

    async def check() -> None:
        if facts.worker is None:
            raise DatabaseUnavailable("it has not answered yet")
        await means.run_database(means.store.beat)
        if not subscription.connected:
            raise HandoffUnavailable("no connection to the hand-off")

    async def lost(deliveries: Sequence[Delivery]) -> None:
        await worker.lost(deliveries)

    async with contextlib.AsyncExitStack() as parts:
        http = settings.consumer.http
        api = create_api(facts, check)
        url = await parts.enter_async_context(serving(api, http.host, http.port, section="consumer.http"))
        log.info("consumer.serving", extra={"url": url, "account": settings.quota.account})
        database = parts.enter_context(contextlib.closing(open_database(settings.database.url, DATABASE_THREADS)))
        provider = await parts.enter_async_context(open_provider(settings, provider_key(), clock))
        means = await parts.enter_async_context(equipped(settings, database, provider, clock))
        topics = ensure_topics(servers, broker.topic, broker.partitions, clock)
        await parts.enter_async_context(in_background(topics))
        dead_letters = await parts.enter_async_context(
            KafkaPublisher(servers, clock, max_message_bytes=2 * MAX_MESSAGE_BYTES)
        )
        subscription = await parts.enter_async_context(
            KafkaSubscription(
                servers, broker.topic, broker.group, window=settings.consumer.window, clock=clock, lost=lost
            )
        )
        worker = facts.worker = Worker(subscription, dead_letters, means, broker.topic)
        log.info("consumer.working")
        task = await parts.enter_async_context(working(worker, means, settings.openweather.timeout_s + GRACE_S))
        await asyncio.shield(task)  # a signal cancels the wait, not the work: that is for `working` to end
