"""What `python -m simulator` makes of its arguments; that it serves is shown in tests/contract."""

import logging
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from pytest_mock import MockerFixture

from simulator.__main__ import main
from simulator.settings import GroupMode, SimulatorSettings


@pytest.fixture(autouse=True)
def _signals_restored() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def told(mocker: MockerFixture) -> list[SimulatorSettings]:
    """The settings of the app that would be served; nothing is."""
    seen: list[SimulatorSettings] = []

    def create(settings: SimulatorSettings, _clock: object) -> object:
        seen.append(settings)
        return object()

    def run(_server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        for listener in sockets:
            listener.close()

    mocker.patch("simulator.__main__.create_app", create)
    mocker.patch.object(uvicorn.Server, "run", run)
    return seen


def test_without_arguments_it_stands_for_a_free_key(told: list[SimulatorSettings]) -> None:
    main(["--port", "0"])
    assert told == [SimulatorSettings()]
    assert (told[0].key, told[0].quota, told[0].window_s) == ("simulator", 60, 60)


def test_every_setting_has_an_option(told: list[SimulatorSettings]) -> None:
    main(
        [
            *("--port", "0", "--key", "k", "--quota", "0", "--window-s", "6", "--group", "strict", "--latency-s", "0"),
            *("--error-share", "0.5", "--unknown", "1,2,3", "--seed", "9"),
        ]
    )
    assert told == [SimulatorSettings("k", 0, 6, GroupMode.STRICT, 0, 0.5, frozenset({1, 2, 3}), 9)]


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "url=http://127.0.0.1:"), ("::1", "url=http://[::1]:")])
def test_one_line_tells_the_free_port_and_not_the_key(
    told: list[SimulatorSettings], caplog: pytest.LogCaptureFixture, host: str, shown: str
) -> None:
    caplog.set_level(logging.INFO, "simulator")
    main(["--port", "0", "--host", host, "--key", "geheim"])
    (line,) = caplog.messages
    assert line.startswith(f"listening {shown}")
    assert f"{shown}0 " not in line
    assert "geheim" not in line


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--quota", "-1"], "quota"),
        (["--window-s", "0"], "window_s"),
        (["--port", "65536"], "port"),
        (["--unknown", "1,x"], "city_ids"),
        (["--group", "maybe"], "group"),
    ],
)
def test_wrong_arguments_end_it_with_a_clear_message(
    told: list[SimulatorSettings], capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert named in capsys.readouterr().err
    assert told == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_peace(told: list[SimulatorSettings], number: signal.Signals) -> None:
    main(["--port", "0"])
    handler: Any = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended:
        handler(number, None)
    assert ended.value.code == 0
