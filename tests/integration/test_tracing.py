"""A request's trace: through its collection, its messages and the log, with and without OpenTelemetry."""

import json
import logging
import re
from collections.abc import Iterator

import httpx2
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import select

from raingauge.contracts import TRACEPARENT, decode
from raingauge.database import Database
from raingauge.errors import SettingsError
from raingauge.model import trace_id
from raingauge.observability.instrumentation import Instrumentation
from raingauge.observability.opentelemetry import QUIET, OpenTelemetry
from raingauge.observability.tracing import ENDPOINT, TraceFilter, Tracing, make_tracing
from raingauge.storage import outbox
from raingauge.storage.models import Collection
from raingauge.storage.outbox import Lease
from tests.api_support import NOON, Front, api

TRACE = "0af7651916cd43dd8448eb211c80319c"  # pragma: allowlist secret
SENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def recorded(exporter: InMemorySpanExporter) -> Iterator[OpenTelemetry]:
    tracing = OpenTelemetry("test", exporter)
    yield tracing
    tracing.close()


async def collect(front: Front, tracing: Tracing, headers: dict[str, str]) -> str:
    """POST a collection; the traceparent that is stored with it."""
    observed = Instrumentation(tracing=tracing)
    served = api(front.settings, front.collections, front.relay, observed=observed)
    tracing.instrument(served, front.database.engine)
    transport = httpx2.ASGITransport(served)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as http:
        assert (await http.post("/collect", json={"id": 1, "cities": [1]})).status_code == 202
    stored: str | None = front.database.read(lambda connection: connection.scalar(select(Collection.traceparent)))
    assert stored is not None
    assert TRACEPARENT.fullmatch(stored)
    return stored


def message_of(database: Database) -> bytes:
    lease = Lease("relay", NOON)
    (message,) = database.write(lambda connection: outbox.lease(connection, NOON, lease, 10).messages)
    return message.encode()


async def test_a_clients_trace_reaches_the_row_and_the_message(sqlite: Database) -> None:
    stored = await collect(Front(sqlite), Tracing(), {"traceparent": SENT})
    assert trace_id(stored) == TRACE
    assert stored.endswith("-01")
    message = message_of(sqlite)
    assert decode(message).traceparent == stored


@pytest.mark.parametrize("sent", ["", "nonsense", SENT.upper(), f"01{SENT[2:]}", f"00-{'0' * 32}-{'0' * 16}-01"])
async def test_a_request_without_a_valid_trace_gets_one(sqlite: Database, sent: str) -> None:
    stored = await collect(Front(sqlite), Tracing(), {"traceparent": sent} if sent else {})
    assert trace_id(stored) != TRACE


async def test_what_is_logged_for_a_request_names_its_trace(sqlite: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.addFilter(TraceFilter())
    with caplog.at_level(logging.INFO):
        await collect(Front(sqlite), Tracing(), {"traceparent": SENT})
    accepted = [record for record in caplog.records if record.msg == "collection.accepted"]
    assert [vars(record)["trace_id"] for record in accepted] == [TRACE]


async def test_a_batch_is_linked_to_the_request_and_not_its_child(
    sqlite: Database, recorded: OpenTelemetry, exporter: InMemorySpanExporter
) -> None:
    stored = await collect(Front(sqlite), recorded, {"traceparent": SENT})
    with recorded.linked("batches.enqueue", [stored, stored, None, "nonsense"]):
        pass
    recorded.close()
    spans: dict[str, ReadableSpan] = {span.name: span for span in exporter.get_finished_spans()}
    posted = spans["POST /collect"].context
    assert posted is not None
    assert format(posted.trace_id, "032x") == TRACE
    assert stored == f"00-{TRACE}-{posted.span_id:016x}-01"
    enqueued = spans["batches.enqueue"]
    (link,) = enqueued.links
    assert (link.context.trace_id, link.context.span_id) == (posted.trace_id, posted.span_id)
    assert enqueued.parent is None
    assert any(re.match("INSERT", name) for name in spans), spans.keys()


@pytest.mark.parametrize(
    ("url", "quiet"),
    [
        ("http://ready.example/collect", False),
        ("http://a/compat/weather/weather/ready-7", False),
        ("http://a/collections/shopping/cancel", False),
        ("http://a/ready", True),
        ("http://a/compat/events/ping/", True),
    ],
)
def test_only_the_requests_that_say_nothing_have_no_span(url: str, quiet: bool) -> None:
    assert (re.search(QUIET, url) is not None) is quiet


def test_nothing_of_opentelemetry_is_used_unless_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENDPOINT, raising=False)
    assert type(make_tracing("test")) is Tracing
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:1")
    tracing = make_tracing("test")
    assert isinstance(tracing, OpenTelemetry)
    tracing.close()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:1")
    monkeypatch.setitem(__import__("sys").modules, "raingauge.observability.opentelemetry", None)
    with pytest.raises(SettingsError, match="install the extra otel"):
        make_tracing("test")


def test_a_message_without_a_trace_has_no_such_field() -> None:
    usual = {"collection_id": "1", "batch": 0, "batches": 1, "total": 1, "max_age_s": 600, "city_ids": [1]}
    sent = json.dumps(usual | {"version": 1, "requested_at": "2026-11-20T12:00:00Z"}).encode()
    assert "traceparent" not in json.loads(decode(sent).encode())
