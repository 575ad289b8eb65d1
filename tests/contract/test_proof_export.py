"""The ledger of a period goes into a file, whole and in order, and the file is replayed without the database."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from cli.__main__ import main
from cli.commands.proof_export import write_proof
from raingauge.database import Database
from raingauge.errors import SettingsError
from raingauge.model import LedgerEntry
from raingauge.quota.bundle import Header, read_entries, read_header
from raingauge.settings import Settings
from raingauge.settings.sections import DatabaseSettings, QuotaSettings
from raingauge.storage import quota
from raingauge.storage.models import QuotaCharge
from tests.contract.ledger_support import CLAIM_S, Account, finish
from tests.contract.storage_support import NOW, SECOND, rows

Period = tuple[datetime | None, datetime | None]


def export(database: Database, file: Path, period: Period = (None, None), name: str = "account") -> None:
    url = database.engine.url.render_as_string(hide_password=False)
    settings = Settings(database=DatabaseSettings(url=url), quota=QuotaSettings(account="other"))
    finish(write_proof(settings, str(file), period, name))


def read(file: Path) -> tuple[Header, list[LedgerEntry]]:
    lines = file.read_bytes().splitlines(keepends=True)
    return read_header(lines), list(read_entries(lines))


def charged(database: Database) -> Account:
    """An account that spent 60 cities in one window and, under other terms, 20 in the next one; one call is open."""
    account = Account(database)
    consumer = account.consumer()
    account.want_new(100)
    for _ in range(3):
        consumer.close(consumer.take())
        account.moment.forward(1)
    account.moment.forward(100)
    finish(account.unopened(cities_per_window=20).control.adopt())
    account.consumer(cities_per_window=20).take()
    return account


def test_a_ledger_becomes_a_file_that_says_what_the_ledger_says(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    account, file = charged(database), tmp_path / "proof.jsonl"
    export(database, file)
    header, found = read(file)
    assert [(one.id, one.charge.cost, one.calls, one.charge.closed_at) for one in found] == [
        (row.id, row.cost, 1, row.closed_at) for row in rows(database, QuotaCharge)
    ]
    assert (header.since, header.until) == (NOW, account.gate.last_now)
    assert [(each.since, each.cities_per_window) for each in header.terms] == [(NOW, 60), (NOW + 103 * SECOND, 20)]
    export(database, tmp_path / "proof.jsonl.gz")
    for name in ("proof.jsonl", "proof.jsonl.gz"):
        assert main(["proof", "verify", str(tmp_path / name)]) == 0
    assert "whole: 4 charges for 80 cities in 4 calls" in capsys.readouterr().out


def test_a_ledger_that_breaks_the_limit_is_found_out(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    charged(database)
    planted = NOW + 30 * SECOND
    database.write(
        lambda c: quota.insert_charge(c, "account", "rogue", 7, planted, planted + timedelta(seconds=CLAIM_S))
    )
    export(database, tmp_path / "proof")
    assert main(["proof", "verify", str(tmp_path / "proof")]) == 1
    assert f"window of 60 s from {NOW + 0 * SECOND:%Y-%m-%d %H:%M:%S}" in (error := capsys.readouterr().err)
    assert "can have seen 67 cities, and 60 were allowed" in error


def test_a_period_has_only_the_charges_that_may_share_its_windows(database: Database, tmp_path: Path) -> None:
    account = charged(database)
    account.moment.forward(3600)
    account.consumer(cities_per_window=20).take()
    export(database, tmp_path / "proof", (NOW + 3000 * SECOND, NOW + timedelta(days=1)))
    header, found = read(tmp_path / "proof")
    assert [one.charge.reserved_at for one in found] == [account.moment.now] == [header.until]


@pytest.mark.parametrize(
    ("period", "name", "why"),
    [
        ((None, None), "nobody", "account nobody has no gate"),
        ((NOW + 500 * SECOND, None), "account", "--from is not before"),
        ((None, NOW), "account", "--from is not before"),
    ],
)
def test_what_cannot_be_exported_is_named(
    database: Database, tmp_path: Path, period: Period, name: str, why: str
) -> None:
    charged(database)
    with pytest.raises(SettingsError, match=why):
        export(database, tmp_path / "proof", period, name)
    assert not (tmp_path / "proof").exists()


def test_a_file_that_cannot_be_written_is_named(sqlite: Database, tmp_path: Path) -> None:
    charged(sqlite)
    with pytest.raises(SettingsError, match="No such file"):
        export(sqlite, tmp_path / "nowhere" / "proof")
