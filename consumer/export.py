"""The export: a JSON file for each finished collection, in one folder, beside the database.

A file is whole or not there: it is written under another name, synced and renamed. So it does no harm when several
consumers write the same one, or when one is killed. This module does not know when a file is due. Blocking.
"""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TextIO

from raingauge.contracts import NUMERIC_ID, utc_text
from raingauge.database import Database
from raingauge.errors import SettingsError
from raingauge.model import CollectionState
from raingauge.storage import collections, readings

PAGE: Final = 1000
"""Cities in memory at once."""
UNFINISHED: Final = ".partial"
ABANDONED_S: Final = 3600.0
"""A partial file older than this was left by a killed consumer."""


class Gone(Exception):
    """The collection or its readings were deleted while its file was written."""


class Export:
    """Writes `<id>.json` into a folder:

    `{"user_id": …, "request_datetime": …, "cities": [{"city_id": …, "temp": …, "humidity": …}]}` with the collected
    cities by their ids, °C and %. `user_id` is the collection's id, as a number if it is written as one.
    """

    def __init__(self, folder: Path, database: Database) -> None:
        self._folder = folder
        self._database = database

    def write(self, collection_id: str) -> bool:
        """Write a collection's file, or write it again. Return False if no finished one with readings has this id.

        If it is deleted meanwhile, what was there before stays.

        Raises:
            OSError: the folder cannot be written to; a file that was there before is still whole.
            DatabaseUnavailable: the database does not answer.
        """
        state = self._find(collection_id)
        if state is None or state.finished_at is None or state.cancelled_at is not None or state.readings_pruned_at:
            return False
        with suppress(Gone), whole_file(self._folder / f"{state.id}.json") as file:
            self._fill(file, state)
            if self._find(collection_id) != state:
                raise Gone
            return True
        return False

    def _find(self, collection_id: str) -> CollectionState | None:
        return self._database.read(partial(collections.find, collection_id=collection_id))

    def _fill(self, file: TextIO, state: CollectionState) -> None:
        """Write the document page by page: there may be too many cities to hold them all."""
        user_id = int(state.id) if NUMERIC_ID.fullmatch(state.id) else state.id
        head = {"user_id": user_id, "request_datetime": utc_text(state.requested_at)}
        file.write(f'{json.dumps(head)[:-1]}, "cities": [')
        separator = ""
        for cities in self._pages(state.id):
            file.write(separator + json.dumps(cities)[1:-1])
            separator = ", "
        file.write("]}\n")

    def _pages(self, collection_id: str) -> Iterator[list[dict[str, Any]]]:
        """The collected cities of a finished collection, which do not change."""
        after, full = 0, True
        while full:
            columns = ("temperature", "humidity")
            read = partial(readings.page, collection_id=collection_id, columns=columns, after=after, limit=PAGE)
            rows = self._database.read(read)
            found = [row for row in rows if row.status == "collected"]
            if found:
                yield [{"city_id": row.city_id, "temp": row.temperature, "humidity": row.humidity} for row in found]
            full = len(rows) == PAGE
            after = rows[-1].city_id if rows else after


def open_export(folder: str, database: Database) -> Export | None:
    """The export into a folder, which is made if it is missing; None for "".

    Raises:
        SettingsError: the folder cannot be written to.
    """
    if not folder:
        return None
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        _tidy(path)
    except OSError as error:
        raise SettingsError(f"export.folder: cannot write to {folder}: {error.strerror}") from error
    return Export(path, database)


def _tidy(folder: Path) -> None:
    """Remove what killed consumers have left. It writes a file to try, and for the file system's time."""
    trial = folder / f".{secrets.token_hex(8)}{UNFINISHED}"
    with whole_file(trial):
        pass
    now = trial.stat().st_mtime
    trial.unlink()
    for left in folder.glob(f".*{UNFINISHED}"):
        with suppress(FileNotFoundError):  # another consumer has removed it
            if left.stat().st_mtime < now - ABANDONED_S:
                left.unlink()


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A file to write to that is at `path` when the block has ended well.

    After an error the old file or the new one is there, whole.

    Raises:
        OSError: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}{UNFINISHED}")
    try:
        with unfinished.open("x", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # a rename is lost with the power, otherwise
    finally:
        os.close(folder)
