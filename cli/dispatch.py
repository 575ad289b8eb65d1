"""From the words of the command line to an exit status. Every error becomes one line on stderr.

0 done · 1 unexpected · 2 usage or settings · 3 the API is away · 4 refused · 5 a wait ended with failed or cancelled ·
130 Ctrl-C
"""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Final

import typer

from cli.app import app
from cli.errors import CommandError
from cli.session import Session

NAME: Final = "raingauge"


def perform(arguments: Sequence[str], session: Session) -> int:
    """Run the command that these words name; without any, show the help."""
    try:
        command = typer.main.get_command(app)
        status = command.main([*arguments] or ["--help"], prog_name=NAME, standalone_mode=False, obj=session)
        sys.stdout.flush()
    except typer.TyperException as error:
        path = getattr(getattr(error, "ctx", None), "command_path", NAME)
        return _ended(f"{_sentence(error.format_message())} (see `{path} --help`)", error.exit_code)
    except CommandError as error:
        return _ended(str(error), error.status)
    except BrokenPipeError:
        # Whoever read the output has read enough; the interpreter must not flush into the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001  # one line for whatever it is
        last = traceback.extract_tb(error.__traceback__)[-1]
        what = " ".join(f"{type(error).__name__}: {error}".split())
        return _ended(f"an unexpected error in {last.filename}:{last.lineno}: {what}; please report it", 1)
    return status or 0


def _sentence(message: str) -> str:
    """A message of the parser in the form of ours."""
    return message[:1].lower() + message[1:].replace("Value error, ", "").rstrip(".")


def _ended(message: str, status: int) -> int:
    typer.echo(f"{NAME}: {message}", err=True)
    return status
