"""`python -m producer`."""

from raingauge.signals import exit_on_signal, exit_process

if __name__ == "__main__":
    exit_on_signal()  # the imports below take a second

from argparse import ArgumentParser

from producer.app import run
from raingauge.process import run_program

if __name__ == "__main__":
    ABOUT = "Raingauge's API and its relay to Kafka. Settings: config.env.yml and the environment."
    ArgumentParser(prog="python -m producer", description=ABOUT).parse_args()
    exit_process(run_program(run))
