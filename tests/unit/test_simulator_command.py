"""The options of `python -m simulator`; that it serves and stops is tested in tests/contract."""

from typing import Any

import pytest
from pydantic import ValidationError

from simulator.__main__ import Options, read_options
from simulator.settings import GroupMode, SimulatorSettings


def test_without_arguments_it_simulates_a_free_key() -> None:
    options = read_options([])
    assert options == Options()
    assert (options.key, options.quota, options.window_s) == ("simulator", 60, 60)


def test_every_setting_has_an_option() -> None:
    given = "--host ::1 --port 0 --key k --quota 0 --window-s 6 --group strict --latency-s 0 --error-share 0.5"
    expected = {"key": "k", "quota": 0, "window_s": 6, "group": GroupMode.STRICT, "latency_s": 0, "error_share": 0.5}
    options = read_options([*given.split(), "--unknown", "1,2,3", "--seed", "9"])
    assert options == Options(host="::1", port=0, unknown=frozenset({1, 2, 3}), seed=9, **expected)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--quota", "-1"),
        ("--window-s", "0"),
        ("--port", "65536"),
        ("--port", "x"),
        ("--unknown", "1,x"),
        ("--group", "maybe"),
        ("--nonsense", "1"),
    ],
)
def test_wrong_options_end_it_with_a_clear_message(capsys: pytest.CaptureFixture[str], option: str, value: str) -> None:
    with pytest.raises(SystemExit) as ended:
        read_options([option, value])
    assert ended.value.code == 2
    assert option.strip("-").replace("-", "_") in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": ""},
        {"quota": -1},
        {"window_s": 0},
        {"window_s": float("inf")},
        {"latency_s": -0.1},
        {"error_share": 1.5},
        {"group": "maybe"},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SimulatorSettings(**wrong)


def test_settings_do_not_show_the_key() -> None:
    assert "geheim" not in repr(SimulatorSettings(key="geheim"))
