"""`python -m consumer` works; with `quota …`, `cities …` or `dead-letters …` it runs a command for operators."""

import argparse
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from raingauge.signals import exit_on_signal, exit_process

if __name__ == "__main__" and not sys.argv[1:]:
    exit_on_signal()  # the imports below take a second

from consumer.app import command_control, dead_letter_publisher, run
from consumer.commands import adopt, forget_cities, open_gate, set_month, shut
from consumer.dead_letters import bury, list_all, replay
from raingauge.database.command import command_database
from raingauge.process import run_program
from raingauge.settings import Settings

Program = Callable[[Settings], Coroutine[Any, Any, None]]
Commands = Any  # what `add_subparsers` returns: argparse has no public name for it


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m consumer", description="Without a command: take batches and collect.")
    top.set_defaults(program=lambda _: run)
    groups = top.add_subparsers(title="commands")
    _add_quota(groups.add_parser("quota", help="manage the gate of quota.account").add_subparsers(required=True))
    _add_cities(groups.add_parser("cities", help="correct what is known of cities").add_subparsers(required=True))
    letters = groups.add_parser("dead-letters", help="list, replay and bury dead letters")
    _add_dead_letters(letters.add_subparsers(required=True))
    return top


def _add_quota(group: Commands) -> None:
    month = group.add_parser("set-month", help="say how many cities of this month are spent already")
    month.add_argument("cities", type=int)
    month.set_defaults(program=lambda given: partial(set_month, cities=given.cities, open_control=command_control))
    take = group.add_parser("adopt", help="copy the limits of the settings to the gate")
    take.set_defaults(program=lambda _: partial(adopt, open_control=command_control))
    close = group.add_parser(
        "shut", help="close the gate until every charge is released: after a database was restored from a backup"
    )
    close.set_defaults(program=lambda _: partial(shut, open_control=command_control))
    again = group.add_parser("open", help="open the gate at once")
    again.set_defaults(program=lambda _: partial(open_gate, open_control=command_control))


def _add_cities(group: Commands) -> None:
    forget = group.add_parser("forget", help="have cities requested again that the provider did not know")
    forget.add_argument("ids", type=int, nargs="+", metavar="ID")
    forget.set_defaults(
        program=lambda given: partial(forget_cities, city_ids=given.ids, open_database=command_database)
    )


def _add_dead_letters(group: Commands) -> None:
    group.add_parser("list", help="print one line for each").set_defaults(program=lambda _: list_all)
    again = group.add_parser("replay", help="publish them to the topic again: after a fix")
    which = again.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="all that were not replayed yet")
    which.add_argument("--offset", type=int, help="the one with this offset, replayed or not")
    again.add_argument("--partition", type=int, default=0, help="of that one (default: 0)")

    def chosen_replay(given: argparse.Namespace) -> Program:
        chosen = None if given.all else (given.partition, given.offset)
        return partial(replay, chosen=chosen, open_publisher=dead_letter_publisher)

    again.set_defaults(program=chosen_replay)
    one = group.add_parser("bury", help="let consumers pass a message of a newer version, which they wait behind")
    one.add_argument("--partition", type=int, required=True)
    one.add_argument("--offset", type=int, required=True)
    one.set_defaults(
        program=lambda given: partial(
            bury, address=(given.partition, given.offset), open_publisher=dead_letter_publisher
        )
    )


if __name__ == "__main__":
    chosen = parser().parse_args()
    exit_process(run_program(chosen.program(chosen)))
