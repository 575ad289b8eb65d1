"""A database that cannot be used: what no waiting mends ends a start, in one line; the rest is waited for."""

import logging
import sys
import traceback
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, insert

from raingauge.database import Database, open_database
from raingauge.errors import DatabaseUnavailable, SettingsError
from raingauge.storage.models import City
from tests.api_support import Front, assert_problem
from tests.support.processes import run_to_end

SCHEMES = ("mysql+pymysql", "postgresql+psycopg")
TEXT = "this is no database\n" * 100


def check(url: str) -> None:
    with closing(open_database(url)) as database:
        database.check_at_start()


def test_a_file_that_is_no_database_is_refused_with_the_drivers_words(tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "text.db").write_text(TEXT)
    for name, words in (("folder.db", "unable to open database file"), ("text.db", "file is not a database")):
        url = f"sqlite:///{tmp_path}/{name}"
        with pytest.raises(SettingsError, match=f"^database.url: {tmp_path}/{name}: {words}$"):
            check(url)
        with closing(open_database(url)) as database, pytest.raises(DatabaseUnavailable, match=words):
            database.read(lambda _: None)  # later it is waited for


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://user:secret@host/name", r"use mysql\+pymysql://"),
        ("postgresql+psycopg2://user:secret@host/name", r"use postgresql\+psycopg://"),
        ("mysql+nothing://user:secret@host/name", r"use mysql\+pymysql://"),
        ("oracle://user:secret@host/name", "oracle is not supported"),
        ("sqlite:///a.db?mode=ro", r"SQLite takes no parameters, remove \?mode"),
        ("sqlite://", "SQLite needs a file"),
        ("sqlite:///:memory:", "SQLite needs a file"),
        ("user:secret@host", r"expected dialect\+driver://"),
        ("mysql+pymysql://user:secret@host:port/name", r"expected dialect\+driver://"),
        ("mysql+pymysql://user:secret@127.0.0.1:1/name?sslmode=require", "127.0.0.1:1/name: .* argument 'sslmode'"),
        ("postgresql+psycopg://user:secret@127.0.0.1:1/name?charset=utf8", '127.0.0.1:1/name: .* option "charset"'),
    ],
)
def test_a_url_that_no_driver_takes_is_refused_without_its_password(url: str, words: str) -> None:
    with pytest.raises(SettingsError, match=f"^database.url: {words}") as refused:
        check(url)
    assert "\n" not in str(refused.value)
    assert "secret" not in "".join(traceback.format_exception(refused.value)) + repr(refused.value)


@pytest.mark.parametrize("url", [f"{scheme}://user:secret@127.0.0.1:1/name" for scheme in SCHEMES])
def test_a_server_that_is_not_there_is_waited_for_with_the_drivers_words(url: str) -> None:
    with pytest.raises(DatabaseUnavailable, match=r"^127.0.0.1:1/name: .*Connection refused") as away:
        check(url)
    assert "secret" not in "".join(traceback.format_exception(away.value)) + repr(away.value)
    assert away.value.shown == "no answer in time"


@pytest.mark.long
@pytest.mark.parametrize("command", ["producer", "standalone", "consumer quota shut", "alembic upgrade head"])
def test_a_refused_start_has_status_2_and_says_why_in_one_line(command: str, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text(TEXT)
    broker = "inprocess://" if command == "standalone" else "kafka://127.0.0.1:1"
    settings = {"RAINGAUGE_DATABASE__URL": f"sqlite:///{tmp_path}/text.db", "RAINGAUGE_BROKER__URL": broker}
    settings |= {"OPENWEATHER_API_KEY": "a key", "RAINGAUGE_HTTP__PORT": "0"}  # pragma: allowlist secret
    ended = run_to_end([sys.executable, "-m", *command.split()], settings)
    lines = [line for line in ended.stderr.splitlines() if " INFO " not in line and "handoff." not in line]
    assert (ended.returncode, len(lines)) == (2, 1), ended.stderr
    assert lines[0].endswith(f"{tmp_path}/text.db: file is not a database")


async def test_a_full_disk_is_answered_with_503_and_its_cause_until_there_is_room(
    sqlite: Database, caplog: pytest.LogCaptureFixture
) -> None:
    def fill(connection: Connection) -> None:
        connection.execute(insert(City), [{"id": number, "name": "x" * 100} for number in range(1, 20_001)])

    pages = 0

    @event.listens_for(sqlite.engine, "connect")
    def limit(connection: object, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")  # type: ignore[attr-defined]

    front = Front(sqlite)
    pages = sqlite.read(lambda connection: connection.exec_driver_sql("PRAGMA page_count").scalar_one())
    sqlite.engine.dispose()
    with pytest.raises(DatabaseUnavailable, match=r"database or disk is full$"):
        sqlite.write(fill)
    answer = await front.collect(cities=list(range(1, 5000)))
    detail = "the database cannot be used now: its disk is full; nothing is half-done, try again"
    assert_problem(answer, 503, detail)
    pages = 10_000
    sqlite.engine.dispose()
    caplog.set_level(logging.INFO, "raingauge.database")
    assert (await front.collect(cities=list(range(1, 5000)))).status_code == 202
    assert caplog.messages == ["database.unavailable", "database.available"]
