"""`python -m simulator`: serve the simulator until SIGINT or SIGTERM."""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence

from pydantic import Field, ValidationError

from raingauge.clock import SystemClock
from raingauge.contracts import describe
from raingauge.errors import SettingsError
from raingauge.process import serving
from simulator.app import create_app
from simulator.settings import Behaviour, SimulatorSettings

KEEP_ALIVE_S = 5
"""Well below the 20 s between two calls with a free key, so that a call never meets the end of its connection."""

log = logging.getLogger("simulator")


class Options(SimulatorSettings):
    """The options of the command line: the settings and the address."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8080, ge=0, le=65_535, description="0: a free port, logged")


def main() -> None:
    """Serve until a signal; exits with 0 then, with 2 for wrong options, with 1 if it cannot listen."""
    options = read_options(sys.argv[1:])
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    log.setLevel(logging.INFO)
    try:
        asyncio.run(_serve(options))
    except SettingsError as error:
        sys.exit(str(error))


def read_options(arguments: Sequence[str]) -> Options:
    """Read a command line; if it is wrong, print why and exit with 2."""
    parser = argparse.ArgumentParser(prog="python -m simulator", description="A simulator of OpenWeather over HTTP.")
    for name, field in Options.model_fields.items():
        parser.add_argument(f"--{name.replace('_', '-')}", default=argparse.SUPPRESS, help=field.description)
    try:
        return Options.model_validate(vars(parser.parse_args(arguments)))
    except ValidationError as error:
        parser.error(describe(error))


async def _serve(options: Options) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(
        create_app(options, SystemClock()), options.host, options.port, keep_alive_s=KEEP_ALIVE_S
    ) as url:
        shown = options.model_dump(mode="json", include=set(Behaviour.model_fields))
        log.info("listening url=%s %s", url, " ".join(f"{name}={value}" for name, value in shown.items()))
        await stop.wait()


if __name__ == "__main__":
    main()
