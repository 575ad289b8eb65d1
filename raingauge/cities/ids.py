"""City ids from a text: one a line, a CSV with a column `city_id` or `id`, or a JSON list.

It knows no names: `raingauge cities match` turns a file of names into a CSV that this reads.
"""

import csv
import json
from collections.abc import Iterator
from typing import Final

from raingauge.errors import UnusableFile

COLUMNS: Final = ("city_id", "id")
REMEDY: Final = "`raingauge cities match` finds the ids of names"


def read_city_ids(file: str, text: str) -> list[int]:
    """The ids in a text, in its order; `file` is its name for messages.

    Raises:
        UnusableFile: there is no city id, or a value that is not one.
    """
    if text.lstrip().startswith("["):
        return _of_json(file, text)
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise UnusableFile(f"{file}: there is no city id in it")
    heading = next(csv.reader(lines[:1], delimiter=_delimiter(lines[0])))
    names = [name.strip().lower() for name in heading]
    column = next((names.index(name) for name in COLUMNS if name in names), None)
    if column is None:
        return [_city_id(file, number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    found = list(_of_csv(file, text, column, _delimiter(lines[0])))
    if not found:
        raise UnusableFile(f"{file}: there is no city id below its heading")
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
    except (ValueError, RecursionError) as error:  # ValueError: also a number of too many digits
        raise UnusableFile(f"{file}: it begins as JSON and is none ({error})") from error
    wrong = next((value for value in found if not isinstance(value, int) or isinstance(value, bool)), None)
    if wrong is not None or not found:
        raise UnusableFile(f"{file}: a JSON list of city ids is expected, as in [3441575, 3440714]; {REMEDY}")
    return list(found)


def _city_id(file: str, number: int, text: str) -> int:
    try:
        return int(text.strip())
    except ValueError:
        raise UnusableFile(f"{file}, line {number}: {text.strip()[:40]!r} is no city id; {REMEDY}") from None
