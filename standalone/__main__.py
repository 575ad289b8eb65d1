"""`python -m standalone`."""

from raingauge.signals import exit_on_signal, exit_process

if __name__ == "__main__":
    exit_on_signal()  # the imports below take a second

from argparse import ArgumentParser

from raingauge.process import run_program
from standalone.app import run

if __name__ == "__main__":
    ABOUT = (
        "Raingauge in one process; without a key, on simulated weather. Settings: config.env.yml and the environment."
    )
    ArgumentParser(prog="python -m standalone", description=ABOUT).parse_args()
    exit_process(run_program(run))
