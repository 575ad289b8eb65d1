"""The database as such: transactions, its clock, what a time is, and which errors mean that it is away."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from threading import Barrier

import pytest
from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.exc import OperationalError, StatementError

from raingauge.clock import SystemClock
from raingauge.database import Database
from raingauge.database.database import TRIES
from raingauge.errors import DatabaseUnavailable
from raingauge.model import BatchKey, CollectionRequest
from raingauge.storage import events
from raingauge.storage.enqueueing import enqueue
from raingauge.storage.events import NewEvent
from raingauge.storage.models import Batch, City, Collection, Event, OutgoingReading, Reading, WebhookDelivery
from tests.contract.storage_support import MICROSECOND, NOW, ON_SERVERS, Moment, accept, at_once, found, rows
from tests.contract.test_storage_webhooks import subscribe
from tests.support.accepting import accept as accept_one


class DriverError(Exception):
    """What a driver raises: MySQL's with its number first."""

    def __init__(self, *args: object, sqlstate: str | None) -> None:
        super().__init__(*args)
        self.sqlstate = sqlstate


def add_cities(*city_ids: int) -> Callable[[Connection], object]:
    return lambda connection: connection.execute(insert(City), [{"id": city, "humidity": 0.0} for city in city_ids])


# -- transactions ------------------------------------------------------------------------------------------------------


def test_a_transaction_answers_what_its_work_answers_and_readers_see_it_when_it_is_committed(
    database: Database,
) -> None:
    def work(connection: Connection) -> int:
        add_cities(1)(connection)
        return len(rows(database, City))

    assert database.write(work) == 0
    assert len(rows(database, City)) == 1


def test_what_fails_is_undone_with_all_that_goes_with_it_and_its_error_is_raised(database: Database) -> None:
    def work(connection: Connection) -> None:
        add_cities(1)(connection)
        accept_one(connection, NOW, CollectionRequest("half", range(1, 100), 600, named=True))
        enqueue(connection, NOW, "test", 0, [BatchKey("half", 0)], "for the test", streams=True)
        events.record(connection, NOW, [NewEvent("message", "1234", "rain")])
        raise LookupError("mine")

    subscribe(database, a=["message"])
    with pytest.raises(LookupError, match="mine"):
        database.write(work)
    for table in (City, Collection, Batch, Reading, OutgoingReading, Event, WebhookDelivery):
        assert not rows(database, table), table


def test_writers_take_turns_on_sqlite(sqlite: Database) -> None:
    sqlite.write(add_cities(1))

    def increment(connection: Connection) -> None:
        humidity = connection.scalar(select(City.humidity)) or 0
        connection.execute(update(City).values(humidity=humidity + 1))

    at_once([lambda: [sqlite.write(increment) for _ in range(20)]] * 4)
    assert rows(sqlite, City)[0].humidity == 80


@ON_SERVERS
def test_a_deadlock_is_retried_until_both_are_through(database: Database) -> None:
    database.write(add_cities(1, 2))
    crossed = Barrier(2, timeout=20)
    tries: list[int] = []

    def increment(city_ids: tuple[int, int], connection: Connection) -> None:
        tries.append(city_ids[0])
        for city_id in city_ids:
            connection.execute(update(City).where(City.id == city_id).values(humidity=City.humidity + 1))
            if city_id == city_ids[0] and tries.count(city_id) == 1:
                crossed.wait()

    at_once([partial(database.write, partial(increment, order)) for order in ((1, 2), (2, 1))])
    assert len(tries) >= 3  # the loser may lose again before the winner goes on
    assert [row.humidity for row in rows(database, City)] == [2, 2]


def test_what_a_failed_commit_leaves_open_is_not_committed_by_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialect = database.engine.dialect
    error = dialect.loaded_dbapi.OperationalError(1180, "Got error during COMMIT")

    def fail(_connection: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(dialect, "do_commit", fail)
        with pytest.raises(DatabaseUnavailable):
            database.write(add_cities(1))
    for city_id in range(2, 12):  # whichever connection of the pool is taken
        database.write(add_cities(city_id))
    assert [row.id for row in rows(database, City)] == list(range(2, 12))


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(DriverError(1213, "Deadlock found", sqlstate="40001"), id="MySQL's deadlock"),
        pytest.param(DriverError(1205, "Lock wait timeout exceeded", sqlstate="HY000"), id="MySQL's lock wait"),
        pytest.param(DriverError(1205, "Lock wait timeout exceeded", sqlstate=None), id="an older driver's"),
        pytest.param(DriverError("deadlock detected", sqlstate="40P01"), id="PostgreSQL's deadlock"),
        pytest.param(DriverError("canceling statement", sqlstate="55P03"), id="PostgreSQL's lock wait"),
    ],
)
def test_who_loses_every_time_is_told_that_the_database_is_unavailable(sqlite: Database, error: Exception) -> None:
    tries: list[Connection] = []

    def work(connection: Connection) -> None:
        tries.append(connection)
        raise OperationalError("statement", {}, error)

    with pytest.raises(DatabaseUnavailable):
        sqlite.write(work)
    assert len(tries) == TRIES


@pytest.mark.parametrize("code", [1021, 1114, "53100"])
def test_a_full_disk_is_told_as_one(sqlite: Database, code: int | str) -> None:
    error = DriverError(code, "no room", sqlstate=str(code))

    def work(_connection: Connection) -> None:
        raise OperationalError("statement", {}, error)

    with pytest.raises(DatabaseUnavailable) as told:
        sqlite.write(work)
    assert told.value.shown == "its disk is full"


# -- its clock and its times -------------------------------------------------------------------------------------------


def test_the_databases_clock_shows_utc_and_runs_on_within_a_transaction(database: Database) -> None:
    def work(connection: Connection) -> list[datetime]:
        moments = [database.now(connection)]
        while moments[-1] == moments[0]:
            moments.append(database.now(connection))
        return moments

    moments = database.write(work)
    assert moments[0].tzinfo is UTC
    assert abs(moments[0] - SystemClock().now()) < timedelta(seconds=2)
    assert moments == sorted(moments)
    finer = any(moment.microsecond % 1000 for moment in [*moments, *database.write(work)])
    assert finer == (database.dialect != "sqlite")
    assert database.read(Database(database.engine, Moment(NOW)).now) == NOW, "another clock can take its place"


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), id="the last microsecond"),
        pytest.param(datetime(2026, 3, 1, tzinfo=UTC), id="no microseconds"),
        pytest.param(datetime(2026, 3, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=5, minutes=30))), id="elsewhere"),
    ],
)
def test_a_time_comes_back_as_the_same_moment_in_utc(database: Database, moment: datetime) -> None:
    accept(database, "1", [1], now=moment)
    stored = found(database, "1").requested_at
    assert (stored, stored.tzinfo) == (moment, UTC)


def test_a_time_without_its_zone_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="without its zone"):
        accept(database, "1", [1], now=NOW.replace(tzinfo=None))


def test_times_are_compared_to_the_microsecond(database: Database) -> None:
    accept(database, "1", [1], now=NOW)
    since = [select(func.count()).where(Collection.requested_at >= NOW + n * MICROSECOND) for n in (-1, 0, 1)]
    assert database.read(lambda connection: [connection.scalar(count) for count in since]) == [1, 1, 0]
