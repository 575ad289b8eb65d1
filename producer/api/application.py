"""The HTTP application: all front doors on the producer's use cases. It constructs no adapter."""

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, FastAPI

from producer.access import session
from producer.access.admission import Admission, admission
from producer.access.hosts import Hosts, allowed_hosts
from producer.access.middleware import Access
from producer.api import cities, docs, events, messages, page, problems, quota
from producer.api.collections import deletion, export, lists, one, stream
from producer.api.compat import collection_request, total, weather
from producer.api.compat import events as older_events
from producer.api.compat.default_collections import DefaultCollections
from producer.api.readings import history, latest, summary
from producer.api.requests import Entrance
from producer.api.schedules import routes as schedules
from producer.api.schedules.bodies import ScheduleDefaults
from producer.cities import default_cities
from producer.collections import Collections
from producer.events import Events
from producer.exports.exporting import Exports
from producer.live import Live
from producer.metrics import ProducerMetrics
from producer.quota import QuotaReports
from producer.readings import Readings
from producer.relays.batches import Relay
from producer.retention import Retention
from producer.schedules.registry import Schedules
from raingauge.clock import SystemClock
from raingauge.model import CollectionState
from raingauge.observability import health
from raingauge.observability.instrumentation import Instrumentation
from raingauge.observability.tracing import TraceContext
from raingauge.settings import Settings

log = logging.getLogger("raingauge.producer")

BYTES_PER_CITY: Final = 16
BYTES_BESIDE_CITIES: Final = 4096
DESCRIPTION: Final = """Current weather for thousands of cities on one key, never faster than the key allows.

`POST /collect` accepts a collection and answers at once; `GET /get` tells how far it is and gives its readings at any
time. Errors are problems as in RFC 9457. What is published on Kafka is described at [/asyncapi.json](asyncapi.json).

Weather data: OpenWeather (openweathermap.org). City names: GeoNames, CC BY 4.0.
"""


class ProducerFacts:
    """What the producer reports in health."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def details(self) -> Mapping[str, Any]:
        """For people."""
        return {"publishing": self._relay.pending}


def create_api(  # noqa: PLR0913, PLR0917  one for each part that runs beside it
    settings: Settings,
    collections: Collections,
    relay: Relay,
    on_event: Callable[[], None] = lambda: None,
    observed: Instrumentation | None = None,
    watchers: ExitStack | None = None,
    retention: Retention | None = None,
    on_schedule: Callable[[], None] = lambda: None,
    admitted: Admission | None = None,
) -> FastAPI:
    """The HTTP application; the producer's metrics and facts are added to those that `observed` has.

    `on_event` is called when an event is due, `on_schedule` when a schedule was changed. Closing `watchers` ends their
    connections. `retention` deletes collections; None: one of its own, which nobody runs. Without `admitted` the first
    request finds out whether there are tokens. What is added last runs first: a request passes Hosts, Entrance, Access,
    Head, TraceContext and RequestDurations, and then reaches FastAPI's router.
    """
    observed = observed or Instrumentation()
    telemetry = observed.telemetry
    api = _described()
    telemetry.measure_requests(api)
    api.add_middleware(TraceContext, tracing=observed.tracing)
    reports = _quota_reports(settings, collections)
    admitted = admitted or admission(collections.transactions, settings, {})
    live = Live(collections.transactions, partial(stream.overview_of, collections, reports))
    if watchers is not None:
        watchers.callback(live.close)
    metrics = ProducerMetrics(telemetry, relay, reports)
    retention = retention or Retention(collections.transactions, settings.retention)
    for router in (*_front_doors(settings, collections, relay, on_event, metrics), _deletion(retention, metrics)):
        api.include_router(router)
    api.include_router(_schedules(settings, collections, on_schedule))
    api.include_router(quota.router(reports))
    api.include_router(stream.router(live, admitted.still_admits))
    api.include_router(session.router(admitted))
    api.include_router(page.router(page.Page(settings.http.root_path)))
    api.include_router(health.router([ProducerFacts(relay), *observed.facts], collections.check, telemetry))
    docs.install(api, settings.http.root_path)
    messages.install(api, settings)
    _guard(api, settings, admitted)
    return api


def _guard(api: FastAPI, settings: Settings, admitted: Admission) -> None:
    """Add what a request passes before it reaches a route, and what answers errors; what is added last runs first."""
    problems.install(api)
    limit = BYTES_BESIDE_CITIES + BYTES_PER_CITY * settings.collect.max_cities
    api.add_middleware(Access, admission=admitted, prefix=settings.http.root_path)
    api.add_middleware(Entrance, prefix=settings.http.root_path, limit=limit)
    api.add_middleware(Hosts, allowed=allowed_hosts(settings.http))


def _described() -> docs.DescribedApi:
    return docs.DescribedApi(
        title="Raingauge",
        version=version("raingauge"),
        description=DESCRIPTION,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        # FastAPI would look for receivers of its own telemetry in each request; Instrumentation observes this process.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )


def _quota_reports(settings: Settings, collections: Collections) -> QuotaReports:
    return QuotaReports(collections.transactions, settings.quota.account, settings.terms, settings.openweather.endpoint)


def _deletion(retention: Retention, metrics: ProducerMetrics) -> APIRouter:
    retention.on_removed = metrics.count_removed
    return deletion.router(retention)


def _schedules(settings: Settings, collections: Collections, on_change: Callable[[], None]) -> APIRouter:
    registry = Schedules(collections, default_cities(), settings.quota.cities_per_month, on_change)
    return schedules.router(registry, ScheduleDefaults(settings.collect.max_cities, settings.freshness.max_age_s))


def _front_doors(
    settings: Settings, collections: Collections, relay: Relay, on_event: Callable[[], None], metrics: ProducerMetrics
) -> Iterable[APIRouter]:
    """One router for each subject, then the contracts of older services."""
    clock, transactions = SystemClock(), collections.transactions
    sums, reported = Readings(transactions), Events(transactions, on_event)

    def on_accepted(state: CollectionState) -> None:
        log.info("collection.accepted", extra={"collection_id": state.id, "cities": state.total})
        metrics.accepted.inc()
        relay.wake()

    defaults = one.CollectDefaults(default_cities(), settings.collect.max_cities, settings.freshness.max_age_s)
    yield one.router(collections, defaults, on_accepted)
    yield lists.router(collections)
    yield export.router(Exports(transactions))
    yield summary.router(sums)
    yield latest.router(sums)
    yield history.router(sums)
    yield events.router(reported, clock)
    yield cities.router(Path(settings.cities.file))

    default_collections = DefaultCollections(collections, defaults, on_accepted)
    yield weather.router(default_collections)
    yield collection_request.router(default_collections)
    yield total.router(sums)
    yield older_events.router(reported, clock)
