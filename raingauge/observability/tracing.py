"""Trace ids: from a request through its collection and its messages to the log, as W3C Trace Context has them.

They travel with and without OpenTelemetry. Spans are recorded only when `OTEL_EXPORTER_OTLP_ENDPOINT` is set, and only
then are its packages imported. https://www.w3.org/TR/trace-context/#traceparent-header
"""

import logging
import os
import secrets
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any, Final

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from raingauge.contracts import TRACEPARENT
from raingauge.errors import SettingsError
from raingauge.model import trace_id

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"

current: Final[ContextVar[str | None]] = ContextVar("traceparent", default=None)
"""The traceparent of the request that is being answered."""


class Tracing:
    """Trace ids alone, without spans."""

    def traceparent(self, given: str | None) -> str:
        """The request's traceparent: a new span in the client's trace, or in a new trace."""
        match = TRACEPARENT.fullmatch(given or "")
        trace, flags = match.groups() if match else (secrets.token_hex(16), "00")
        return f"00-{trace}-{secrets.token_hex(8)}-{flags}"

    def instrument(self, api: FastAPI, engine: Any) -> None:
        """Without spans there is nothing to do."""

    def linked(self, name: str, traceparents: Iterable[str | None]) -> AbstractContextManager[object]:  # noqa: ARG002
        """A span of the block, linked to those that caused it: a batch outlives its request by hours."""
        return nullcontext()

    def close(self) -> None:
        """Nothing is recorded, nothing is sent."""


def make_tracing(service: str) -> Tracing:
    """Tracing as the environment says.

    Raises:
        SettingsError: OpenTelemetry is wanted and not installed.
    """
    if not os.environ.get(ENDPOINT):
        return Tracing()
    try:
        from raingauge.observability.opentelemetry import OpenTelemetry, otlp_exporter  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError(f"{ENDPOINT} is set, but {error.name} is missing: install the extra otel") from error
    return OpenTelemetry(service, otlp_exporter())


class TraceContext:
    """Middleware that gives each request but GET its traceparent, for the log and for what the request causes."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] != "GET":
            current.set(self._tracing.traceparent(Headers(scope=scope).get("traceparent")))
        await self._app(scope, receive, send)


class TraceFilter(logging.Filter):
    """Adds the field `trace_id` to records that are logged for a request."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keeps every record."""
        if (traceparent := current.get()) is not None and not hasattr(record, "trace_id"):
            record.trace_id = trace_id(traceparent)
        return True
