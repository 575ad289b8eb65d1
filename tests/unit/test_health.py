"""The routes /health and /ready."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from raingauge.clock import SystemClock
from raingauge.errors import DatabaseUnavailable, RaingaugeError
from raingauge.observability import health
from raingauge.observability.metrics import Telemetry


class Facts:
    def details(self) -> Mapping[str, Any]:
        return {"waiting_for": "month"}


class HandClock(SystemClock):
    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


async def get(path: str, missing: RaingaugeError | None = None) -> httpx2.Response:
    async def check() -> None:
        if missing is not None:
            raise missing

    app = FastAPI()
    health.install(app, [Facts()], check, Telemetry(SystemClock()))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service") as client:
        return await client.get(path)


@pytest.mark.parametrize("missing", [None, DatabaseUnavailable("away")])
async def test_health_answers_with_details_whatever_is_unavailable(missing: RaingaugeError | None) -> None:
    answer = await get("/health", missing)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "details": {"waiting_for": "month"}})


async def test_ready_names_what_is_unavailable() -> None:
    answer = await get("/ready", DatabaseUnavailable("OperationalError", "it is read-only"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert answer.json() == {"status": "The database cannot be used now: it is read-only"}
    assert (await get("/ready")).json() == {"status": "ready"}


@pytest.mark.parametrize("missing", [None, DatabaseUnavailable("away")])
async def test_ready_checks_once_a_second_however_many_ask(missing: RaingaugeError | None) -> None:
    clock, checks, let_go = HandClock(), 0, asyncio.Event()

    async def check() -> None:
        nonlocal checks
        checks += 1
        await let_go.wait()
        if missing is not None:
            raise missing

    app = FastAPI()
    health.install(app, [], check, Telemetry(clock))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service") as http:
        asked = [asyncio.create_task(http.get("/ready")) for _ in range(10)]
        while not checks:
            await clock.sleep(0)
        let_go.set()
        found = {(await each).status_code for each in asked} | {(await http.get("/ready")).status_code}
        assert (found, checks) == ({200 if missing is None else 503}, 1)
        clock.now_s += health.READY_KEPT_S
        await http.get("/ready")
        assert checks == 2
