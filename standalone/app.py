"""Embedded mode's composition root: the same producer and consumer, joined by the in-process hand-off.

Nothing outside the process is needed: SQLite, and without an API key the simulator in the provider's place.
"""

import asyncio
import contextlib
import fcntl
import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, make_url, select

from consumer.app import DATABASE_THREADS, EVENT_WINDOW, WorkerFacts, delivering, make_worker, opened, working
from consumer.export import open_export
from consumer.metrics import ConsumerMetrics
from consumer.notifier import Notifier
from producer.app import THREADS, Publishers, producing
from raingauge.background import in_background
from raingauge.blocking import Threads, until_available
from raingauge.clock import Clock, SystemClock
from raingauge.database import Database, open_database
from raingauge.database.transactions import Transactions
from raingauge.errors import SettingsError
from raingauge.messaging.files import FilePublisher, make_files
from raingauge.messaging.inprocess import InProcessBroker
from raingauge.observability.instrumentation import Instrumentation
from raingauge.observability.metrics import Telemetry
from raingauge.observability.tracing import make_tracing
from raingauge.process import serving, until_signalled
from raingauge.settings import OPENWEATHER_URL, Settings, StreamSettings, provider_key, webhook_secrets
from raingauge.storage import events, outbox
from raingauge.storage.models import QuotaGate
from simulator.app import create_app
from simulator.settings import SimulatorSettings

SIMULATED: Final = "simulator"
"""The key and the account of the simulated provider."""
SIMULATED_DATABASE: Final = "sqlite:///var/simulator.db"
SIMULATED_STREAMS: Final = "var/simulator-streams"
GRACE_S: Final = 5.0


async def run(settings: Settings) -> None:
    """Serve and collect until SIGTERM or SIGINT.

    Raises:
        SettingsError: the hand-off is Kafka, the address is taken, the folder of the export or of the streams cannot be
            written to, the database refuses this program, or another process works on the same SQLite file.
        GateMismatch: the account's gate was made with other terms.
    """
    await until_signalled(_serve(settings))


async def _serve(settings: Settings) -> None:
    if settings.broker.url != "inprocess://":
        raise SettingsError("broker.url: embedded mode hands off in-process; for Kafka run producer and consumer")
    clock, secrets = SystemClock(), webhook_secrets(settings.notify)
    async with contextlib.AsyncExitStack() as parts:
        tracing = parts.enter_context(contextlib.closing(make_tracing("standalone")))
        settings, key = await parts.enter_async_context(_provided(settings))
        pool_size = THREADS + DATABASE_THREADS
        database = parts.enter_context(contextlib.closing(open_database(settings.database.url, pool_size)))
        parts.enter_context(alone(settings.database.url))
        export = open_export(settings.export.folder, database)
        await _prepared(database, clock, simulated=_is_simulated(settings, key))
        broker = InProcessBroker(settings.broker.topic, settings.consumer.window)
        subscription = await parts.enter_async_context(broker.subscription())
        provider, threads = parts.enter_context(opened(settings, key, clock))
        telemetry = Telemetry(clock)
        await parts.enter_async_context(in_background(telemetry.measure_loop()))
        metrics = ConsumerMetrics(telemetry)
        worker = make_worker(settings, database, provider, threads, subscription, broker, clock, metrics)
        events = InProcessBroker(settings.broker.events_topic, EVENT_WINDOW)
        of_events = await parts.enter_async_context(events.subscription())
        transactions = Transactions(database, threads[0], clock)
        notifier = Notifier(of_events, transactions, export=export)
        await parts.enter_async_context(in_background(notifier.run(), "notifier"))
        await parts.enter_async_context(
            delivering(settings.notify, secrets, transactions, clock, metrics.webhook_attempts)
        )
        worker.intake.tracing = tracing
        observed = Instrumentation(telemetry, tracing, facts=[WorkerFacts(worker)])
        streams = parts.enter_context(_stream_publisher(settings.streams, clock))
        publishers = Publishers(broker, events, streams)
        api = await parts.enter_async_context(producing(settings, database, publishers, observed))
        http = settings.http
        url = await parts.enter_async_context(serving(api, http.host, http.port, keep_alive_s=http.keep_alive_s))
        task = await parts.enter_async_context(working(worker, settings.openweather.timeout_s + GRACE_S))
        parts.callback(api.state.parts.live.close)  # watchers end first: the server waits for open requests
        _say(_welcome(settings, key, url))
        await asyncio.shield(task)  # a signal cancels the wait, not the work: that is for `working` to end


@contextlib.asynccontextmanager
async def _provided(settings: Settings) -> AsyncIterator[tuple[Settings, str | None]]:
    """The settings and the key for the provider; starts the simulator when there is no key for the real one."""
    key = provider_key()
    if key is not None or settings.openweather.base_url != OPENWEATHER_URL:
        yield settings, key
        return
    quota = settings.quota
    simulated = SimulatorSettings(key=SIMULATED, quota=quota.cities_per_window, window_s=quota.window_s)
    async with serving(create_app(simulated, SystemClock()), "127.0.0.1", 0) as url:
        yield simulated_settings(settings, url), SIMULATED


def simulated_settings(settings: Settings, url: str) -> Settings:
    """The same, on the simulator: account, database and streams are its own, so that invented weather stays apart."""
    defaults = Settings.model_fields
    own = SIMULATED_DATABASE if settings.database.url == defaults["database"].default.url else settings.database.url
    folder = settings.streams.folder
    own_folder = SIMULATED_STREAMS if folder == defaults["streams"].default.folder else folder
    return settings.model_copy(
        update={
            "database": settings.database.model_copy(update={"url": own}),
            "openweather": settings.openweather.model_copy(update={"base_url": url}),
            "quota": settings.quota.model_copy(update={"account": SIMULATED}),
            "streams": settings.streams.model_copy(update={"folder": own_folder}),
        }
    )


@contextlib.contextmanager
def _stream_publisher(streams: StreamSettings, clock: Clock) -> Iterator[FilePublisher | None]:
    """Writes the streams into files; None if they are disabled.

    Raises:
        SettingsError: the folder cannot be written to.
    """
    if not streams.enabled:
        yield None
        return
    folder = Path(streams.folder)
    make_files(folder, (streams.readings_topic, streams.latest_topic))
    with contextlib.closing(Threads(1, "streams")) as thread:
        yield FilePublisher(folder, thread, clock)


@contextlib.contextmanager
def alone(url: str) -> Iterator[None]:
    """Keep every other embedded process from this SQLite file: two would each wait for what the other holds.

    The lock is the kernel's (flock), so a process that is killed leaves none.

    Raises:
        SettingsError: another one works on it.
    """
    target = make_url(url)
    if target.get_backend_name() != "sqlite":
        yield
        return
    with contextlib.ExitStack() as held:
        try:
            file = held.enter_context(Path(f"{Path(str(target.database)).resolve()}.lock").open("wb"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError("database.url: another embedded process works on this database") from None
        except OSError as error:
            raise SettingsError(f"database.url: {error}") from error
        yield


def _is_simulated(settings: Settings, key: str | None) -> bool:
    return key == SIMULATED and settings.quota.account == SIMULATED


async def _prepared(database: Database, clock: Clock, *, simulated: bool) -> None:
    """Prepare the database, as soon as it can be had; meanwhile a signal is heard."""
    with contextlib.closing(Threads(1, "schema")) as thread:
        await until_available(thread, database.check_at_start, clock)
        await until_available(thread, partial(prepare, database, simulated=simulated), clock)


def prepare(database: Database, *, simulated: bool = False) -> None:
    """Bring the schema up, and have everything unsettled published again: the in-process hand-off starts empty.

    Raises:
        SettingsError: simulated weather would get among real, or real among simulated.
    """

    def work(connection: Connection) -> None:
        if any((account == SIMULATED) is not simulated for account in connection.scalars(select(QuotaGate.account))):
            there, here = ("real", "simulated") if simulated else ("simulated", "real")
            raise SettingsError(f"database.url: {there} weather is in this database, {here} must not get among it")
        outbox.forget_publications(connection)
        events.forget_publications(connection, database.now(connection))

    config = Config()
    config.set_main_option("script_location", "migrations:")  # the installed package
    config.attributes["url"] = database.engine.url.render_as_string(hide_password=False)
    command.upgrade(config, "head")
    database.write(work)


def _welcome(settings: Settings, key: str | None, url: str) -> str:
    quota = settings.quota
    provider = settings.openweather.base_url
    invented = "simulated weather: there is no OPENWEATHER_API_KEY"
    who = invented if _is_simulated(settings, key) else f"weather from {provider}"
    streams = f"  streams   {settings.streams.folder}\n" if settings.streams.enabled else ""
    return f"""Raingauge, embedded: {who}
  quota     {quota.cities_per_window} cities in {quota.window_s:g} s, {quota.pacing}, account {quota.account}
  database  {make_url(settings.database.url).render_as_string()}
  page      {url}/
{streams}  API       {url}  (documentation: {url}/docs)
Try it:
  curl -X POST {url}/collect -H 'Content-Type: application/json' -d '{{"id": 1}}'
  curl '{url}/get?id=1'
Ctrl-C stops it; it goes on where it was."""


def _say(text: str) -> None:
    print(text, file=sys.stdout, flush=True)  # noqa: T201
