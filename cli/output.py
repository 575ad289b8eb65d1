"""What commands print: data on stdout, everything else on stderr. Colours and columns are for terminals only.

`NO_COLOR`, `FORCE_COLOR` and `TERM` are honoured by rich. Piped tables are lines of values with tabs between them.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.errors import Misused

STYLES: Final = {"done": "green", "collecting": "cyan", "waiting": "yellow", "cancelled": "dim", "queued": ""}
"""The colour of a collection's status."""
FULL, EMPTY = "━", "─"

Cell = str | Text


def screen() -> Console:
    """Stdout."""
    return Console(highlight=False, soft_wrap=True)


def notes() -> Console:
    """Stderr."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """Tell the person something that is not data."""
    notes().print(Text(plain(text), style="dim"))


def say(text: Cell) -> None:
    """Print a line of data."""
    screen().print(text if isinstance(text, Text) else Text(plain(text)))


def document(body: bytes) -> None:
    """Print the API's JSON as it is; only on a terminal a newline follows, for the prompt."""
    sys.stdout.flush()
    sys.stdout.buffer.write(body + b"\n" * sys.stdout.isatty())
    sys.stdout.flush()


def plain(text: str) -> str:
    """Text fit for a terminal: what others wrote must not control it."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def table(
    headings: Sequence[str], rows: Iterable[Sequence[Cell]], numbers: Sequence[str] = (), long: Sequence[str] = ()
) -> None:
    """Print rows in columns; piped, as lines with tabs.

    Headings of columns: `numbers` are aligned to the right; `long` ones give way where the terminal is narrow, the last
    column by wrapping, the others by an ellipsis.
    """
    console = screen()
    if not console.is_terminal:
        for row in (headings, *rows):
            sys.stdout.write("\t".join(plain(str(cell)) for cell in row) + "\n")
        return
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        justify: Literal["left", "right"] = "right" if heading in numbers else "left"
        gives_way = heading in long
        # A unit stands below its name.
        title = Text(heading.replace(" (", "\n("), no_wrap=True, overflow="ellipsis")
        shown.add_column(title, justify=justify, no_wrap=not gives_way, min_width=8 if gives_way else None)
    for row in rows:
        shown.add_row(*(_fitting(cell, wraps=place == len(headings) - 1) for place, cell in enumerate(row)))
    console.print(shown, soft_wrap=False)


def _fitting(cell: Cell, *, wraps: bool) -> Text:
    text = cell.copy() if isinstance(cell, Text) else Text(plain(cell))
    if not wraps:
        text.no_wrap, text.overflow = True, "ellipsis"
    return text


def facts(rows: Iterable[tuple[str, Cell]]) -> None:
    """Print names and what they are, one below the other; piped, with a tab between them."""
    console = screen()
    if not console.is_terminal:
        sys.stdout.writelines(f"{name}\t{plain(str(value))}\n" for name, value in rows)
        return
    shown = Table.grid(padding=(0, 2, 0, 0))
    shown.add_column(no_wrap=True, style="bold")
    shown.add_column(overflow="fold")
    for name, value in rows:
        shown.add_row(name, value if isinstance(value, Text) else Text(plain(value)))
    console.print(shown, soft_wrap=False)


def status(name: str) -> Text:
    """A collection's status in its colour."""
    return Text(plain(name), style=STYLES.get(name, ""))


def bar(share: float, width: int = 12, style: str = "cyan") -> Text:
    """A share from 0 to 1 as a line; empty on what is no terminal."""
    if not screen().is_terminal:
        return Text()
    full = max(0, min(width, int(share * width)))
    return Text.assemble((FULL * full, style), (EMPTY * (width - full), "dim"))


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file under another name until the block has ended well; devices and pipes are written to directly."""
    target = path.resolve()
    direct = target.exists() and not target.is_file()
    written = target if direct else target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with written.open("wb") as file:
            yield file
        if not direct:
            written.replace(target)
    except OSError as error:
        raise Misused(f"{path}: {error.strerror}; name a file that can be written") from error
    finally:
        if not direct:
            written.unlink(missing_ok=True)
