"""Metrics of one process: a registry of its own, its HTTP requests, its event loop, and what is read before a scrape.

A scrape must neither wait long nor fail during an outage: reads have a deadline; after it the earlier values stay,
unless the read cleared its own first.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from raingauge.clock import Clock
from raingauge.errors import RaingaugeError

log = logging.getLogger("raingauge.telemetry")

DEADLINE_S: Final = 0.7
"""How long a scrape waits for what is read for it."""
KEPT_S: Final = 5.0
"""How long what was read serves further scrapes."""
SAMPLE_LOOP_EVERY_S: Final = 1.0
REQUEST_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
LAG_BUCKETS_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""A client may invent others; HEAD is answered as GET."""

Read = Callable[[], Awaitable[None]]
"""Sets gauges. Raises a RaingaugeError when it cannot."""


class Telemetry:
    """The metrics of one process. Its parts add theirs to `registry`."""

    def __init__(self, clock: Clock) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.clock = clock
        self._reads: list[_CachedRead] = []
        self._requests = Histogram(
            "raingauge_http_request_duration_seconds",
            "Time from a request's arrival to the end of its answer; refusals before the routing are left out.",
            ["route", "method", "status"],
            registry=self.registry,
            buckets=REQUEST_BUCKETS_S,
        )
        self._loop_lag = Histogram(
            "raingauge_event_loop_lag_seconds",
            "How much later than it should a task of the event loop runs, sampled once a second.",
            registry=self.registry,
            buckets=LAG_BUCKETS_S,
        )
        ProcessCollector(registry=self.registry)

    def read_before_scrapes(self, read: Read) -> None:
        """Call this before a scrape, unless it was called in the last `KEPT_S` seconds."""
        self._reads.append(_CachedRead(read, self.clock))

    def measure_requests(self, api: FastAPI) -> None:
        """Observe the application's requests. To be called before other middleware is added: it has to be innermost."""
        api.add_middleware(RequestDurations, durations=self._requests, clock=self.clock)

    async def measure_loop(self) -> NoReturn:
        """Observe the event loop's lag until cancelled."""
        while True:
            began = self.clock.monotonic()
            await self.clock.sleep(SAMPLE_LOOP_EVERY_S)
            self._loop_lag.observe(max(0.0, self.clock.monotonic() - began - SAMPLE_LOOP_EVERY_S))

    async def exposition(self) -> bytes:
        """All metrics in Prometheus' text format, after at most `DEADLINE_S` seconds."""
        await asyncio.gather(*(read() for read in self._reads))
        return generate_latest(self.registry)


class _CachedRead:
    """Reads at most every `KEPT_S` seconds, for all scrapes at once, and gives up after `DEADLINE_S`."""

    def __init__(self, read: Read, clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._due_at = 0.0
        self._reading = asyncio.Lock()

    async def __call__(self) -> None:
        async with self._reading:
            if self._clock.monotonic() < self._due_at:
                return
            try:
                async with asyncio.timeout(DEADLINE_S):
                    await self._read()
            except (RaingaugeError, TimeoutError) as error:
                log.warning("metrics.not_read", extra={"error": str(error) or "no answer in time"})
            self._due_at = self._clock.monotonic() + KEPT_S


class RequestDurations:
    """Middleware that observes each request by route template, method and status class."""

    def __init__(self, app: ASGIApp, durations: Histogram, clock: Clock) -> None:
        self._app = app
        self._durations = durations
        self._monotonic = clock.monotonic
        self._children: dict[tuple[str, str, int], Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began = 500, self._monotonic()

        def send_and_note_status(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            return send(message)

        try:
            await self._app(scope, receive, send_and_note_status)
        finally:
            # The router has put its choice into the scope: a route or a mount, neither for 404.
            key = (getattr(scope.get("route"), "path", "none"), scope["method"], status // 100)
            child = self._children.get(key) or self._child(*key)
            child.observe(self._monotonic() - began)

    def _child(self, route: str, method: str, status_class: int) -> Histogram:
        known = method if method in METHODS else "other"
        child = self._durations.labels(route, known, f"{status_class}xx")
        if known == method:
            self._children[route, method, status_class] = child
        return child
