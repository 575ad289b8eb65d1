"""A process: its start with settings and logs, serving, side tasks, signals, and its exit status."""

import asyncio
import json
import logging
import os
import runpy
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
import uvloop
from fastapi import FastAPI

from raingauge.background import in_background
from raingauge.clock import SystemClock
from raingauge.errors import DatabaseUnavailable, Fatal, GateMismatch, SettingsError
from raingauge.process import listening, run_program, serving, until_signalled
from raingauge.settings import KEY_VARIABLE, Settings

pytestmark = pytest.mark.usefixtures("own_environment")

SECRET = "0123456789abcdef"  # pragma: allowlist secret
SIGNALS = [signal.SIGTERM, signal.SIGINT]


def an_app() -> FastAPI:
    app = FastAPI()

    @app.get("/health")
    async def health() -> str:
        return "ok"

    return app


async def get(url: str, path: str) -> httpx2.Response:
    async with httpx2.AsyncClient() as client:
        return await client.get(url + path, timeout=10)


# -- start and exit status --------------------------------------------------------------------------------------------


async def ends_well(settings: Settings) -> None:
    assert settings.http.port == 8000


def test_a_program_that_ends_well_has_status_0_and_with_a_wrong_setting_or_key_2_and_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (run_program(ends_well), capsys.readouterr().err) == (0, "")
    for variable, value, begins in (
        ("RAINGAUGE_HTTP__PORT", "eight", "settings: http.port: "),
        (KEY_VARIABLE, "two\nlines", "OPENWEATHER_API_KEY: "),
    ):
        monkeypatch.setenv(variable, value)
        assert run_program(ends_well) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(begins)
        monkeypatch.delenv(variable)


@pytest.mark.parametrize("error", [GateMismatch("the gate differs"), SettingsError("taken"), Fatal("see to it")])
@pytest.mark.parametrize("depth", [0, 2])
def test_what_a_person_can_mend_is_one_line_and_status_2_even_from_tasks_within_tasks(
    error: Fatal, depth: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fails(levels: int) -> None:
        if not levels:
            raise error
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fails(levels - 1))

    assert run_program(lambda _settings: fails(depth)) == 2
    assert capsys.readouterr().err == f"{error}\n"


@pytest.mark.parametrize("error", [ZeroDivisionError("oh"), DatabaseUnavailable("away")])
def test_what_nobody_expected_is_logged_with_its_traceback_but_without_the_key(
    error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, SECRET)

    async def program(_settings: Settings) -> None:
        raise RuntimeError(f"GET http://host?appid={SECRET}") from error

    assert run_program(program) == 1
    said = capsys.readouterr().err
    assert "ERROR program.failed" in said
    assert type(error).__name__ in said
    assert SECRET not in said


def test_what_nobody_expected_counts_more_than_what_a_person_can_mend(capsys: pytest.CaptureFixture[str]) -> None:
    async def program(_settings: Settings) -> None:
        raise ExceptionGroup("both", [GateMismatch("the gate is gone"), ZeroDivisionError("oh")])

    assert run_program(program) == 1
    said = capsys.readouterr().err
    assert said.startswith("the gate is gone\n")
    assert "ZeroDivisionError: oh" in said


def test_a_program_logs_to_standard_error_without_the_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def program(_settings: Settings) -> None:
        logging.getLogger("raingauge").info("program.began", extra={"url": f"http://host?appid={SECRET}"})

    monkeypatch.setenv(KEY_VARIABLE, SECRET)
    assert run_program(program) == 0
    assert capsys.readouterr().err.endswith("INFO program.began url=http://host?appid=***\n")
    monkeypatch.setenv("RAINGAUGE_LOG__FORMAT", "json")
    assert run_program(program) == 0
    logged = json.loads(capsys.readouterr().err)
    assert logged.pop("time")
    assert logged == {"level": "INFO", "event": "program.began", "url": "http://host?appid=***"}


@pytest.mark.parametrize("installed", [True, False])
def test_uvloop_is_used_where_it_is_installed(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def program(_settings: Settings) -> None:
        loops.append(asyncio.get_running_loop())

    if not installed:
        monkeypatch.setitem(sys.modules, "uvloop", None)
    assert run_program(program) == 0
    assert isinstance(loops[0], uvloop.Loop) is installed


@pytest.mark.parametrize("module", ["producer", "standalone"])
def test_a_program_tells_its_usage_and_does_not_start_with_arguments_that_it_does_not_know(
    module: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, f"{module}.__main__", raising=False)
    monkeypatch.setattr("raingauge.signals.exit_on_signal", lambda: None)
    for option, status, said in (("--help", 0, "usage"), ("--nonsense", 2, "unrecognized")):
        monkeypatch.setattr(sys, "argv", [module, option])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(module, run_name="__main__")
        shown = "".join(capsys.readouterr())
        assert (ended.value.code, said in shown, f"usage: python -m {module} [-h]" in shown) == (status, True, True)


# -- serving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
async def test_an_app_is_served_while_the_block_runs_and_no_longer_even_after_an_error(host: str, shown: str) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(GateMismatch):  # noqa: PT012
        async with serving(an_app(), host, 0) as url:
            assert url.startswith(f"http://{shown}:")
            assert not url.endswith(":0")
            assert (await get(url, "/health")).json() == "ok"
            assert [signal.getsignal(number) for number in SIGNALS] == before, "signals are the program's own"
            raise GateMismatch("differs")
    with pytest.raises(httpx2.ConnectError):
        await get(url, "/health")


async def test_its_address_can_be_had_again_at_once() -> None:
    async with httpx2.AsyncClient() as client, serving(an_app(), "127.0.0.1", 0) as first:
        assert (await client.get(f"{first}/health")).status_code == 200
        # The server was the one to close the connection, so its address lingers in TIME_WAIT.
    async with serving(an_app(), "127.0.0.1", int(first.rpartition(":")[2])) as second:
        assert second == first
        assert (await get(second, "/health")).status_code == 200


async def test_a_taken_port_is_a_mistake_in_the_settings() -> None:
    with listening("127.0.0.1", 0, "http") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"^x.http.port: cannot listen on 127.0.0.1:{port}: Address already"):
            async with serving(an_app(), "127.0.0.1", port, section="x.http"):
                raise AssertionError("unreachable")


def test_an_address_that_is_not_ours_is_a_mistake_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(99, "Cannot assign requested address")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    for host in ("192.0.2.1", "host.invalid"):
        with pytest.raises(SettingsError, match=f"^http.host: cannot listen on {host}:80: Cannot assign requested"):
            listening(host, 80, "http")


# -- work beside the block ---------------------------------------------------------------------------------------------


async def test_what_is_left_of_background_work_is_cancelled_when_the_block_ends() -> None:
    program = Program(lambda: None)
    async with in_background(program.run()) as task:
        await SystemClock().sleep(0)
        assert not program.stopped
    assert (task.cancelled(), program.stopped) == (True, True)


@pytest.mark.parametrize("error", [None, ZeroDivisionError()])
async def test_an_error_of_background_work_is_logged_and_kept_for_whoever_asks(
    error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        if error is not None:
            raise error

    async with in_background(work()) as task:
        await asyncio.wait([task])
    assert task.exception() is error
    assert ("program.task_failed" in caplog.messages) is (error is not None)


# -- signals -----------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
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


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_signal_ends_a_program_in_order(number: signal.Signals, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "raingauge")
    program = Program(told(number))
    await until_signalled(program.run())
    assert program.stopped
    assert caplog.messages == ["program.started", "program.stopped"]


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


async def test_a_program_that_ends_by_itself_needs_no_signal_and_logs_which_configuration_file_it_read(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO, "raingauge")
    await until_signalled(SystemClock().sleep(0))
    (tmp_path / "config.env.yml").touch()
    await until_signalled(SystemClock().sleep(0))
    assert caplog.messages == ["program.started"] * 2
    settings = [str(vars(record)["settings"]) for record in caplog.records]
    assert settings == [f"no config.env.yml in {tmp_path}", f"{tmp_path}/config.env.yml"]


def fail() -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("program", [Program(fail), Program(told(signal.SIGTERM), ZeroDivisionError())])
async def test_an_error_of_the_program_is_raised_even_while_it_stops(program: Program) -> None:
    with pytest.raises(ZeroDivisionError):
        await until_signalled(program.run())


async def test_a_program_does_not_outlive_who_runs_it() -> None:
    began = asyncio.Event()
    program = Program(began.set)
    running = asyncio.create_task(until_signalled(program.run()))
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert program.stopped
