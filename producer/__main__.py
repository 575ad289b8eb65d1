"""`python -m producer` serves; with `token …` it runs a command for operators."""

import argparse
import sys
from functools import partial
from typing import get_args

from raingauge.signals import exit_on_signal, exit_process

if __name__ == "__main__" and not sys.argv[1:]:
    exit_on_signal()  # the imports below take a second

from producer.access.commands import add, generate, list_all, revoke
from producer.app import run
from raingauge.access.tokens import Scope
from raingauge.process import run_program

ABOUT = "Raingauge's API and its relay to Kafka. Settings: config.env.yml and the environment."


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m producer", description=f"{ABOUT} Without a command: serve.")
    top.set_defaults(program=lambda _: run)
    tokens = top.add_subparsers(title="commands").add_parser("token", help="manage who may use the API")
    group = tokens.add_subparsers(required=True)
    new = group.add_parser("add", help="make a token and print it, this once")
    new.add_argument("name")
    new.add_argument("--scope", required=True, choices=get_args(Scope), help="each includes those before it")
    new.add_argument("--expires", metavar="12h|90d|TIME", help="left out: it does not expire")
    new.set_defaults(program=lambda given: partial(add, name=given.name, scope=given.scope, expires=given.expires))
    group.add_parser("generate", help="print a token for a file of access.tokens").set_defaults(
        program=lambda _: generate
    )
    group.add_parser("list", help="list tokens").set_defaults(program=lambda _: list_all)
    one = group.add_parser("revoke", help="revoke a token for good")
    one.add_argument("name")
    one.set_defaults(program=lambda given: partial(revoke, name=given.name))
    return top


if __name__ == "__main__":
    chosen = parser().parse_args()
    exit_process(run_program(chosen.program(chosen)))
