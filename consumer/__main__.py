"""`python -m consumer`: work; `python -m consumer quota …`: see to the account's gate."""

import argparse
import sys
from functools import partial

from consumer.app import run
from consumer.commands import adopt, set_month, shut
from raingauge.running import run_program


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m consumer", description="Without a command: take batches and collect.")
    commands = top.add_subparsers(title="commands")
    quota = commands.add_parser("quota", help="see to the gate of quota.account").add_subparsers(required=True)
    month = quota.add_parser("set-month", help="say how many cities of this month are spent already")
    month.add_argument("cities", type=int)
    month.set_defaults(program=lambda arguments: partial(set_month, cities=arguments.cities))
    quota.add_parser("adopt", help="have the gate take the settings' limits").set_defaults(program=lambda _: adopt)
    quota.add_parser(
        "shut", help="close the gate until every charge is released: after a database was restored from a backup"
    ).set_defaults(program=lambda _: shut)
    top.set_defaults(program=lambda _: run)
    return top


if __name__ == "__main__":
    chosen = parser().parse_args()
    sys.exit(run_program(chosen.program(chosen)))
