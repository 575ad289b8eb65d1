"""Spans by OpenTelemetry. Needs the extra `otel`; only `make_tracing` imports this module, when it is wanted."""

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, Final

from fastapi import FastAPI
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.aiokafka import AIOKafkaInstrumentor
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from raingauge.observability.tracing import Tracing

QUIET: Final = "/(health|ready|metrics|ping)/?$"
"""URLs that are requested all the time and say nothing."""


def otlp_exporter() -> SpanExporter:
    """Sends spans by OTLP over HTTP, as the variables `OTEL_EXPORTER_OTLP_…` say."""
    return OTLPSpanExporter()


class OpenTelemetry(Tracing):
    """Records the spans of one process."""

    def __init__(self, service: str, exporter: SpanExporter) -> None:
        named = {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: f"raingauge-{service}"}
        self._provider = TracerProvider(resource=Resource.create(named))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("raingauge")
        self._kafka = AIOKafkaInstrumentor()
        self._kafka.instrument(tracer_provider=self._provider)
        self._sqlalchemy = SQLAlchemyInstrumentor()

    def traceparent(self, given: str | None) -> str:
        """The traceparent of the request's own span."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return carrier.get("traceparent") or super().traceparent(given)

    def instrument(self, api: FastAPI, engine: Any) -> None:
        """Record spans of this application's requests and of this engine's statements."""
        FastAPIInstrumentor.instrument_app(api, tracer_provider=self._provider, excluded_urls=QUIET)
        # Its check of versions knows SQLAlchemy up to 2.0; a test shows that it works with the installed one.
        self._sqlalchemy.instrument(engine=engine, tracer_provider=self._provider, skip_dep_check=True)

    def linked(self, name: str, traceparents: Iterable[str | None]) -> AbstractContextManager[object]:
        """A span of the block, with a link to each cause."""
        contexts = (propagate.extract({"traceparent": one}) for one in dict.fromkeys(traceparents) if one)
        causes = [trace.get_current_span(context).get_span_context() for context in contexts]
        return self._tracer.start_as_current_span(name, links=[trace.Link(cause) for cause in causes if cause.is_valid])

    def close(self) -> None:
        """Send what is recorded."""
        self._provider.shutdown()
        for library in (self._kafka, self._sqlalchemy):
            if library.is_instrumented_by_opentelemetry:
                library.uninstrument()
