"""The routes /health, /ready and /metrics, the same on every service. They must work during outages."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import BaseModel, Field

from raingauge.clock import Clock
from raingauge.errors import DatabaseUnavailable, RaingaugeError
from raingauge.observability.metrics import Telemetry

log = logging.getLogger("raingauge.health")

READY_KEPT_S: Final = 1.0
"""How long the result of a check serves further requests for /ready, which need no token."""


class Health(BaseModel):
    """The process is alive; details of its state."""

    status: str = Field(description="ok: the process answers.", examples=["ok"])
    details: dict[str, Any] = Field(description="The state of its parts.", examples=[{"waiting_for": None}])


class Readiness(BaseModel):
    """Whether the service can do its work."""

    status: str = Field(description="ready, or the reason why not.", examples=["ready"])


class Facts(Protocol):
    """What a part of a service reports about itself."""

    def details(self) -> Mapping[str, Any]:
        """Details for people, shown in /health."""


def router(parts: Iterable[Facts], check: Callable[[], Awaitable[None]], telemetry: Telemetry) -> APIRouter:
    """Build the three routes.

    `check` returns if the service can do its work and raises a RaingaugeError otherwise.
    """
    facts, readiness = tuple(parts), _SharedCheck(check, telemetry.clock)
    api = APIRouter(tags=["operation"])

    @api.get(
        "/health",
        operation_id="health",
        summary="Whether the process is alive",
        response_model=Health,
        response_description="The process is alive.",
    )
    async def health() -> dict[str, Any]:
        """Answers 200 as long as the event loop runs, also in an outage: a restart would not end it."""
        return {"status": "ok", "details": {name: value for part in facts for name, value in part.details().items()}}

    @api.get(
        "/ready",
        operation_id="ready",
        summary="Whether the service can do its work",
        response_model=Readiness,
        response_description="The service is ready.",
        responses={503: {"model": Readiness, "description": "The service is not ready, and why."}},
    )
    async def ready() -> Response:
        """Answers 503 while something that the service needs is unavailable. It is checked once a second at most."""
        missing = await readiness.result()
        if missing is None:
            return JSONResponse({"status": "ready"})
        why = missing.shown if isinstance(missing, DatabaseUnavailable) else missing
        status = f"{(type(missing).__doc__ or '').partition('.')[0]}: {why}"
        return JSONResponse({"status": status}, 503, headers={"Retry-After": "2"})

    @api.get(
        "/metrics",
        operation_id="metrics",
        summary="Metrics for Prometheus",
        response_class=PlainTextResponse,
        response_description="The text format of Prometheus.",
    )
    async def metrics() -> Response:
        """Answers in an outage, too: then what the database says is of before."""
        return Response(await telemetry.exposition(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return api


class _SharedCheck:
    """Checks once for all requests of a moment: whoever asks often costs no more than a probe does."""

    def __init__(self, check: Callable[[], Awaitable[None]], clock: Clock) -> None:
        self._check = check
        self._clock = clock
        self._missing: RaingaugeError | None = None
        self._due_at_s = 0.0
        self._checking = asyncio.Lock()

    async def result(self) -> RaingaugeError | None:
        """What is missing; None: the service can do its work."""
        async with self._checking:
            if self._clock.monotonic() >= self._due_at_s:
                self._missing = None
                try:
                    await self._check()
                except RaingaugeError as error:
                    self._missing = error
                    if isinstance(error, DatabaseUnavailable):
                        log.warning("database.unavailable", extra={"error": str(error)})
                self._due_at_s = self._clock.monotonic() + READY_KEPT_S
            return self._missing
