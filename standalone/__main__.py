"""`python -m standalone`."""

from raingauge.signals import end_at_once, leave

if __name__ == "__main__":
    end_at_once()  # what follows takes a second to import

from argparse import ArgumentParser

from raingauge.running import run_program
from standalone.app import run

if __name__ == "__main__":
    ABOUT = (
        "Raingauge in one process; without a key, on simulated weather. Settings: config.env.yml and the environment."
    )
    ArgumentParser(prog="python -m standalone", description=ABOUT).parse_args()
    leave(run_program(run))
