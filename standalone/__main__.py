"""`python -m standalone`."""

from raingauge.signals import end_at_once, leave

if __name__ == "__main__":
    end_at_once()  # what follows takes a second to import

from raingauge.running import run_program
from standalone.app import run

if __name__ == "__main__":
    leave(run_program(run))
