"""The command's reference: what `--help` prints for each command, as docs/command.md. `make reference` writes it."""

import sys
from collections.abc import Iterator
from typing import Any, Final

import typer

from cli.app import app

WIDTH: Final = 100
INTRODUCTION: Final = """# The command `raingauge`

`make setup` and `make run` install it into `.venv/bin`. It is a client of the API: `RAINGAUGE_URL` or `--url` names the
API, by default the one on this machine. If that needs a token, the command takes it from `RAINGAUGE_TOKEN`, or from the
file that `RAINGAUGE_TOKEN_FILE` names. Three commands are more than that: `raingauge run` is the embedded mode,
`raingauge admin` works on the services' database and Kafka, as `python -m consumer` does, and `raingauge proof` on its
database and on files.

Data goes to stdout, everything else to stderr. On a terminal, tables have columns and colours (`NO_COLOR` turns colours
off), and a wait has a bar; piped, a table is a line of headings and lines of values with tabs between them, and a wait
is silent. `--json` prints the API's JSON as it is. Times are UTC.

| exit status | meaning |
|---:|---|
| 0 | done |
| 1 | unexpected; of `proof verify`, an exceeded limit or a damaged file; the line on stderr says which |
| 2 | usage or settings |
| 3 | the API is away, or cannot work now |
| 4 | the API refused the request; the line on stderr is its reason |
| 5 | a wait ended with failed cities, or the collection was cancelled |
| 130 | Ctrl-C |

`raingauge --install-completion` completes commands, options and the ids of collections in bash, zsh and fish.

The rest of this page is what `--help` prints.
"""


def reference() -> str:
    """The page, in Markdown."""
    command = typer.main.get_command(app)
    parts = [f"## {name}\n\n```text\n{text}\n```\n" for name, text in _helps(command, "raingauge", None)]
    return "\n".join([INTRODUCTION, *parts])


def _helps(command: Any, name: str, parent: typer.Context | None) -> Iterator[tuple[str, str]]:
    """The path and the help of a command and of all below it. Typer has no public name for a command's type."""
    context = typer.Context(command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH)
    yield context.command_path, command.get_help(context).rstrip()
    for each, inner in getattr(command, "commands", {}).items():
        yield from _helps(inner, each, context)


if __name__ == "__main__":
    sys.stdout.write(reference())
