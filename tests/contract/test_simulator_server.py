"""The simulator on a real socket: what only a server can show, closed connections above all."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
import uvicorn

from raingauge.clock import SystemClock
from simulator.app import create_app
from simulator.settings import SimulatorSettings
from tests.support.processes import simulator

DEADLINE_S = 20.0
ONE = {"id": "1", "appid": "simulator"}


@pytest.fixture(params=["h11", "httptools"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(SimulatorSettings(latency_s=0, quota=0), SystemClock())
    config = uvicorn.Config(app, port=0, http=request.param, lifespan="off", access_log=False, log_config=None)
    listener = config.bind_socket()
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve([listener]))
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with httpx2.AsyncClient(base_url=address, timeout=DEADLINE_S) as client:
            yield client
    finally:
        server.should_exit = True
        await asyncio.wait_for(serving, DEADLINE_S)


async def set_fault(client: httpx2.AsyncClient, **form: object) -> None:
    (await client.post("/control/faults", json=form)).raise_for_status()


@pytest.mark.parametrize("fault", ["outage", "lose"])
async def test_a_dropped_connection_ends_without_an_answer_was_seen_and_is_no_error_of_the_server(
    client: httpx2.AsyncClient, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    await set_fault(client, fault=fault)
    for _ in range(2):
        with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
            await client.get("/data/2.5/weather", params=ONE)
    await client.delete("/control/faults")
    assert (await client.get("/data/2.5/weather", params=ONE)).status_code == 200
    report = (await client.get("/control/witness")).json()
    assert (report["units"], report["statuses"]) == (3, {"0": 2, "200": 1})
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


async def test_a_body_drips_byte_by_byte_and_stops_when_the_client_goes(client: httpx2.AsyncClient) -> None:
    # Without its end the server would go on for half an hour, and could not be stopped before the deadline.
    await set_fault(client, fault="drip", pause_s=5)
    async with client.stream("GET", "/data/2.5/weather", params=ONE) as answer:
        assert await anext(answer.aiter_raw()) == b"{"
        assert int(answer.headers["content-length"]) > 300
    assert (await client.get("/health")).status_code == 200


@pytest.mark.long
def test_the_command_serves_until_it_is_told_to_stop() -> None:
    with simulator("--unknown", "7", "--latency-s", "0") as running:
        for city_id, status in (("1", 200), ("7", 404)):
            answer = httpx2.get(f"{running.url}/data/2.5/weather", params=ONE | {"id": city_id})
            assert answer.status_code == status
        assert running.stop() == 0
    assert len(running.lines) == 1
