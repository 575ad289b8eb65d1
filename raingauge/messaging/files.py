"""Publishes to files: each message is a line of `<folder>/<topic>.jsonl`, a CloudEvent in the JSON format.

It must not keep a file open: between two rounds of messages it may be renamed (rotated), and the next round starts a
new one. Several processes may write the same file.
"""

import asyncio
import fcntl
import logging
import mmap
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from raingauge.backoff import backoff_s
from raingauge.blocking import RunBlocking
from raingauge.clock import Clock
from raingauge.errors import SettingsError
from raingauge.messaging.port import Headers
from raingauge.streams import structured

log = logging.getLogger("raingauge.messaging")
RETRY_BASE_S: Final = 0.25
RETRY_CAP_S: Final = 10.0


@dataclass(slots=True, eq=False)
class _Line:
    """A message that waits to be stored."""

    topic: str
    text: bytes
    is_stored: bool = False


class FilePublisher:
    """The sending side. Messages that are published at once are stored together: one write and one sync per file."""

    def __init__(self, folder: Path, run: RunBlocking, clock: Clock) -> None:
        self._folder = folder
        self._run = run
        self._clock = clock
        self._waiting: list[_Line] = []
        self._writing = asyncio.Lock()

    async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:  # noqa: ARG002
        """Return when the message's line is on disk. The key is left out: it is in the data, and a file has one part.

        Raises:
            Permanent: the message is no CloudEvent, or its value is not JSON.
        """
        line = _Line(topic, structured(headers, value) + b"\n")
        self._waiting.append(line)
        async with self._writing:
            if not line.is_stored:  # otherwise one that waited for the file, too, has stored it
                await self._store_waiting()

    async def _store_waiting(self) -> None:
        lines = tuple(self._waiting)
        for topic in dict.fromkeys(line.topic for line in lines):
            found = [line for line in lines if line.topic == topic]
            await self._append(path_of(self._folder, topic), b"".join(line.text for line in found))
            for line in found:
                line.is_stored = True
        self._waiting = [line for line in self._waiting if not line.is_stored]

    async def _append(self, path: Path, lines: bytes) -> None:
        """Append to the file, tried again for as long as it cannot be written."""
        tries = 0
        while True:
            try:
                return await self._run(partial(append, path, lines))
            except OSError as error:
                tries += 1
                log.warning("handoff.publish_waits", extra={"file": str(path), "error": error.strerror})
            await self._clock.sleep(backoff_s(tries, RETRY_BASE_S, RETRY_CAP_S))


def path_of(folder: Path, topic: str) -> Path:
    """A topic's file."""
    return folder / f"{topic}.jsonl"


def make_files(folder: Path, topics: Iterable[str]) -> None:
    """Make the folder and the topics' files where they are missing.

    Raises:
        SettingsError: they cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for topic in topics:
            append(path_of(folder, topic), b"")
    except OSError as error:
        raise SettingsError(f"streams.folder: cannot write to {folder}: {error.strerror}") from error


def append(path: Path, lines: bytes) -> None:
    """Append whole lines to a file, and return when they are on disk. A torn line at its end is removed first.

    Raises:
        OSError: the file cannot be written; some of the lines may be in it.
    """
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # what another process is writing is not torn
        size = file.seek(0, os.SEEK_END)
        if size and (whole := _whole_lines(file.fileno(), size)) < size:
            log.warning("streams.repaired", extra={"file": str(path), "bytes": size - whole})
            file.truncate(whole)
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())
    if not size:
        _sync_folder(path.parent)


def _whole_lines(descriptor: int, size: int) -> int:
    """Bytes up to the end of the last whole line."""
    with mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) as content:
        return content.rfind(b"\n") + 1


def _sync_folder(folder: Path) -> None:
    """Have the name of a new file on disk, too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
