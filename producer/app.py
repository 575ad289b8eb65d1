"""The producer's composition root: builds its parts, serves them, stops them in order."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial

from fastapi import FastAPI

from producer.access.admission import admission
from producer.api.application import Background, api_parts, create_api
from producer.cities import default_cities
from producer.collections import Collections
from producer.relays.batches import Relay
from producer.relays.events import EventRelay
from producer.relays.streams import StreamRelay
from producer.retention import Retention
from producer.schedules.from_settings import SettingsSchedules, definitions
from producer.schedules.running import Runs, Scheduler
from raingauge.background import in_background
from raingauge.blocking import Threads, until_available
from raingauge.clock import SystemClock
from raingauge.database import Database, open_database
from raingauge.database.transactions import Transactions
from raingauge.errors import DatabaseUnavailable
from raingauge.messaging.kafka import KafkaPublisher, admitted, cluster_of, keep_topics, stream_topics, topics_of
from raingauge.messaging.port import Publisher
from raingauge.observability.instrumentation import Instrumentation
from raingauge.observability.metrics import Telemetry
from raingauge.observability.tracing import make_tracing
from raingauge.process import serving, until_signalled
from raingauge.settings import Settings, token_digests
from raingauge.storage.outbox import outstanding_limit, widen

log = logging.getLogger("raingauge.producer")

THREADS = 16


@dataclass(frozen=True, slots=True)
class Publishers:
    """Where the relays publish."""

    batches: Publisher
    events: Publisher
    streams: Publisher | None = None
    """None: streams are disabled."""


class Parts:
    """The parts of a producer beside its HTTP server, constructed on one database."""

    def __init__(self, settings: Settings, transactions: Transactions, publishers: Publishers) -> None:
        """Nothing runs yet. Raises SettingsError: a file of a token or of cities cannot be used."""
        tokens, limits, every_s = settings.access.tokens, settings.quota, settings.relay.every_s
        fixed = dict(zip(token_digests(tokens), tokens, strict=True))
        outstanding = outstanding_limit(settings.collect.outstanding_batches, limits.cities_per_window, limits.window_s)
        endpoint, streams = settings.openweather.endpoint, publishers.streams
        self._settings, self._transactions, self._outstanding = settings, transactions, outstanding
        self.admission = admission(transactions, settings, fixed)
        self.collections = Collections(transactions, settings.terms, limits.account, outstanding, endpoint=endpoint)
        self.relay = _relay(settings, transactions, publishers.batches)
        self.event_relay = EventRelay(transactions, publishers.events, settings.relay, settings.broker.events_topic)
        holder = secrets.token_hex(8)
        self.retention = Retention(transactions, settings.retention, streams=settings.streams.enabled, holder=holder)
        wanted, cities = definitions(settings), default_cities()
        self._schedules = SettingsSchedules(transactions, wanted, cities, limits.cities_per_month)
        self.scheduler = Scheduler(transactions, Runs(transactions, cities, outstanding), self.relay.wake)
        self._stream_relay: StreamRelay | None = None
        if streams is not None:
            self._stream_relay = StreamRelay(transactions, streams, transactions.clock, settings.streams, every_s)

    async def run(self) -> None:
        """Publish, start what is due and delete what is old, once it is known whether tokens are needed."""
        await self.admission.wait_until_known()
        await asyncio.gather(self.admission.run(), self._publish())

    async def _publish(self) -> None:
        while await self._transactions.persist(partial(widen, outstanding=self._outstanding)):
            pass
        await self._transactions.persist(self._schedules.store)
        parts = (self.relay, self.event_relay, self._stream_relay, self.retention, self.scheduler)
        await asyncio.gather(*(one.run() for one in parts if one))

    def api(self, observed: Instrumentation) -> FastAPI:
        """The application to serve."""
        background = Background(self.relay, self.retention, self.event_relay.wake, self.scheduler.wake)
        return create_api(api_parts(self._settings, self.collections, background, self.admission, observed))


@contextlib.asynccontextmanager
async def producing(
    settings: Settings,
    database: Database,
    publishers: Publishers,
    observed: Instrumentation | None = None,
) -> AsyncIterator[FastAPI]:
    """Run a producer's parts, once the database answers, while the block runs; yields the application to serve.

    Call `state.parts.live.close()` before you stop the server: it waits for open requests, and event streams do not end
    by themselves.

    Raises (on entry):
        SettingsError: a file of a token cannot be used.
    Raises (ends the block):
        SettingsError: the database refuses this program, a schedule of the settings is wrong, or other machines can
            connect and there is no token.
    """
    observed = observed or Instrumentation()
    threads, clock = Threads(THREADS, "producer"), SystemClock()
    parts = Parts(settings, Transactions(database, threads, clock), publishers)

    async def work() -> None:
        await until_available(threads, database.check_at_start, clock)
        await parts.run()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work())
        try:
            with contextlib.suppress(DatabaseUnavailable):
                await parts.admission.check()  # before anybody can connect, unless the database is away
            api = parts.api(observed)
            observed.tracing.instrument(api, database.engine)
            yield api
        finally:
            task.cancel()
            threads.close()


def _relay(settings: Settings, transactions: Transactions, publisher: Publisher) -> Relay:
    return Relay(
        transactions,
        publisher,
        settings.relay,
        topic=settings.broker.topic,
        account=settings.quota.account,
        terms=settings.terms,
        holder=secrets.token_hex(8),
    )


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        SettingsError: the hand-off is not Kafka, the address is taken, or Kafka or the database refuses this program.
    """
    await until_signalled(_serve(settings))


async def _serve(settings: Settings) -> None:
    cluster = cluster_of(settings.broker)
    clock = SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        tracing = stack.enter_context(contextlib.closing(make_tracing("producer")))
        database = stack.enter_context(contextlib.closing(open_database(settings.database.url, pool_size=THREADS)))
        await stack.enter_async_context(admitted(cluster, clock))
        publisher = await stack.enter_async_context(KafkaPublisher(cluster, clock))
        publishers = Publishers(batches=publisher, events=publisher)
        broker = settings.broker
        topics = topics_of(broker.topic, broker.partitions, broker.events_topic)
        if settings.streams.enabled:  # a client of its own: what cannot be published there must not hold up batches
            topics += stream_topics(settings.streams.readings_topic, settings.streams.latest_topic, broker.partitions)
            of_streams = await stack.enter_async_context(KafkaPublisher(cluster, clock))
            publishers = replace(publishers, streams=of_streams)
        await stack.enter_async_context(in_background(keep_topics(cluster, topics, clock)))
        observed = Instrumentation(Telemetry(clock), tracing)
        await stack.enter_async_context(in_background(observed.telemetry.measure_loop()))
        api = await stack.enter_async_context(producing(settings, database, publishers, observed))
        http = settings.http
        url = await stack.enter_async_context(serving(api, http.host, http.port, keep_alive_s=http.keep_alive_s))
        stack.callback(api.state.parts.live.close)  # watchers end first: the server waits for open requests
        log.info("producer.serving", extra={"url": url})
        await asyncio.Event().wait()
