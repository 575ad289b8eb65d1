"""`python -m producer`."""

from raingauge.signals import end_at_once, leave

if __name__ == "__main__":
    end_at_once()  # what follows takes a second to import

from argparse import ArgumentParser

from producer.app import run
from raingauge.running import run_program

if __name__ == "__main__":
    ABOUT = "Raingauge's API and its relay to Kafka. Settings: config.env.yml and the environment."
    ArgumentParser(prog="python -m producer", description=ABOUT).parse_args()
    leave(run_program(run))
