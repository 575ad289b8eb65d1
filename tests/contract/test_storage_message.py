"""Statements on their way to the server, on every database."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, insert, literal, select, update
from sqlalchemy.exc import IntegrityError, StatementError

from raingauge.storage.database import Database
from raingauge.storage.message import MOST, Answer, finish, send
from raingauge.storage.models import City, QuotaCharge, QuotaGate
from raingauge.storage.rows import AT_ONCE, store
from tests.contract.storage_support import NOW, SECOND, Account, at_once, rows

NAMES = select(City.id, City.name, City.fetched_at).where(City.id.in_(bindparam("cities", expanding=True)))
RENAME = update(City).where(City.id == bindparam("city")).values(name=bindparam("as"))
ADD = insert(City)
CHARGE = insert(QuotaCharge)
LOCK = select(QuotaGate.strikes).where(QuotaGate.account == bindparam("whose")).with_for_update()
STRIKE = update(QuotaGate).where(QuotaGate.account == bindparam("whose")).values(strikes=QuotaGate.strikes + 1)


def city(number: int, name: str | None = None) -> Mapping[str, Any]:
    return {"id": number, "name": name, "fetched_at": NOW + number * SECOND}


def charge(consumer: str) -> Mapping[str, Any]:
    return {"account": "a", "cost": 1, "reserved_at": NOW, "release_at": NOW, "consumer": consumer}


def test_each_statement_is_answered_in_its_turn(database: Database) -> None:
    names = (NAMES, {"cities": [3, 1]})

    def work(connection: Connection) -> list[Answer]:
        some = [(ADD, city(1, "Ávila")), (ADD, city(3)), names, (RENAME, {"city": 1, "as": "x"}), names]
        return send(connection, some)

    *_, before, renamed, after = database.write(work)
    assert sorted(map(tuple, before.rows)) == [(1, "Ávila", NOW + SECOND), (3, None, NOW + 3 * SECOND)]
    assert not renamed.rows
    assert min(map(tuple, after.rows)) == (1, "x", NOW + SECOND)


def test_whatever_a_text_holds_is_a_text(database: Database) -> None:
    nasty = "a';COMMIT;DROP TABLE cities;-- %s %(city)s %% \\' \" \x00 🌦️"
    if database.dialect == "postgresql":
        nasty = nasty.replace("\x00", "")  # PostgreSQL stores none
    database.write(lambda c: finish(c, [(ADD, city(1, nasty)), (ADD, city(2, ";COMMIT"))]))
    assert [row.name for row in rows(database, City)] == [nasty, ";COMMIT"]


def test_a_list_may_be_empty_and_constants_are_kept(database: Database) -> None:
    database.write(lambda c: send(c, [(ADD, city(1))]))
    asked = select(literal("100%"), City.id).where(City.id.in_(bindparam("cities", expanding=True)))
    nothing, something = database.read(lambda c: send(c, [(asked, {"cities": []}), (asked, {"cities": [1, 2]})]))
    assert (list(nothing.rows), [tuple(row) for row in something.rows]) == ([], [("100%", 1)])


def test_a_value_that_is_missing_is_an_error(database: Database) -> None:
    with pytest.raises((StatementError, KeyError)):
        database.write(lambda c: send(c, [(RENAME, {"city": 1})]))


def test_the_database_numbers_what_is_inserted(database: Database) -> None:
    first, other, second = database.write(
        lambda c: finish(c, [(CHARGE, charge("1")), (RENAME, {"city": 1, "as": "x"}), (CHARGE, charge("2"))])
    )
    assert {row.id: row.consumer for row in rows(database, QuotaCharge)} == {first.key: "1", second.key: "2"}
    assert other.key == 0


@pytest.mark.parametrize("number", [MOST, MOST + 1, 2 * MOST + 50])
def test_there_may_be_more_than_one_message_has_room_for(database: Database, number: int) -> None:
    answers = database.write(lambda c: finish(c, [(CHARGE, charge(str(n))) for n in range(number)]))
    stored = {row.id: row.consumer for row in rows(database, QuotaCharge)}
    assert [stored[answer.key] for answer in answers] == [str(n) for n in range(number)]


def test_when_one_fails_none_is_kept(database: Database) -> None:
    twice = [(ADD, city(1)), (ADD, city(1)), (ADD, city(2))]
    for way in (send, finish):
        with pytest.raises(IntegrityError):
            database.write(partial(way, statements=twice))
        assert rows(database, City) == []
    database.write(lambda c: send(c, [(ADD, city(1))]))
    assert [row.id for row in rows(database, City)] == [1]


def test_what_follows_a_transaction_that_was_finished_is_committed_too(database: Database) -> None:
    """Also when it does nothing but lock: a connection that goes back to its pool holds nothing."""
    Account(database).ledger()
    account = {"whose": "account"}

    def strike(connection: Connection) -> None:
        finish(connection, [(LOCK, account), (STRIKE, account)])

    def look(connection: Connection) -> int:
        [locked] = send(connection, [(LOCK, account)])
        return int(locked.rows[0][0])

    def add(connection: Connection) -> None:
        connection.execute(STRIKE, account)

    def go_on(connection: Connection) -> None:
        """Which nobody should; but then it is not lost, either."""
        finish(connection, [(LOCK, account)])
        connection.execute(STRIKE, account)

    def break_off(connection: Connection) -> None:
        finish(connection, [(LOCK, account)])
        raise ArithmeticError

    def all_of_it() -> None:
        for _ in range(5):
            for work in (strike, look, add, go_on, look):
                database.write(work)
            with pytest.raises(ArithmeticError):
                database.write(break_off)
            for work in (add, look):
                database.write(work)

    at_once([all_of_it] * 4)
    assert database.write(look) == 4 * 5 * 4


def test_an_error_does_not_tell_the_values(database: Database) -> None:
    for way in (send, finish):
        with pytest.raises(IntegrityError) as raised:
            database.write(partial(way, statements=[(ADD, city(1, "a secret")), (ADD, city(1, "a secret"))]))
        told = str(raised.value).partition("[SQL:")[2]  # what stands before is the server's
        assert "INSERT INTO cities" in told
        assert "a secret" not in told


@pytest.mark.parametrize(
    "names",
    [
        ("plain", "also plain"),
        ("plain", None),
        (None, None),
        ("it's", "plain"),
        ("a'),('b", "c\\", '";COMMIT', "%s %(id)s %%", "a\nb", "Ávila 🌦️", "null", "1", ""),
        ("\\", "'"),
    ],
)
def test_rows_of_texts_are_stored_as_they_are(database: Database, names: tuple[str | None, ...]) -> None:
    given = list(enumerate(names, 1))
    database.write(lambda connection: store(connection, insert(City), ("id", "name"), given))
    assert [(row.id, row.name) for row in rows(database, City)] == given


@pytest.mark.parametrize(
    "numbers", [(1 / 3, 1e-7, 1e22, -0.1, 2**53 + 1.0, 5e-324), (1.5, None), (None, None), (1, 2.5, -3)]
)
def test_rows_of_numbers_are_stored_as_they_are(database: Database, numbers: tuple[float | None, ...]) -> None:
    given = list(enumerate(numbers, 1))
    database.write(lambda connection: store(connection, insert(City), ("id", "latitude"), given))
    assert [(row.id, row.latitude) for row in rows(database, City)] == given


def test_an_error_about_rows_does_not_tell_their_values(database: Database) -> None:
    rows = [(1, "a secret"), (1, "a secret")]
    with pytest.raises(IntegrityError) as raised:
        database.write(lambda connection: store(connection, insert(City), ("id", "name"), rows))
    told = str(raised.value).partition("[SQL:")[2]
    assert "INSERT INTO cities" in told
    assert "a secret" not in told


def test_rows_come_back_as_they_were_stored_whatever_is_in_them_and_however_many(database: Database) -> None:
    names = ["100 % rain", "%s", "it's \\ and \"\n", "Łódź 🌧️", None, "\\'); DROP TABLE cities; --"]
    given = [(number, names[number % len(names)], number / 7) for number in range(1, 2 * AT_ONCE + 3)]
    database.write(lambda connection: store(connection, insert(City), ("id", "name", "humidity"), given))
    asked = select(City.id, City.name, City.humidity).order_by(City.id)
    assert [tuple(row) for row in database.read(lambda connection: connection.execute(asked).all())] == given
