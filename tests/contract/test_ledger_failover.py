"""The ledger on another server than before: the gate closes by itself, says so, and opens after the longest hold."""

import logging

import pytest
from sqlalchemy import ColumnElement, Connection, String, bindparam, literal_column, select, update

from consumer.ledger import NotNow
from raingauge.database import Database, identity
from raingauge.database.identity import UNKNOWN, server_identity
from raingauge.storage.models import Event, QuotaGate
from tests.contract.ledger_support import CLAIM_S, WORST_S, Account, Consumer, milliseconds
from tests.contract.storage_support import NOW, ON_SERVERS, SECOND, rows


class Servers:
    """The database, which says that it is the server of that name."""

    def __init__(self, database: Database) -> None:
        self.account = Account(database)
        self.name: str | None = "one"

    def identity(self, _connection: Connection) -> ColumnElement[str | None]:
        """The identity, as a value that is read with each statement."""
        return bindparam("server", callable_=lambda: self.name, type_=String())

    def consumer(self, name: str = "one") -> Consumer:
        """A consumer on whatever server it is."""
        consumer = self.account.unopened(name)
        consumer.ledger.find_identity = self.identity
        consumer.open()
        return consumer


@pytest.fixture
def servers(database: Database) -> Servers:
    return Servers(database)


def test_a_failover_closes_the_gate_for_all_consumers_until_everything_lost_is_released(
    servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    one, other, account = servers.consumer(), servers.consumer("other"), servers.account
    account.want_new(400)
    one.take()
    assert account.gate.database_id == "one"
    servers.name = "two"
    with caplog.at_level(logging.WARNING):
        answer = other.refused()
    assert (answer.seconds, answer.reason, answer.moved) == (milliseconds(WORST_S), "failover", ("one", "two"))
    assert [record.servers for record in caplog.records if record.message == "gate.failover"] == ["one -> two"]  # type: ignore[attr-defined]
    events = [row for row in rows(account.database, Event) if row.type == "gate.closed"]
    assert [row.description.rsplit(" ", 1)[1] for row in events] == ["failover"]
    assert (account.gate.database_id, account.gate.blocked_until) == ("two", NOW + WORST_S * SECOND)
    account.moment.forward(WORST_S - CLAIM_S)
    assert one.refused() == NotNow(milliseconds(CLAIM_S), "failover")
    account.moment.forward(CLAIM_S)
    taken = one.take()
    assert (len(taken.city_ids), taken.plan.probe, account.gate.state) == (20, False, "open")


def test_consumers_on_several_servers_never_get_the_gate_open(servers: Servers) -> None:
    consumer, account = servers.consumer(), servers.account
    account.want_new(40)
    consumer.take()
    for before, name in (("one", "two"), ("two", "one"), ("one", "two")):
        servers.name = name
        assert consumer.refused() == NotNow(milliseconds(WORST_S), "failover", (before, name))
        account.moment.forward(WORST_S - 1)


def test_a_gate_of_a_version_without_identities_takes_the_first_one_and_stays_open(servers: Servers) -> None:
    servers.name = None
    consumer, account = servers.consumer(), servers.account
    account.want_new(60)
    consumer.take()
    assert account.gate.database_id is None
    servers.name = "one"
    consumer.take()
    assert account.gate.database_id == "one"
    assert account.gate.state == "open"
    account.database.write(lambda connection: connection.execute(update(QuotaGate).values(database_id=None)))
    consumer.take()
    assert account.gate.database_id == "one"


@ON_SERVERS
def test_a_server_has_an_identity_that_every_connection_reads(database: Database) -> None:
    found = database.write(server_identity)
    seen = {database.read(lambda connection: connection.scalar(select(found))) for _ in range(3)}
    assert len(seen) == 1
    assert all(name and len(name) > 5 for name in seen)


@ON_SERVERS
def test_a_server_that_does_not_say_which_it_is_counts_as_unknown(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refused = "no_such_function()" if database.dialect == "postgresql" else "@@no_such_variable"
    monkeypatch.setattr(identity, "_expression", lambda _kind: literal_column(refused, String()))
    assert database.write(server_identity) is UNKNOWN
    assert [record.message for record in caplog.records] == ["database.identity_unknown"]


def test_sqlite_has_no_identity(sqlite: Database) -> None:
    assert sqlite.write(server_identity) is UNKNOWN
