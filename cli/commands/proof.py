"""`raingauge proof …`: the ledger as a file for the provider's support, and its replay without a database.

This module must stay quick to import: see `cli.app`. What the commands do is in `proof_export` and `proof_verify`.
"""

from functools import partial
from typing import Annotated

import typer

proof = typer.Typer(name="proof", rich_markup_mode=None)

File = Annotated[str, typer.Argument(metavar="FILE", help="JSON lines; compressed if its name ends with .gz.")]


@proof.callback()
def about_proof() -> None:
    """Prove to others that the quota was kept.

    \b
    Examples:
      raingauge proof export proof.jsonl.gz
      raingauge proof verify proof.jsonl.gz

    `export` uses the consumer's settings and its database; `verify` needs the file only.
    """


@proof.command()
def export(
    file: File,
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="ISO 8601; UTC without a zone. Left out: the oldest charge."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="The same. Left out: the latest reservation.")
    ] = None,
    account: Annotated[
        str | None, typer.Option("--account", metavar="NAME", help="Left out: quota.account of the settings.")
    ] = None,
) -> None:
    """Write the ledger of a period into a file.

    \b
    Examples:
      raingauge proof export proof.jsonl.gz
      raingauge proof export november.jsonl.gz --from 2026-11-01 --to 2026-12-01

    The file has every charge with its moments, cities, calls and outcome, and the
    limits that held. No key, no city and no weather is in it.
    """
    from cli.commands.proof_export import moment_of, write_proof
    from raingauge.process import run_program

    period = moment_of(since, "--from"), moment_of(until, "--to")
    raise typer.Exit(run_program(partial(write_proof, file=file, period=period, account=account)))


@proof.command()
def verify(
    file: File,
    calls: Annotated[bool, typer.Option("--calls", help="Print every charge, too.")] = False,
) -> None:
    """Replay a file and print what any window and month can have seen.

    \b
    Examples:
      raingauge proof verify proof.jsonl.gz
      raingauge proof verify proof.jsonl.gz --calls > calls.tsv

    It needs no database, no settings and no network. Exit status 1: a limit was
    exceeded, or the file is damaged.
    """
    from cli.commands.proof_verify import verify_file

    verify_file(file, calls=calls)
