"""A file for each finished collection: whole or not there, and not forgotten whatever happens on the way."""

import asyncio
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest
from sqlalchemy import Connection

from consumer.export import ABANDONED_S, UNFINISHED, Export, open_export
from consumer.notifier import EXPORT_AGAIN_AFTER, Notifier
from producer.relays.events import LEASE
from raingauge.database import Database
from raingauge.errors import DatabaseUnavailable, SettingsError
from raingauge.messaging.inprocess import InProcessBroker
from raingauge.model import CollectionRequest
from raingauge.storage import events, readings, retention
from tests.contract.storage_support import NOW, an_observation, at_once, cancel, url_of
from tests.integration.test_events import all_processed, listed, run_until, transactions_of
from tests.support.accepting import accept
from tests.support.settling import settle_cities

CITIES = [7, 2, 3, 11, 5]
UNKNOWN = 3
REQUESTED = "2026-11-10T12:00:00.123Z"
FOUND = [{"city_id": city, "temp": city / 8, "humidity": 50.0} for city in (2, 5, 7, 11)]


def finish(database: Database, name: str = "1", cities: list[int] = CITIES) -> None:
    """A collection of which all cities but one are collected."""
    request = CollectionRequest(name, cities, max_age_s=0, named=True)
    database.write(lambda connection: accept(connection, NOW, request))
    seen = [an_observation(city, temperature=city / 8, humidity=50.0) for city in cities if city != UNKNOWN]
    failures = {UNKNOWN: "unknown city"} if UNKNOWN in cities else {}
    database.write(lambda connection: settle_cities(connection, NOW, name, seen, failures))


def exported(folder: Path, name: str = "1") -> Any:
    """The document, if it is there; no other file is."""
    files = [path.name for path in folder.iterdir()]
    assert files in ([], [f"{name}.json"])
    return json.loads((folder / files[0]).read_text()) if files else None


async def process(database: Database, export: Export | None, until: Callable[[], bool] | None = None) -> list[str]:
    """Relay and notifier at work until all events are processed, or that holds; what is printed."""
    lines: list[str] = []
    broker = InProcessBroker("events", 10)
    async with broker.subscription() as subscription:
        parts = (subscription, transactions_of(database), lines.append)
        notifier = asyncio.create_task(Notifier(*parts, export=export).run())
        await run_until(until or (lambda: all_processed(database)), database, broker)
        notifier.cancel()
    return lines


@pytest.mark.parametrize("page", [1, 2, 5, 1000])
def test_a_file_has_the_collected_cities_by_their_ids(
    database: Database, tmp_path: Path, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumer.export.PAGE", page)
    finish(database)
    assert Export(tmp_path, database).write("1")
    assert [*exported(tmp_path).items()] == [("user_id", 1), ("request_datetime", REQUESTED), ("cities", FOUND)]


def test_a_collection_that_is_deleted_meanwhile_leaves_no_part_of_a_file(
    sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumer.export.PAGE", 2)
    finish(sqlite)
    page = readings.page

    def page_and_delete(connection: Connection, *given: Any, **named: Any) -> Any:
        found = page(connection, *given, **named)
        retention.delete_collection(connection, NOW, "1")
        connection.commit()
        return found

    monkeypatch.setattr(readings, "page", page_and_delete)
    assert not Export(tmp_path, sqlite).write("1")
    assert exported(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "user_id"),
    [("0", 0), ("-5", -5), ("9" * 64, int("9" * 64)), ("007", "007"), ("a.B-c_1", "a.B-c_1"), (".hidden", ".hidden")],
)
def test_an_id_that_is_written_as_a_number_is_one(sqlite: Database, tmp_path: Path, name: str, user_id: object) -> None:
    finish(sqlite, name, [UNKNOWN])
    Export(tmp_path, sqlite).write(name)
    assert exported(tmp_path, name) == {"user_id": user_id, "request_datetime": REQUESTED, "cities": []}


def test_what_is_not_finished_has_no_file(sqlite: Database, tmp_path: Path) -> None:
    for name in ("open", "cancelled"):
        request = CollectionRequest(name, CITIES, 0, named=True)
        sqlite.write(lambda connection, request=request: accept(connection, NOW, request))  # type: ignore[misc]
    cancel(sqlite, "cancelled")
    for name in ("open", "cancelled", "unknown", "../1", "/etc/passwd", ""):
        assert not Export(tmp_path, sqlite).write(name)
    assert exported(tmp_path) is None


async def test_the_file_is_there_before_the_event_is_processed(sqlite: Database, tmp_path: Path) -> None:
    finish(sqlite)
    (event,) = listed(sqlite)
    assert event.type == "collection.finished_with_failures"
    lines = await process(sqlite, open_export(str(tmp_path), sqlite))
    assert exported(tmp_path)["cities"] == FOUND
    assert len(lines) == 1


async def test_an_event_that_is_to_be_processed_again_writes_its_file_again(sqlite: Database, tmp_path: Path) -> None:
    finish(sqlite)
    await process(sqlite, None)
    assert exported(tmp_path) is None
    (event,) = listed(sqlite)
    sqlite.write(lambda c: events.change(c, NOW, event.event_id, {"status": "NotProcessed"}))
    await process(sqlite, Export(tmp_path, sqlite))
    assert exported(tmp_path)["cities"] == FOUND


KILLED = """
import os, signal, sys
from pathlib import Path
from consumer.export import Export
from raingauge.database import open_database
Path.replace = lambda unfinished, path: os.kill(os.getpid(), signal.SIGKILL)
Export(Path(sys.argv[1]), open_database(sys.argv[2])).write("1")
"""


def killed_before_the_rename(database: Database, folder: Path) -> Path:
    """What an export leaves in the folder that was killed."""
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder), url_of(database)], check=False)
    assert killed.returncode < 0
    (left,) = folder.iterdir()
    assert left.name.endswith(UNFINISHED)
    return left


@pytest.mark.long
async def test_a_consumer_that_is_killed_before_the_rename_leaves_no_file_and_another_writes_it(
    sqlite: Database, tmp_path: Path
) -> None:
    finish(sqlite)
    left = killed_before_the_rename(sqlite, tmp_path)
    open_export(str(tmp_path), sqlite)
    assert left.exists(), "it may be another's that is at work"
    os.utime(left, (0, left.stat().st_mtime - ABANDONED_S - 1))
    await process(sqlite, open_export(str(tmp_path), sqlite))
    assert exported(tmp_path)["cities"] == FOUND


def test_consumers_that_write_one_file_at_once_do_no_harm(sqlite: Database, tmp_path: Path) -> None:
    finish(sqlite, cities=[*range(1, 500)])
    consumers = [Export(tmp_path, sqlite) for _ in range(4)]
    consumers[0].write("1")
    whole = exported(tmp_path)

    def read() -> bool:
        return all(json.loads((tmp_path / "1.json").read_text()) == whole for _ in range(100))

    assert all(at_once([read, *(lambda one=one: all(one.write("1") for _ in range(10)) for one in consumers)]))
    assert exported(tmp_path) == whole


def full(_descriptor: int) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def away(*_page: object, **_of: object) -> NoReturn:
    raise DatabaseUnavailable("away")


@pytest.fixture(params=[("consumer.export.os.fsync", full), ("consumer.export.readings.page", away)])
def trouble(request: pytest.FixtureRequest) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*request.param)
        yield patch


@pytest.mark.parametrize("before", [None, '{"user_id": "before"}'])
async def test_an_event_whose_file_cannot_be_written_is_tried_again(
    sqlite: Database,
    tmp_path: Path,
    before: str | None,
    trouble: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("producer.relays.events.LEASE", timedelta(milliseconds=200))
    monkeypatch.setattr("consumer.notifier.EXPORT_AGAIN_AFTER", timedelta(milliseconds=300))
    if before:
        (tmp_path / "1.json").write_text(before)
    finish(sqlite)
    lines = await process(sqlite, Export(tmp_path, sqlite), until=lambda: "export.failed" in caplog.messages)
    assert (lines, all_processed(sqlite)) == ([], False)
    assert exported(tmp_path) == (before and json.loads(before))
    record = next(record for record in caplog.records if record.message == "export.failed")
    assert (record.levelname, record.collection_id) == ("ERROR", "1")  # type: ignore[attr-defined]
    assert "No space left" in record.error or record.error == "away"  # type: ignore[attr-defined]
    trouble.undo()
    assert len(await process(sqlite, Export(tmp_path, sqlite))) == 1
    assert exported(tmp_path)["cities"] == FOUND


async def test_the_next_try_is_in_a_minute_even_if_the_relay_has_the_last_word(sqlite: Database) -> None:
    finish(sqlite)
    leased = sqlite.write(lambda c: events.lease(c, NOW, NOW + LEASE, 10))
    sqlite.write(lambda c: events.postpone(c, leased[0], NOW + EXPORT_AGAIN_AFTER))
    sqlite.write(lambda c: events.reschedule(c, leased, NOW + LEASE, NOW + timedelta(hours=1)))
    assert sqlite.write(lambda c: events.lease(c, NOW + EXPORT_AGAIN_AFTER, NOW + timedelta(hours=2), 10)) == leased


def test_a_folder_is_made_and_one_that_cannot_be_written_to_is_refused_in_one_line(
    sqlite: Database, tmp_path: Path
) -> None:
    assert open_export("", sqlite) is None
    assert open_export(str(tmp_path / "a/b"), sqlite) is not None
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b"]
    (tmp_path / "file").touch()
    for name in ("file", "file/below"):
        with pytest.raises(SettingsError, match=rf"^export.folder: cannot write to .*/{name}: \w.*$"):
            open_export(str(tmp_path / name), sqlite)
