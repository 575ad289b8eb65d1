"""How a program begins and ends: one line instead of a traceback for what a person can mend."""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from raingauge.errors import DatabaseUnavailable, Fatal, GateMismatch, SettingsError
from raingauge.log import LIBRARIES
from raingauge.running import run_program
from raingauge.settings import KEY_VARIABLE, Settings

SECRET = "0123456789abcdef"  # pragma: allowlist secret


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in list(os.environ):
        if name.upper().startswith(("RAINGAUGE_", "OPENWEATHER_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in LIBRARIES}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


async def ends_well(settings: Settings) -> None:
    assert settings.http.port == 8000


def test_a_program_that_ends_well_has_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_program(ends_well) == 0
    assert capsys.readouterr().err == ""


def test_settings_that_are_wrong_are_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAINGAUGE_HTTP__PORT", "eight")
    assert run_program(ends_well) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("SettingsError: settings: http.port: ")


def test_a_key_that_is_wrong_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENWEATHER_API_KEY", "two\nlines")
    assert run_program(ends_well) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("SettingsError: OPENWEATHER_API_KEY: ")


@pytest.mark.parametrize("error", [GateMismatch("the gate differs"), SettingsError("taken"), Fatal("see to it")])
def test_what_a_person_can_mend_is_one_line_and_status_2(error: Fatal, capsys: pytest.CaptureFixture[str]) -> None:
    async def program(_settings: Settings) -> None:
        raise error

    assert run_program(program) == 2
    assert capsys.readouterr().err == f"{type(error).__name__}: {error}\n"


def test_it_is_one_line_even_from_tasks_within_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    async def fails() -> None:
        raise GateMismatch("the gate is gone")

    async def inner() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fails())

    async def program(_settings: Settings) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(inner())

    assert run_program(program) == 2
    assert capsys.readouterr().err == "GateMismatch: the gate is gone\n"


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
    assert said.startswith("GateMismatch: the gate is gone\n")
    assert "ZeroDivisionError: oh" in said


def test_a_program_logs_to_standard_error_without_the_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def program(_settings: Settings) -> None:
        logging.getLogger("raingauge").info("program.began", extra={"url": f"http://host?appid={SECRET}"})

    monkeypatch.setenv("OPENWEATHER_API_KEY", SECRET)
    assert run_program(program) == 0
    assert capsys.readouterr().err.endswith("INFO program.began url=http://host?appid=***\n")


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
def test_what_a_program_does_not_know_does_not_start_it(module: str) -> None:
    command = [sys.executable, "-m", module]
    helped = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False, timeout=60)
    assert (helped.returncode, helped.stdout.splitlines()[0]) == (0, f"usage: python -m {module} [-h]")
    refused = subprocess.run([*command, "--nonsense"], capture_output=True, text=True, check=False, timeout=60)
    assert (refused.returncode, "unrecognized arguments: --nonsense" in refused.stderr) == (2, True)
