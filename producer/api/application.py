"""The HTTP application: all front doors on the producer's use cases. It constructs no adapter."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Final

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from producer.access import session
from producer.access.admission import Admission
from producer.access.hosts import Hosts, allowed_hosts
from producer.access.middleware import Access
from producer.api import cities, docs, events, messages, page, problems, quota
from producer.api.collections import deletion, export, lists, one, stream
from producer.api.collections.acceptance import Acceptance
from producer.api.compat import collection_request, total, weather
from producer.api.compat import events as older_events
from producer.api.parts import ApiParts
from producer.api.readings import history, latest, summary
from producer.api.requests import Entrance
from producer.api.schedules import routes as schedules
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
from raingauge.observability import health
from raingauge.observability.instrumentation import Instrumentation
from raingauge.observability.tracing import TraceContext
from raingauge.settings import Settings

ROUTERS: Final = (
    *(one.router, lists.router, export.router),
    *(summary.router, latest.router, history.router),
    *(events.router, cities.router),
    *(weather.router, collection_request.router, total.router, older_events.router),
    *(deletion.router, schedules.router, quota.router, stream.router, session.router, page.router),
)
"""One for each subject. The first route that matches answers."""
BYTES_PER_CITY: Final = 16
BYTES_BESIDE_CITIES: Final = 4096
DESCRIPTION: Final = """Current weather for thousands of cities on one key, never faster than the key allows.

`POST /collect` accepts a collection and answers at once; `GET /get` tells how far it is and gives its readings at any
time. Errors are problems as in RFC 9457. What is published on Kafka is described at [/asyncapi.json](asyncapi.json).

Weather data: OpenWeather (openweathermap.org). City names: GeoNames, CC BY 4.0.
"""


@dataclass(frozen=True, slots=True)
class Background:
    """What runs beside the API, and is woken by it."""

    relay: Relay
    retention: Retention
    wake_event_relay: Callable[[], None] = lambda: None
    wake_scheduler: Callable[[], None] = lambda: None


def api_parts(
    settings: Settings,
    collections: Collections,
    background: Background,
    admission: Admission,
    observed: Instrumentation,
) -> ApiParts:
    """What the handlers work with; the producer's metrics and facts are added to those that `observed` has."""
    transactions, relay, retention = collections.transactions, background.relay, background.retention
    reports = QuotaReports(transactions, settings.quota.account, settings.terms, settings.openweather.endpoint)
    metrics = ProducerMetrics(observed.telemetry, relay, reports)
    retention.on_removed = metrics.count_removed
    budget = settings.quota.cities_per_month
    return ApiParts(
        settings=settings,
        observed=replace(observed, facts=[relay, *observed.facts]),
        clock=SystemClock(),
        admission=admission,
        collections=collections,
        acceptance=Acceptance(settings, collections, relay, metrics),
        exports=Exports(transactions),
        readings=Readings(transactions),
        events=Events(transactions, background.wake_event_relay),
        schedules=Schedules(collections, default_cities(), budget, background.wake_scheduler),
        quota=reports,
        live=Live(transactions, partial(stream.overview_of, collections, reports)),
        retention=retention,
    )


def create_api(parts: ApiParts) -> FastAPI:
    """The HTTP application. `parts.live.close()` ends its streams, which do not end by themselves.

    What is added last runs first: a request passes Hosts, Entrance, Access, Head, TraceContext and RequestDurations,
    and then reaches FastAPI's router.
    """
    settings, observed, prefix = parts.settings, parts.observed, parts.settings.http.root_path
    api = _described()
    api.state.parts = parts
    observed.telemetry.measure_requests(api)
    api.add_middleware(TraceContext, tracing=observed.tracing)
    for router in ROUTERS:
        api.include_router(router)
    health.install(api, observed.facts, parts.collections.check, observed.telemetry)
    api.mount(docs.ASSETS, StaticFiles(packages=[("fastapi_swagger", "resources")]))
    api.include_router(docs.router)
    api.include_router(messages.router)
    problems.install(api)
    limit = BYTES_BESIDE_CITIES + BYTES_PER_CITY * settings.collect.max_cities
    api.add_middleware(Access, admission=parts.admission, prefix=prefix)
    api.add_middleware(Entrance, prefix=prefix, limit=limit)
    api.add_middleware(Hosts, allowed=allowed_hosts(settings.http))
    page.page_below(prefix)  # its files are read now, not by a request
    return api


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
