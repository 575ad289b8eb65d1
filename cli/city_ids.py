"""City ids from a file or stdin, with errors for the person at the terminal."""

import sys
from pathlib import Path
from typing import Final

from cli.errors import Misused
from raingauge.cities import ids
from raingauge.errors import UnusableFile

STDIN: Final = "-"


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
        Misused: there is no city id, or a value that is not one.
    """
    try:
        return ids.read_city_ids(file, text)
    except UnusableFile as error:
        raise Misused(str(error)) from error
