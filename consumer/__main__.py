"""`python -m consumer` works; with `quota …`, `cities …` or `dead-letters …` it runs a command for operators."""

import argparse
import sys
from functools import partial

from raingauge.signals import exit_on_signal, exit_process

if __name__ == "__main__" and not sys.argv[1:]:
    exit_on_signal()  # the imports below take a second

from consumer.app import dead_letter_publisher, run
from consumer.commands import adopt, forget_cities, open_gate, set_month, shut
from consumer.dead_letters import bury, list_all, replay
from raingauge.process import run_program


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m consumer", description="Without a command: take batches and collect.")
    commands = top.add_subparsers(title="commands")
    quota = commands.add_parser("quota", help="manage the gate of quota.account").add_subparsers(required=True)
    month = quota.add_parser("set-month", help="say how many cities of this month are spent already")
    month.add_argument("cities", type=int)
    month.set_defaults(program=lambda arguments: partial(set_month, cities=arguments.cities))
    quota.add_parser("adopt", help="have the gate take the settings' limits").set_defaults(program=lambda _: adopt)
    quota.add_parser(
        "shut", help="close the gate until every charge is released: after a database was restored from a backup"
    ).set_defaults(program=lambda _: shut)
    quota.add_parser("open", help="open the gate at once").set_defaults(program=lambda _: open_gate)
    cities = commands.add_parser("cities", help="see to what is known of cities").add_subparsers(required=True)
    forget = cities.add_parser("forget", help="have cities requested again that the provider did not know")
    forget.add_argument("ids", type=int, nargs="+", metavar="ID")
    forget.set_defaults(program=lambda arguments: partial(forget_cities, city_ids=arguments.ids))
    letters = commands.add_parser("dead-letters", help="see to what could not be worked on").add_subparsers(
        required=True
    )
    letters.add_parser("list", help="print one line for each").set_defaults(program=lambda _: list_all)
    again = letters.add_parser("replay", help="publish them to the topic again: after a fix")
    which = again.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="all that were not replayed yet")
    which.add_argument("--offset", type=int, help="the one with this offset, replayed or not")
    again.add_argument("--partition", type=int, default=0, help="of that one (default: 0)")
    again.set_defaults(
        program=lambda given: partial(
            replay,
            chosen=None if given.all else (given.partition, given.offset),
            open_publisher=dead_letter_publisher,
        )
    )
    one = letters.add_parser("bury", help="let consumers pass a message of a newer version, which they wait behind")
    one.add_argument("--partition", type=int, required=True)
    one.add_argument("--offset", type=int, required=True)
    one.set_defaults(
        program=lambda given: partial(
            bury, address=(given.partition, given.offset), open_publisher=dead_letter_publisher
        )
    )
    top.set_defaults(program=lambda _: run)
    return top


if __name__ == "__main__":
    chosen = parser().parse_args()
    exit_process(run_program(chosen.program(chosen)))
