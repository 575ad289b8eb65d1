"""`python -m standalone`."""

import sys

from raingauge.running import run_program
from standalone.app import run

if __name__ == "__main__":
    sys.exit(run_program(run))
