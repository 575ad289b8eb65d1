"""The consumer's composition root: builds its parts, runs them, stops them in order."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final

from fastapi import FastAPI
from prometheus_client import Counter

from consumer.caller import Caller
from consumer.control import GateControl
from consumer.dead_letters import find_buried
from consumer.export import open_export
from consumer.intake import Intake
from consumer.ledger import Ledger
from consumer.metrics import ConsumerMetrics
from consumer.notifier import Notifier
from consumer.provider.openweather import OpenWeather
from consumer.webhook_client import WebhookClient, tls_context
from consumer.webhooks import AT_ONCE, WebhookSender
from raingauge import web
from raingauge.background import in_background
from raingauge.blocking import Threads, inline, until_available
from raingauge.clock import Clock, SystemClock, happens_within
from raingauge.contracts import MAX_MESSAGE_BYTES
from raingauge.database import Database, open_database
from raingauge.database.command import command_database
from raingauge.database.transactions import Transactions
from raingauge.errors import DatabaseUnavailable, Fatal, HandoffUnavailable, SettingsError
from raingauge.messaging.kafka import (
    Cluster,
    KafkaPublisher,
    KafkaSubscription,
    Timeouts,
    admitted,
    cluster_of,
    ensure_topics,
    topics_of,
)
from raingauge.messaging.port import Publisher, Subscription
from raingauge.model import CALL_SIZE
from raingauge.observability import health
from raingauge.observability.metrics import Telemetry
from raingauge.observability.tracing import make_tracing
from raingauge.process import serving, until_signalled
from raingauge.settings import (
    KEY_VARIABLE,
    NotifySettings,
    Settings,
    ca_file,
    provider_key,
    webhook_secrets,
)
from raingauge.storage import events
from raingauge.storage.events import Subscription as EventSubscription
from raingauge.storage.quota import BEAT_S, KEPT_FOR

log = logging.getLogger("raingauge.consumer")

DATABASE_THREADS: Final = 10
"""One reserves; the others settle, enqueue and answer /ready."""
GRACE_S: Final = 5.0
"""How much longer than a call's timeout a stop may take."""
STALLED_AFTER_S: Final = 180.0
"""Longer than the caller's longest sleep and a call's timeout together: something holds all lanes."""
PRUNE_EVERY_BEATS: Final = 120
EVENT_WINDOW: Final = 100
"""Events held at once."""
EVENT_POLL_S: Final = 5.0
"""How long a poll for events waits for the first one: shorter polls would keep an idle consumer busy."""
LEAVE_S: Final = 1.0
"""How long a consumer that stops tries to record it; otherwise its silence shows."""
NO_CONNECTION: Final = "no connection to the hand-off"


class Worker:
    """Connects intake, caller and ledger, and runs them."""

    def __init__(
        self, intake: Intake, caller: Caller, ledger: Ledger, clock: Clock, keep_charges: timedelta = KEPT_FOR
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._keep_charges = keep_charges
        self._stop = asyncio.Event()
        self.intake = intake
        self.caller = caller
        intake.on_enqueued = caller.wake
        caller.on_settled = intake.acknowledge
        caller.on_failover = intake.enqueue_again

    def stop(self) -> None:
        """Take nothing more; finish the calls under way."""
        self._stop.set()
        self.intake.stop()
        self.caller.stop()

    async def run(self) -> None:
        """Work until stopped, and until what is under way is settled. What is not settled is delivered again.

        Raises:
            GateMismatch: the account's gate has other terms.
        """
        await self._ledger.open()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat())
            tasks.create_task(self.intake.run())
            tasks.create_task(self.caller.run())

    async def check(self) -> None:
        """Return when it can process all that is delivered.

        Raises:
            DatabaseUnavailable: the database does not answer.
            Fatal: a partition waits behind a message that this version cannot process, or it is stopping.
        """
        if obstacles := self.intake.obstacles:
            raise Fatal("; ".join(obstacles))
        if self._stop.is_set():
            raise Fatal("it is stopping")  # a heartbeat would make it look alive
        await self._ledger.beat()

    async def leave(self) -> None:
        """Record that this consumer has stopped, if the database answers."""
        with contextlib.suppress(DatabaseUnavailable, TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self._ledger.leave()

    async def _beat(self) -> None:
        """Record every few seconds that this consumer is alive, and forget old charges now and then."""
        beats, more = 0, False
        while True:
            try:
                await self._ledger.beat(len(self.intake.obstacles))
                if more or beats % PRUNE_EVERY_BEATS == 0:
                    more = await self._ledger.prune(self._keep_charges)  # step by step: the next beat is not to wait
            except DatabaseUnavailable as error:
                log.warning("database.unavailable", extra={"error": str(error)})
            if self.caller.quiet_s > STALLED_AFTER_S:
                waits = {"seconds": round(self.caller.quiet_s), "waiting_for": self.caller.waiting_for}
                log.error("caller.stalled", extra=waits)
            beats += 1
            if await happens_within(self._stop, BEAT_S):
                return


class WorkerFacts:
    """What a consumer reports in health; before it has a worker, that it waits for the database."""

    def __init__(self, worker: Worker | None = None) -> None:
        self.worker = worker

    def details(self) -> Mapping[str, Any]:
        """For people."""
        if self.worker is None:
            return {"batches_held": 0, "waiting_for": "database"}
        return {"batches_held": self.worker.intake.unacknowledged, "waiting_for": self.worker.caller.waiting_for}


def consumer_id() -> str:
    """A name that no other consumer has ever had."""
    return secrets.token_hex(8)


@contextlib.contextmanager
def _provider(settings: Settings, key: str | None, clock: Clock) -> Iterator[OpenWeather]:
    """The provider's client.

    Raises:
        SettingsError: there is no key. Without one a consumer must not touch what others share.
    """
    if key is None:
        raise SettingsError(f"there is no key: set {KEY_VARIABLE}")
    weather = settings.openweather
    connections = settings.consumer.lanes * CALL_SIZE
    with OpenWeather(weather.base_url, key, weather.timeout_s, clock, connections, ca_file()) as provider:
        yield provider


def make_worker(  # noqa: PLR0913, PLR0917
    settings: Settings,
    database: Database,
    provider: OpenWeather,
    threads: tuple[Threads, Threads],
    subscription: Subscription,
    dead_letters: Publisher,
    clock: Clock,
    metrics: ConsumerMetrics | None = None,
) -> Worker:
    """A worker on these parts; `threads` are for the database and for the provider."""
    metrics = metrics or ConsumerMetrics(Telemetry(clock))
    on_database, on_provider = threads
    account, endpoint = settings.quota.account, settings.openweather.endpoint
    transactions = Transactions(database, on_database, clock)
    ledger = Ledger(transactions, clock, account, settings.terms, endpoint, consumer_id(), provider.key_hash)
    buried, topic, streams = metrics.dead_letters, settings.broker.topic, settings.streams.enabled
    intake = Intake(subscription, dead_letters, transactions, clock, account, topic, buried, streams=streams)
    lanes = settings.consumer.lanes
    caller = Caller(ledger, provider, transactions, on_provider, clock, lanes, metrics.calls, streams=streams)
    metrics.batches_held.set_function(lambda: intake.unacknowledged)
    metrics.partitions_held.set_function(lambda: len(intake.obstacles))
    metrics.caller_quiet.set_function(lambda: caller.quiet_s)
    metrics.watch_lag(subscription)
    return Worker(intake, caller, ledger, clock, timedelta(days=settings.quota.keep_charges_days))


@contextlib.contextmanager
def opened(settings: Settings, key: str | None, clock: Clock) -> Iterator[tuple[OpenWeather, tuple[Threads, Threads]]]:
    """The provider's client and the threads for the database and for the provider, while the block runs.

    Raises:
        SettingsError: there is no key.
    """
    with contextlib.ExitStack() as parts:
        provider = parts.enter_context(_provider(settings, key, clock))
        on_database = parts.enter_context(contextlib.closing(Threads(DATABASE_THREADS, "database")))
        on_provider = parts.enter_context(contextlib.closing(Threads(settings.consumer.lanes * CALL_SIZE, "provider")))
        yield provider, (on_database, on_provider)


@contextlib.asynccontextmanager
async def delivering(
    notify: NotifySettings, secrets: Sequence[str], transactions: Transactions, clock: Clock, attempts: Counter
) -> AsyncIterator[None]:
    """Events are delivered to the webhooks while the block runs: all that are stored from its begin on.

    `secrets` are those of the webhooks, in their order; `attempts` counts.
    """
    subscribed = [EventSubscription(one.id, one.shown_url, one.events) for one in notify.webhooks]
    await transactions.persist(partial(events.subscribe, subscriptions=subscribed))
    async with contextlib.AsyncExitStack() as parts:
        trusted = tls_context(ca_file() if notify.webhooks else None)
        for webhook, secret in zip(notify.webhooks, secrets, strict=True):
            resolver = parts.enter_context(contextlib.closing(Threads(AT_ONCE, "webhook")))
            client = WebhookClient(webhook.url, trusted, resolver, allow_private=notify.allow_private)
            sender = WebhookSender(webhook, secret, client.post, transactions, clock, attempts)
            await parts.enter_async_context(in_background(sender.run()))
        yield


@contextlib.asynccontextmanager
async def working(worker: Worker, grace_s: float) -> AsyncIterator[asyncio.Task[None]]:
    """The worker at work while the block runs; at its end calls under way are finished, within the grace period."""
    task = asyncio.create_task(worker.run())
    try:
        yield task
    finally:
        worker.stop()
        _, unfinished = await asyncio.wait([task], timeout=grace_s)
        for late in unfinished:
            log.warning("consumer.abandoned", extra={"batches": worker.intake.unacknowledged})
            late.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await worker.leave()


def create_api(facts: WorkerFacts, check: Callable[[], Awaitable[None]], telemetry: Telemetry) -> FastAPI:
    """Health, readiness and metrics."""
    api = FastAPI(title="Raingauge consumer", docs_url=None, redoc_url=None, openapi_url=None)
    telemetry.measure_requests(api)
    health.install(api, [facts], check, telemetry)
    web.install(api, "there are /health, /ready and /metrics")
    return api


async def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT.

    Raises:
        SettingsError: there is no key, the hand-off is not Kafka, the address is taken, the folder of the export cannot
            be written to, or Kafka or the database refuses this program.
        GateMismatch: the account's gate has other terms.
    """
    await until_signalled(_work(settings))


async def _work(settings: Settings) -> None:
    cluster = cluster_of(settings.broker)
    broker, clock, secrets = settings.broker, SystemClock(), webhook_secrets(settings.notify)
    facts, telemetry = WorkerFacts(), Telemetry(clock)
    metrics = ConsumerMetrics(telemetry)

    async def check() -> None:
        await (threads[0](database.check_at_start) if facts.worker is None else facts.worker.check())
        if facts.worker is None or not subscription.connected:
            raise HandoffUnavailable((facts.worker and subscription.trouble) or NO_CONNECTION)

    async with contextlib.AsyncExitStack() as parts:
        tracing = parts.enter_context(contextlib.closing(make_tracing("consumer")))
        provider, threads = parts.enter_context(opened(settings, provider_key(), clock))
        database = parts.enter_context(contextlib.closing(open_database(settings.database.url, DATABASE_THREADS)))
        await parts.enter_async_context(admitted(cluster, clock))
        export = open_export(settings.export.folder, database)
        http = settings.consumer.http
        await parts.enter_async_context(in_background(telemetry.measure_loop()))
        api = create_api(facts, check, telemetry)
        tracing.instrument(api, database.engine)
        url = await parts.enter_async_context(serving(api, http.host, http.port, section="consumer.http"))
        log.info("consumer.serving", extra={"url": url, "account": settings.quota.account})
        await until_available(threads[0], database.check_at_start, clock)  # before it takes part in the group
        transactions = Transactions(database, threads[0], clock)
        await parts.enter_async_context(
            delivering(settings.notify, secrets, transactions, clock, metrics.webhook_attempts)
        )
        topics = topics_of(broker.topic, broker.partitions, broker.events_topic)
        await parts.enter_async_context(in_background(ensure_topics(cluster, topics, clock)))
        dead_letters = await parts.enter_async_context(dead_letter_publisher(cluster, clock))
        subscription = await parts.enter_async_context(
            KafkaSubscription(cluster, broker.topic, broker.group, window=settings.consumer.window, clock=clock)
        )
        worker = make_worker(settings, database, provider, threads, subscription, dead_letters, clock, metrics)
        facts.worker = worker
        of_events = await parts.enter_async_context(_event_subscription(cluster, clock))
        notifier = Notifier(of_events, transactions, export=export)
        await parts.enter_async_context(in_background(notifier.run(), "notifier"))
        worker.intake.tracing = tracing
        worker.intake.find_buried = partial(find_buried, cluster, broker.topic)
        log.info("consumer.working")
        task = await parts.enter_async_context(working(worker, settings.openweather.timeout_s + GRACE_S))
        await asyncio.shield(task)  # a signal cancels the wait, not the work: that is for `working` to end


def _event_subscription(cluster: Cluster, clock: Clock) -> KafkaSubscription:
    """That of the notifier, in a group of its own."""
    waits = Timeouts(fetch_wait_s=EVENT_POLL_S, fetch_min_bytes=1, poll_s=EVENT_POLL_S)
    topic, group = cluster.settings.events_topic, f"{cluster.settings.group}.events"
    return KafkaSubscription(cluster, topic, group, window=EVENT_WINDOW, clock=clock, timeouts=waits)


def dead_letter_publisher(cluster: Cluster, clock: Clock) -> KafkaPublisher:
    """Takes messages of any size that a topic may allow now: whether one is too large is for the broker to say."""
    return KafkaPublisher(cluster, clock, max_message_bytes=2 * MAX_MESSAGE_BYTES)


@contextlib.contextmanager
def command_control(settings: Settings) -> Iterator[GateControl]:
    """The control of the account's gate, for one command. Raises as `command_database`."""
    with command_database(settings) as database:
        transactions = Transactions(database, inline, SystemClock())
        yield GateControl(transactions, settings.quota.account, settings.terms)
