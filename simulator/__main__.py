"""`python -m simulator`: serve the stand-in until a signal ends it. The access log stays off: URLs carry the key."""

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import uvicorn

from raingauge.clock import SystemClock
from raingauge.errors import SettingsError
from simulator.app import create_app
from simulator.settings import GroupMode, SimulatorSettings


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; exits with 0 then, with 2 for wrong arguments, with 1 if the port is taken."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        settings = read_settings(options)
    except SettingsError as error:
        parser.error(str(error))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    _serve(settings, options.host, options.port)


def read_settings(options: argparse.Namespace) -> SimulatorSettings:
    """The settings that the options mean.

    Raises:
        SettingsError: a value is out of its range.
    """
    return SimulatorSettings(
        key=options.key,
        quota=options.quota,
        window_s=options.window_s,
        group=GroupMode(options.group),
        latency_s=options.latency_s,
        error_share=options.error_share,
        unknown=options.unknown,
        seed=options.seed,
    )


def _serve(settings: SimulatorSettings, host: str, port: int) -> None:
    app = create_app(settings, SystemClock())
    config = uvicorn.Config(
        app,
        host,
        port,
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="warning",
        timeout_graceful_shutdown=2,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    listener = config.bind_socket()
    listener.listen()  # before the address is told
    shown = f"[{host}]" if ":" in host else host
    logging.getLogger("simulator").info(
        "listening url=http://%s:%d quota=%d window_s=%g group=%s latency_s=%g",
        shown,
        listener.getsockname()[1],
        settings.quota,
        settings.window_s,
        settings.group.value,
        settings.latency_s,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _leave(_signal: int, _frame: FrameType | None) -> None:
    # uvicorn ends its work at the first signal, then raises it again for us.
    sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    default = SimulatorSettings()
    parser = argparse.ArgumentParser(prog="python -m simulator", description="A stand-in for OpenWeather on HTTP.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=port, default=8080, help="0: a free port, logged")
    parser.add_argument("--key", default=default.key, help="the only API key it takes")
    parser.add_argument("--quota", type=int, default=default.quota, help="cities in a window; 0: unlimited")
    parser.add_argument("--window-s", type=float, default=default.window_s)
    modes = [mode.value for mode in GroupMode]
    parser.add_argument("--group", choices=modes, default=default.group.value, help="how the group endpoint answers")
    parser.add_argument("--latency-s", type=float, default=default.latency_s, help="how long an answer takes")
    parser.add_argument("--error-share", type=float, default=default.error_share, help="share of 500s, from 0 to 1")
    parser.add_argument(
        "--unknown", type=city_ids, default=default.unknown, metavar="ID,ID", help="ids it does not know"
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="decides which calls a share strikes")
    return parser


def port(text: str) -> int:
    """A port's number, or 0. Raises ValueError for anything else."""
    if (number := int(text)) not in range(65_536):
        raise ValueError
    return number


def city_ids(text: str) -> frozenset[int]:
    """City ids separated by commas. Raises ValueError for anything else."""
    return frozenset(int(part) for part in text.split(",") if part)


if __name__ == "__main__":
    main()
