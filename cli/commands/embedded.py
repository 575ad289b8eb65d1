"""`raingauge run`: the embedded mode. It is all that `python -m standalone` does."""

from typing import NoReturn

from raingauge.signals import exit_on_signal, exit_process


def run_embedded() -> NoReturn:
    """Serve and collect until Ctrl-C or SIGTERM, and exit."""
    exit_on_signal()  # the imports below take a second
    from raingauge.process import run_program  # noqa: PLC0415
    from standalone.app import run  # noqa: PLC0415

    exit_process(run_program(run))
