"""The routes /health and /ready."""

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


async def get(path: str, missing: RaingaugeError | None = None) -> httpx2.Response:
    async def check() -> None:
        if missing is not None:
            raise missing

    app = FastAPI()
    app.include_router(health.router([Facts()], check, Telemetry(SystemClock())))
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
