"""The routes /health, /ready and /metrics, the same on every service. They must work during outages."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Protocol

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import BaseModel, Field

from raingauge.clock import Clock
from raingauge.errors import DatabaseUnavailable, RaingaugeError
from raingauge.observability.metrics import Telemetry

log = logging.getLogger("raingauge.health")

router = APIRouter(tags=["operation"])

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


class _SharedCheck:
    """Checks once for all requests of a second, so that frequent requests cost no more than one probe."""

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


@dataclass(frozen=True, slots=True)
class _Source:
    """What one application's answers come from; it is in `api.state.health`."""

    facts: Sequence[Facts]
    readiness: _SharedCheck
    telemetry: Telemetry


async def _source(request: Request) -> Any:
    return request.app.state.health


SourceDep = Annotated[_Source, Depends(_source)]


def install(api: FastAPI, facts: Sequence[Facts], check: Callable[[], Awaitable[None]], telemetry: Telemetry) -> None:
    """Serve the three routes.

    `check` returns if the service can do its work and raises a RaingaugeError otherwise.
    """
    api.state.health = _Source(facts, _SharedCheck(check, telemetry.clock), telemetry)
    api.include_router(router)


@router.get(
    "/health",
    operation_id="health",
    summary="Whether the process is alive",
    response_model=Health,
    response_description="The process is alive.",
)
async def health(source: SourceDep) -> dict[str, Any]:
    """Answers 200 as long as the event loop runs, also in an outage: a restart would not end it."""
    details = {name: value for part in source.facts for name, value in part.details().items()}
    return {"status": "ok", "details": details}


@router.get(
    "/ready",
    operation_id="ready",
    summary="Whether the service can do its work",
    response_model=Readiness,
    response_description="The service is ready.",
    responses={503: {"model": Readiness, "description": "The service is not ready, and why."}},
)
async def ready(source: SourceDep) -> Response:
    """Answers 503 while something that the service needs is unavailable. It is checked once a second at most."""
    missing = await source.readiness.result()
    if missing is None:
        return JSONResponse({"status": "ready"})
    why = missing.shown if isinstance(missing, DatabaseUnavailable) else missing
    status = f"{(type(missing).__doc__ or '').partition('.')[0]}: {why}"
    return JSONResponse({"status": status}, 503, headers={"Retry-After": "2"})


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Metrics for Prometheus",
    response_class=PlainTextResponse,
    response_description="The text format of Prometheus.",
)
async def metrics(source: SourceDep) -> Response:
    """Also answers in an outage of the database; values from it are then those that were last read."""
    return Response(await source.telemetry.exposition(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
