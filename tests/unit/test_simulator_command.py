"""The options of `python -m simulator`; that it serves and stops is tested in tests/contract."""

import pytest

from simulator.__main__ import Options, read_options
from simulator.settings import GroupMode


def test_without_arguments_it_simulates_a_free_key() -> None:
    options = read_options([])
    assert options == Options()
    assert (options.key, options.quota, options.window_s) == ("simulator", 60, 60)


def test_every_setting_has_an_option() -> None:
    given = "--host ::1 --port 0 --key k --quota 0 --window-s 6 --group strict --latency-s 0 --error-share 0.5"
    expected = {"key": "k", "quota": 0, "window_s": 6, "group": GroupMode.STRICT, "latency_s": 0, "error_share": 0.5}
    options = read_options([*given.split(), "--unknown", "1,2,3", "--seed", "9"])
    assert options == Options(host="::1", port=0, unknown=frozenset({1, 2, 3}), seed=9, **expected)


WRONG = {
    "--key": [""],
    "--quota": ["-1"],
    "--window-s": ["0", "inf"],
    "--latency-s": ["-0.1"],
    "--error-share": ["1.5"],
    "--port": ["65536", "x"],
    "--unknown": ["1,x"],
    "--group": ["maybe"],
    "--nonsense": ["1"],
}


@pytest.mark.parametrize(("option", "value"), [(option, value) for option, all_ in WRONG.items() for value in all_])
def test_wrong_options_end_it_with_a_clear_message(capsys: pytest.CaptureFixture[str], option: str, value: str) -> None:
    with pytest.raises(SystemExit) as ended:
        read_options([f"{option}={value}"])
    assert ended.value.code == 2
    assert option.strip("-").replace("-", "_") in capsys.readouterr().err.splitlines()[-1]


def test_the_key_is_not_shown() -> None:
    assert "geheim" not in repr(read_options(["--key", "geheim"]))
