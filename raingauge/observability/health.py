"""The routes /health, /ready and /metrics, the same on every service. They must work during outages."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import BaseModel, Field

from raingauge.errors import DatabaseUnavailable, RaingaugeError
from raingauge.observability.metrics import Telemetry

log = logging.getLogger("raingauge.health")


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
    facts = tuple(parts)
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
        """Answers 503 while something that the service needs is unavailable."""
        try:
            await check()
        except DatabaseUnavailable as error:
            log.warning("database.unavailable", extra={"error": str(error)})
            return _not_ready(error, error.shown)
        except RaingaugeError as error:
            return _not_ready(error, str(error))
        return JSONResponse({"status": "ready"})

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


def _not_ready(error: RaingaugeError, why: str) -> Response:
    status = f"{(type(error).__doc__ or '').partition('.')[0]}: {why}"
    return JSONResponse({"status": status}, 503, headers={"Retry-After": "2"})
