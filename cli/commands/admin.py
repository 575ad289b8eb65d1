"""`raingauge admin …`: what an operator does on the database and on Kafka.

It is all that `python -m consumer …` and `python -m producer token …` do, and needs their settings, not the API. The
imports of these commands take a second, so each does its own.
"""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Annotated, Any, Literal

import typer

from cli.errors import Misused

admin = typer.Typer(name="admin", rich_markup_mode=None)
dead_letters = typer.Typer(name="dead-letters", rich_markup_mode=None)
quota = typer.Typer(name="quota", rich_markup_mode=None)
cities = typer.Typer(name="cities", rich_markup_mode=None)
token = typer.Typer(name="token", rich_markup_mode=None)

TokenName = Annotated[str, typer.Argument(metavar="NAME", help="1 to 64 characters of A-Z a-z 0-9 . _ -")]


@admin.callback()
def about_admin() -> None:
    """Operate the gate, the dead letters, the unknown cities and the tokens of the API.

    \b
    Examples:
      raingauge admin dead-letters list
      raingauge admin quota set-month 412000
      raingauge admin token add grafana --scope read

    These commands use the consumer's settings, its database and its Kafka.
    """


@dead_letters.callback()
def about_dead_letters() -> None:
    """List, replay and bury messages that could not be processed.

    \b
    Examples:
      raingauge admin dead-letters list
      raingauge admin dead-letters replay --all
      raingauge admin dead-letters bury --partition 0 --offset 17
    """


@quota.callback()
def about_quota() -> None:
    """Manage the gate of quota.account.

    \b
    Examples:
      raingauge admin quota set-month 412000
      raingauge admin quota open
    """


@cities.callback()
def about_cities() -> None:
    """Correct what is known of cities.

    \b
    Example:
      raingauge admin cities forget 3441575 3440714
    """


@token.callback()
def about_token() -> None:
    """Manage who may use the API.

    \b
    Examples:
      raingauge admin token add grafana --scope read
      raingauge admin token add deploy --scope write --expires 90d
      raingauge admin token list
      raingauge admin token revoke deploy

    As long as there is no token, everybody who can connect may do everything.
    """


@token.command()
def add(
    name: TokenName,
    scope: Annotated[Literal["read", "write", "admin"], typer.Option("--scope", help="Each includes those before it.")],
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="12h|90d|TIME", help="Left out: it does not expire.")
    ] = None,
) -> None:
    """Make a token and print it, this once."""
    from producer.access.commands import add as make

    _run(partial(make, name=name, scope=scope, expires=expires))


@token.command()
def generate() -> None:
    """Print a token for a file that access.tokens names."""
    from producer.access.commands import generate as make

    _run(make)


@token.command(name="list")
def list_tokens() -> None:
    """Print one line for each token."""
    from producer.access.commands import list_all

    _run(list_all)


@token.command()
def revoke(name: TokenName) -> None:
    """Revoke a token for good; producers notice it within 5 seconds."""
    from producer.access.commands import revoke as end

    _run(partial(end, name=name))


@dead_letters.command(name="list")
def list_letters() -> None:
    """Print one line for each dead letter."""
    from consumer.dead_letters import list_all

    _run(list_all)


@dead_letters.command()
def replay(
    every: Annotated[bool, typer.Option("--all", help="All that were not replayed yet.")] = False,
    offset: Annotated[int | None, typer.Option(help="The one with this offset, replayed or not.")] = None,
    partition: Annotated[int, typer.Option(help="Of that one.")] = 0,
) -> None:
    """Publish dead letters to the topic again: after a fix."""
    if every == (offset is not None):
        raise Misused("give either --all or --offset; `raingauge admin dead-letters list` shows the offsets")
    from consumer.app import dead_letter_publisher
    from consumer.dead_letters import replay as replay_letters

    chosen = None if offset is None else (partition, offset)
    _run(partial(replay_letters, chosen=chosen, open_publisher=dead_letter_publisher))


@dead_letters.command()
def bury(
    partition: Annotated[int, typer.Option(help="The message's partition.")],
    offset: Annotated[int, typer.Option(help="The message's offset.")],
) -> None:
    """Let consumers pass a message of a newer version."""
    from consumer.app import dead_letter_publisher
    from consumer.dead_letters import bury as bury_message

    _run(partial(bury_message, address=(partition, offset), open_publisher=dead_letter_publisher))


@quota.command()
def set_month(cities: Annotated[int, typer.Argument(metavar="CITIES", help="Cities spent in this month.")]) -> None:
    """Say how many cities of this month are spent already."""
    from consumer.commands import set_month as record

    _run_on_gate(partial(record, cities=cities))


@quota.command()
def adopt() -> None:
    """Copy the limits of the settings to the gate."""
    from consumer.commands import adopt as copy_limits

    _run_on_gate(copy_limits)


@quota.command()
def shut() -> None:
    """Close the gate until every charge is released.

    For a database that was restored from a backup.
    """
    from consumer.commands import shut as close

    _run_on_gate(close)


@quota.command(name="open")
def open_again() -> None:
    """Open the gate at once."""
    from consumer.commands import open_gate

    _run_on_gate(open_gate)


@cities.command()
def forget(ids: Annotated[list[int], typer.Argument(metavar="ID", help="Ids of cities.")]) -> None:
    """Request cities again that the provider did not know.

    Without it they are not requested for a day.
    """
    from consumer.commands import forget_cities
    from raingauge.database.command import command_database

    _run(partial(forget_cities, city_ids=ids, open_database=command_database))


def _run_on_gate(program: Callable[..., Coroutine[Any, Any, None]]) -> None:
    from consumer.app import command_control

    _run(partial(program, open_control=command_control))


def _run(program: Callable[..., Coroutine[Any, Any, None]]) -> None:
    from raingauge.process import run_program

    raise typer.Exit(run_program(program))


admin.add_typer(dead_letters)
admin.add_typer(quota)
admin.add_typer(cities)
admin.add_typer(token)
