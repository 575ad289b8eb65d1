"""City ids from a file: one a line, a CSV with a column `city_id` or `id`, or a JSON list.

It knows no names: `raingauge cities match` turns a file of names into a CSV that this reads.
"""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cli.errors import Misused

STDIN: Final = "-"
COLUMNS: Final = ("city_id", "id")
REMEDY: Final = "`raingauge cities match` finds the ids of names"


def load_text(file: str) -> str:
    """The text of a file, or of stdin for `-`.

    Raises:
        Misused: it cannot be read, or is not UTF-8.
    """
    try:
        if file == STDIN:
            return sys.stdin.buffer.read().decode("utf-8-sig")
        return Path(file).read_text("utf-8-sig")
    except OSError as error:
        raise Misused(f"{file}: {error.strerror}; name a file that can be read, or - for stdin") from error
    except UnicodeDecodeError as error:
        raise Misused(f"{file}: it is not UTF-8; convert it first") from error


def read_city_ids(file: str, text: str) -> list[int]:
    """The ids in a text, in its order; `file` is its name for messages.

    Raises:
        Misused: there is none, or something else.
    """
    if text.lstrip().startswith("["):
        return _of_json(file, text)
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise Misused(f"{file}: there is no city id in it")
    heading = next(csv.reader(lines[:1], delimiter=_delimiter(lines[0])))
    names = [name.strip().lower() for name in heading]
    column = next((names.index(name) for name in COLUMNS if name in names), None)
    if column is None:
        return [_city_id(file, number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    found = list(_of_csv(file, text, column, _delimiter(lines[0])))
    if not found:
        raise Misused(f"{file}: there is no city id below its heading")
    return found


def _delimiter(line: str) -> str:
    return max(",;\t", key=line.count)


def _of_csv(file: str, text: str, column: int, delimiter: str) -> Iterator[int]:
    rows = csv.reader(text.splitlines(keepends=True), delimiter=delimiter)
    cells = ((rows.line_num, row) for row in rows if any(row))
    next(cells)
    for number, row in cells:
        yield _city_id(file, number, row[column] if column < len(row) else "")


def _of_json(file: str, text: str) -> list[int]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise Misused(f"{file}: it begins as JSON and is none ({error})") from error
    wrong = next((value for value in found if not isinstance(value, int) or isinstance(value, bool)), None)
    if wrong is not None or not found:
        raise Misused(f"{file}: a JSON list of city ids is expected, as in [3441575, 3440714]; {REMEDY}")
    return list(found)


def _city_id(file: str, number: int, text: str) -> int:
    try:
        return int(text.strip())
    except ValueError:
        raise Misused(f"{file}, line {number}: {text.strip()[:40]!r} is no city id; {REMEDY}") from None
