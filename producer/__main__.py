"""`python -m producer`."""

import sys

from producer.app import run
from raingauge.running import run_program

if __name__ == "__main__":
    sys.exit(run_program(run))
