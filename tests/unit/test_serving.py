"""What a composition root needs: serving while a block runs, work beside it, an end when the process is told so."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from raingauge import health
from raingauge.clock import SystemClock
from raingauge.errors import DatabaseUnavailable, GateMismatch, RaingaugeError, SettingsError
from raingauge.serving import bound, in_background, serving, until_signalled

SIGNALS = [signal.SIGTERM, signal.SIGINT]


class Facts:
    """A part of a service, with something to say."""

    def details(self) -> Mapping[str, Any]:
        return {"waiting_for": "month"}

    def counts(self) -> Mapping[str, float]:
        return {"cities_collected": 3}

    def gauges(self) -> Mapping[str, float]:
        return {"cities_wanted": 5}


def an_app(missing: RaingaugeError | None = None) -> FastAPI:
    async def check() -> None:
        if missing is not None:
            raise missing

    app = FastAPI()
    app.include_router(health.router([Facts()], check))
    return app


async def get(url: str, path: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(url + path, timeout=10)


# -- serving -----------------------------------------------------------------------------------------------------------


async def test_an_app_is_served_while_the_block_runs_and_no_longer() -> None:
    async with serving(an_app(), "127.0.0.1", 0) as url:
        assert url.startswith("http://127.0.0.1:")
        assert not url.endswith(":0")
        assert (await get(url, "/health")).json() == {"status": "ok", "details": {"waiting_for": "month"}}
    with pytest.raises(httpx.ConnectError):
        await get(url, "/health")


async def test_its_address_can_be_had_again_at_once() -> None:
    async with httpx.AsyncClient() as client, serving(an_app(), "127.0.0.1", 0) as first:
        assert (await client.get(f"{first}/health")).status_code == 200
        # The server was the one to close the connection, so its address lingers in TIME_WAIT.
    async with serving(an_app(), "127.0.0.1", int(first.rpartition(":")[2])) as second:
        assert second == first
        assert (await get(second, "/health")).status_code == 200


async def test_an_ipv6_address_is_shown_in_brackets() -> None:
    async with serving(an_app(), "::1", 0) as url:
        assert url.startswith("http://[::1]:")
        assert (await get(url, "/health")).status_code == 200


async def test_an_error_in_the_block_ends_serving_and_is_raised() -> None:
    app, told = an_app(), ""
    with pytest.raises(GateMismatch):
        async with serving(app, "127.0.0.1", 0) as told:
            raise GateMismatch("differs")
    with pytest.raises(httpx.ConnectError):
        await get(told, "/health")


async def test_serving_takes_no_signals_from_the_process() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    async with serving(an_app(), "127.0.0.1", 0) as url:
        await get(url, "/health")
        assert [signal.getsignal(number) for number in SIGNALS] == before


async def test_a_taken_port_is_a_mistake_in_the_settings() -> None:
    with bound("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            async with serving(an_app(), "127.0.0.1", port):
                raise AssertionError("unreachable")


@pytest.mark.parametrize("host", ["192.0.2.1", "host.invalid"])
def test_an_address_that_is_not_ours_is_a_mistake_in_the_settings(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(99, "Cannot assign requested address")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(SettingsError, match=f"cannot listen on {host}:80: Cannot assign requested address"):
        bound(host, 80)


# -- health, readiness, metrics ----------------------------------------------------------------------------------------


async def test_ready_says_what_is_missing() -> None:
    async with serving(an_app(DatabaseUnavailable("OperationalError")), "127.0.0.1", 0) as url:
        answer = await get(url, "/ready")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert answer.json() == {"status": "The database does not answer: OperationalError"}
        assert (await get(url, "/health")).status_code == 200
    async with serving(an_app(), "127.0.0.1", 0) as url:
        assert (await get(url, "/ready")).json() == {"status": "ready"}


async def test_metrics_carry_their_prefix_and_counters_their_ending() -> None:
    async with serving(an_app(), "127.0.0.1", 0) as url:
        answer = await get(url, "/metrics")
    told = [line for line in answer.text.splitlines() if not line.startswith("#")]
    assert told == ["raingauge_cities_collected_total 3.0", "raingauge_cities_wanted 5.0"]
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


# -- work beside the block ---------------------------------------------------------------------------------------------


async def for_ever(seen: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        seen.append("cleaned up")


async def test_what_is_left_of_background_work_is_cancelled_when_the_block_ends() -> None:
    seen: list[str] = []
    async with in_background(for_ever(seen)) as task:
        asyncio.get_running_loop().call_soon(seen.append, "runs")
        await SystemClock().sleep(0)
    assert (task.cancelled(), seen) == (True, ["runs", "cleaned up"])


async def test_background_work_that_ended_is_left_in_peace() -> None:
    async def work() -> int:
        return 5

    async with in_background(work()) as task:
        assert await task == 5
    assert task.result() == 5


async def test_an_error_in_background_work_is_kept_for_whoever_asks() -> None:
    async def work() -> None:
        raise ZeroDivisionError

    async with in_background(work()) as task:
        await asyncio.wait([task])
    assert isinstance(task.exception(), ZeroDivisionError)


# -- signals -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def _signals_restored() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Program:
    """A program that runs until it is stopped."""

    def __init__(self, began: Callable[[], None], ends_with: Exception | None = None) -> None:
        self.began = began
        self.ends_with = ends_with
        self.stopped = False

    async def run(self) -> None:
        self.began()
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped = True
            if self.ends_with is not None:
                raise self.ends_with


def told(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.usefixtures("_signals_restored")
@pytest.mark.parametrize("number", SIGNALS)
async def test_a_signal_ends_a_program_in_order(number: signal.Signals, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "raingauge")
    program = Program(told(number))
    await until_signalled(program.run())
    assert program.stopped
    assert caplog.messages == ["program.stopped"]


@pytest.mark.usefixtures("_signals_restored")
async def test_a_second_signal_does_not_cut_the_stopping_short() -> None:
    seen: list[str] = []

    async def program() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(5):
                await SystemClock().sleep(0)
            seen.append("stopped in order")

    await until_signalled(program())
    assert seen == ["stopped in order"]


@pytest.mark.usefixtures("_signals_restored")
async def test_a_program_that_ends_by_itself_needs_no_signal(caplog: pytest.LogCaptureFixture) -> None:
    async def program() -> None:
        pass

    caplog.set_level(logging.INFO, "raingauge")
    await until_signalled(program())
    assert caplog.messages == []


@pytest.mark.usefixtures("_signals_restored")
async def test_an_error_of_the_program_is_raised() -> None:
    async def program() -> None:
        raise GateMismatch("differs")

    with pytest.raises(GateMismatch):
        await until_signalled(program())


@pytest.mark.usefixtures("_signals_restored")
async def test_an_error_while_it_stops_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        await until_signalled(Program(told(signal.SIGTERM), ZeroDivisionError()).run())


@pytest.mark.usefixtures("_signals_restored")
async def test_a_program_does_not_outlive_who_runs_it() -> None:
    began = asyncio.Event()
    program = Program(began.set)
    running = asyncio.create_task(until_signalled(program.run()))
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert program.stopped
