"""A process's telemetry: requests by route, the event loop's lag, and scrapes that neither wait long nor fail."""

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Response
from prometheus_client import Gauge

from raingauge import web
from raingauge.clock import SystemClock
from raingauge.errors import DatabaseUnavailable
from raingauge.observability.metrics import DEADLINE_S, KEPT_S, SAMPLE_LOOP_EVERY_S, Telemetry
from tests.simulation.virtual import VirtualClock, VirtualLoop, run_virtually

REQUESTS = "raingauge_http_request_duration_seconds_count"


def application(telemetry: Telemetry) -> FastAPI:
    api, router = FastAPI(), APIRouter()
    telemetry.measure_requests(api)

    @router.get("/things/{id}")
    async def thing(id: int) -> Response:  # noqa: A002
        if id == 0:
            raise RuntimeError("a bug")
        return Response(status_code=204 if id == 1 else 503)

    api.include_router(router)
    web.install(api, "there are things")
    return api


@pytest.mark.parametrize(
    ("method", "path", "labels"),
    [
        ("GET", "/things/1", ("/things/{id}", "GET", "2xx")),
        ("GET", "/things/2", ("/things/{id}", "GET", "5xx")),
        ("GET", "/things/0", ("/things/{id}", "GET", "5xx")),
        ("GET", "/things/x", ("/things/{id}", "GET", "4xx")),
        ("HEAD", "/things/1", ("/things/{id}", "GET", "2xx")),
        ("POST", "/things/1", ("/things/{id}", "POST", "4xx")),
        ("BREW", "/things/1", ("/things/{id}", "other", "4xx")),
        ("GET", "/nothing/1", ("none", "GET", "4xx")),
    ],
)
async def test_a_request_is_counted_by_route_template_method_and_status_class(
    method: str, path: str, labels: tuple[str, str, str]
) -> None:
    telemetry = Telemetry(SystemClock())
    transport = httpx2.ASGITransport(application(telemetry), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://service") as http:
        for _ in range(2):
            await http.request(method, path)
    named = dict(zip(("route", "method", "status"), labels, strict=True))
    assert telemetry.registry.get_sample_value(REQUESTS, named) == 2
    families = [family for family in telemetry.registry.collect() if "http_request" in family.name]
    assert sum(sample.value for family in families for sample in family.samples if sample.name == REQUESTS) == 2


class Scene:
    """A telemetry in virtual time with one gauge, which takes what is read: a number, an error, or for ever."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.clock = VirtualClock(self.loop)
        self.telemetry = Telemetry(self.clock)
        self.answer: float | Exception = 0.0
        self.reads = 0
        self._gauge = Gauge("a_gauge", "A gauge.", registry=self.telemetry.registry)
        self.telemetry.read_before_scrapes(self._read)

    async def _read(self) -> None:
        self.reads += 1
        await self.clock.sleep(0.1)
        if isinstance(self.answer, Exception):
            raise self.answer
        await self.clock.sleep(self.answer if math.isinf(self.answer) else 0)
        self._gauge.set(self.answer)

    async def scrape(self, answer: float | Exception, after_s: float = KEPT_S) -> float:
        """The gauge in a scrape after that time, in which that would be read."""
        await self.clock.sleep(after_s)
        self.answer = answer
        text = (await self.telemetry.exposition()).decode()
        return float(next(line.split()[1] for line in text.splitlines() if line.startswith("a_gauge ")))


def virtually(program: Callable[[Scene], Any]) -> Any:
    scene = Scene()
    return run_virtually(program(scene), scene.loop)


def test_what_was_read_serves_the_scrapes_of_the_same_time_and_of_some_seconds() -> None:
    async def program(scene: Scene) -> None:
        assert await asyncio.gather(scene.scrape(7), scene.scrape(7)) == pytest.approx([7, 7])
        assert await scene.scrape(8, after_s=KEPT_S / 2) == 7
        assert scene.reads == 1
        assert await scene.scrape(8) == 8

    virtually(program)


@pytest.mark.parametrize(
    ("trouble", "waits_s"), [(DatabaseUnavailable("away"), 0.1), (math.inf, DEADLINE_S)], ids=["fails", "hangs"]
)
def test_a_scrape_answers_in_time_with_the_values_of_before(
    trouble: float | Exception, waits_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    async def program(scene: Scene) -> None:
        assert await scene.scrape(7) == 7
        began = scene.clock.monotonic()
        assert await scene.scrape(trouble) == 7
        assert scene.clock.monotonic() - began == pytest.approx(KEPT_S + waits_s)
        assert await scene.scrape(8) == 8

    virtually(program)
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "metrics.not_read"
    ]


def test_the_event_loop_s_lag_is_sampled() -> None:
    class SlowClock(VirtualClock):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds + 0.3)

    loop = VirtualLoop()
    telemetry = Telemetry(SlowClock(loop))

    async def program() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10 * SAMPLE_LOOP_EVERY_S):
                await telemetry.measure_loop()

    run_virtually(program(), loop)
    value = telemetry.registry.get_sample_value
    assert value("raingauge_event_loop_lag_seconds_count") == 7
    assert value("raingauge_event_loop_lag_seconds_sum") == pytest.approx(2.1)
