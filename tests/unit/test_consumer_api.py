"""The consumer's HTTP front: health before and without its parts, and errors as problems."""

from collections.abc import Mapping

import httpx2

from consumer.app import WorkerFacts, create_api
from consumer.metrics import ConsumerMetrics
from raingauge.clock import SystemClock
from raingauge.errors import DatabaseUnavailable, HandoffUnavailable
from raingauge.observability.metrics import KEPT_S, Telemetry
from tests.api_support import assert_problem, scrape
from tests.simulation.virtual import VirtualClock, VirtualLoop, run_virtually
from tests.support.handoff import FakeHandoff


async def away() -> None:
    raise DatabaseUnavailable("host:3306/name: gone")


async def test_a_consumer_answers_errors_as_problems_and_head_as_get() -> None:
    transport = httpx2.ASGITransport(create_api(WorkerFacts(), away, Telemetry(SystemClock())))
    async with httpx2.AsyncClient(transport=transport, base_url="http://consumer") as http:
        detail = "there is nothing at /get; there are /health, /ready and /metrics"
        assert_problem(await http.get("/get"), 404, detail)
        assert_problem(await http.post("/ready"), 405, "/ready takes GET, HEAD, not POST")
        assert (await http.head("/health")).status_code == 200
        assert (await http.get("/ready")).json() == {"status": "The database cannot be used now: no answer in time"}


class Lagging(FakeHandoff):
    """A hand-off whose lag is known until it is away."""

    away = False

    async def lag(self) -> Mapping[int, int]:
        if self.away:
            raise HandoffUnavailable("away")
        return {0: 7, 3: 0}


def test_the_lag_of_each_partition_is_shown_as_long_as_it_is_known() -> None:
    loop, handoff = VirtualLoop(), Lagging()
    clock = VirtualClock(loop)
    telemetry = Telemetry(clock)
    ConsumerMetrics(telemetry).watch_lag(handoff)
    transport = httpx2.ASGITransport(create_api(WorkerFacts(), away, telemetry))

    async def program() -> None:
        async with httpx2.AsyncClient(transport=transport, base_url="http://consumer") as http:
            found = []
            for handoff.away in (False, True):
                await clock.sleep(KEPT_S)
                found.append({name: value for name, value in (await scrape(http)).items() if "lag_messages" in name})
            name = "raingauge_handoff_lag_messages"
            assert found == [{f"{name}{{partition=0}}": 7, f"{name}{{partition=3}}": 0}, {}]

    run_virtually(program(), loop)
