"""From the words of the command line to an exit status. Every error becomes one line on stderr.

0 done · 1 unexpected, or a proof that fails · 2 usage or settings · 3 the API is away · 4 refused ·
5 a wait ended with failed or cancelled · 130 Ctrl-C
"""

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
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
        return _ended(f"{_sentence(_message(error))} (see `{path} --help`)", error.exit_code)
    except CommandError as error:
        return _ended(str(error), error.status)
    except BrokenPipeError:
        _discard_output()  # whoever read it has read enough
        return 1
    except Exception as error:  # noqa: BLE001  # one line for whatever it is
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            _discard_output()
            return _ended(f"the output cannot be written: {error.strerror}; free some space", 1)
        last = traceback.extract_tb(error.__traceback__)[-1]
        what = " ".join(f"{type(error).__name__}: {error}".split())
        return _ended(f"an unexpected error in {last.filename}:{last.lineno}: {what}; please report it", 1)
    return status or 0


def _discard_output() -> None:
    """Keep the interpreter from flushing into stdout again when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _message(error: typer.TyperException) -> str:
    """The parser's message; for an unknown option with the one that resembles it most, not with all that might."""
    option = getattr(error, "option_name", None)
    if option is None or not hasattr(error, "possibilities"):
        return error.format_message()
    similar = get_close_matches(option, error.possibilities or [], n=1)
    return f"No such option '{option}'" + (f". Did you mean '{similar[0]}'?" if similar else "")


def _sentence(message: str) -> str:
    """A message of the parser in the form of ours."""
    return message[:1].lower() + message[1:].replace("Value error, ", "").rstrip(".")


def _ended(message: str, status: int) -> int:
    typer.echo(f"{NAME}: {message}", err=True)
    return status
