"""The consumer's HTTP front: health before and without its parts, and errors as problems."""

import httpx

from consumer.app import WorkerFacts, create_api
from raingauge.errors import DatabaseUnavailable
from tests.api_support import assert_problem


async def away() -> None:
    raise DatabaseUnavailable("host:3306/name: gone")


async def test_a_consumer_answers_errors_as_problems_and_head_as_get() -> None:
    transport = httpx.ASGITransport(create_api(WorkerFacts(), away))
    async with httpx.AsyncClient(transport=transport, base_url="http://consumer") as http:
        detail = "there is nothing at /get; there are /health, /ready and /metrics"
        assert_problem(await http.get("/get"), 404, detail)
        assert_problem(await http.post("/ready"), 405, "/ready takes GET, HEAD, not POST")
        assert (await http.head("/health")).status_code == 200
        assert (await http.get("/ready")).json() == {"status": "The database cannot be used now: host:3306/name: gone"}
