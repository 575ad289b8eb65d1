"""`python -m consumer quota …` on a SQLite file: what a person does to the gate, and what the command line takes."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from consumer import commands
from consumer.__main__ import parser
from consumer.app import command_control, run
from raingauge.contracts import utc_text
from raingauge.database import Database, open_database
from raingauge.database.command import command_database
from raingauge.errors import Fatal, GateMismatch, SettingsError
from raingauge.model import Gate, month_of
from raingauge.settings import Settings, load_settings
from raingauge.storage.cities import UNKNOWN_TWICE_IN, remember
from raingauge.storage.quota import find_gate

adopt = partial(commands.adopt, open_control=command_control)
shut = partial(commands.shut, open_control=command_control)
set_month = partial(commands.set_month, open_control=command_control)
open_gate = partial(commands.open_gate, open_control=command_control)
forget_cities = partial(commands.forget_cities, open_database=command_database)


@pytest.fixture
def database(own_environment: None, template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """The database that the settings name."""
    url = f"sqlite:///{shutil.copy(template, Path.cwd() / 'own.db')}"
    monkeypatch.setenv("RAINGAUGE_DATABASE__URL", url)
    with closing(open_database(url, pool_size=1)) as opened:
        yield opened


def settings_with(**quota: Any) -> Settings:
    settings = load_settings()
    return settings.model_copy(update={"quota": settings.quota.model_copy(update=quota)})


def gate_of(database: Database, account: str = "openweather") -> Gate:
    gate = database.read(lambda connection: find_gate(connection, account))
    assert gate is not None
    return gate


async def test_adopting_makes_the_gate_or_has_it_take_the_settings_limits_and_says_what_changed(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = {"cities_per_window": 600, "window_s": 120.0, "pacing": "burst"}
    for quota in ({}, {}, changed, {"account": "second", "cities_per_window": 5}):
        await adopt(settings_with(**quota))
    gate = gate_of(database)
    assert (gate.cities_per_window, gate.window_s, gate.pacing, gate.state) == (600, 120.0, "burst", "open")
    assert gate_of(database, "second").cities_per_window == 5
    assert capsys.readouterr().out.splitlines() == [
        "account openweather: no gate -> 60 cities in 60 s, smooth",
        "account openweather: 60 cities in 60 s, smooth -> 60 cities in 60 s, smooth",
        "account openweather: 60 cities in 60 s, smooth -> 600 cities in 120 s, burst",
        "account second: no gate -> 5 cities in 60 s, smooth",
    ]


async def test_adopting_the_same_limits_changes_nothing(database: Database) -> None:
    await adopt(settings_with())
    before = gate_of(database)
    await adopt(settings_with())
    assert gate_of(database) == before


async def test_the_months_spending_can_be_set(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    await adopt(settings_with())
    before = 0
    for cities in (123_456, 10**15, 0):
        await set_month(settings_with(), cities)
        gate, now = gate_of(database), database.read(database.now)
        assert (gate.month, gate.spent(now)) == (month_of(now), cities)
        told = capsys.readouterr().out.splitlines()[-1]
        assert told == f"account openweather: spent this month {before} -> {cities} cities"
        before = cities
    for cities in (-1, 10**15 + 1):
        with pytest.raises(SettingsError, match="between 0 and"):
            await set_month(settings_with(), cities)
    assert gate_of(database).month_spent == 0


async def test_shutting_closes_for_the_longest_hold(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    await adopt(settings_with())
    before = database.read(database.now)
    await shut(settings_with())
    gate = gate_of(database)
    hold = timedelta(seconds=5 + 10 + 10 + 60)
    assert gate.state == "database"
    assert "account openweather: closed until 2" in capsys.readouterr().out
    assert before + hold <= gate.blocked_until <= database.read(database.now) + hold


async def test_a_gate_is_opened_by_hand(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    await adopt(settings_with())
    await shut(settings_with())
    until = utc_text(gate_of(database).blocked_until)
    await open_gate(settings_with())
    await open_gate(settings_with())
    assert (gate_of(database).state, gate_of(database).strikes) == ("open", 0)
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"account openweather: database until {until} -> open",
        "account openweather: open -> open",
    ]


async def test_unknown_cities_are_forgotten(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 11, 20, tzinfo=UTC)
    for fetched_at in (moment - UNKNOWN_TWICE_IN, moment):
        database.write(partial(remember, observed={}, unknown=[7], fetched_at=fetched_at))
    for _ in range(2):
        await forget_cities(settings_with(), [7])
    assert capsys.readouterr().out.splitlines() == [
        f"city 7: unknown since {utc_text(moment)} -> forgotten",
        "city 7: was not unknown",
    ]


@pytest.mark.parametrize("command", [shut, open_gate, lambda settings: set_month(settings, 5)])
async def test_a_gate_that_nobody_made_cannot_be_changed(database: Database, command: Any) -> None:
    with pytest.raises(GateMismatch, match="account openweather"):
        await command(settings_with())


@pytest.mark.usefixtures("own_environment")
async def test_a_database_without_tables_is_told_and_a_file_that_is_not_there_is_not_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.db").touch()
    monkeypatch.setenv("RAINGAUGE_DATABASE__URL", f"sqlite:///{tmp_path}/empty.db")
    with pytest.raises(Fatal, match="the database cannot be used"):
        await adopt(settings_with())
    monkeypatch.setenv("RAINGAUGE_DATABASE__URL", f"sqlite:///{tmp_path}/other.db")
    with pytest.raises(SettingsError, match=r"there is no file .*other.db; name the database of the service"):
        await adopt(settings_with())
    assert not (tmp_path / "other.db").exists()


# -- the command line --------------------------------------------------------------------------------------------------


def chosen(*arguments: str) -> Any:
    taken = parser().parse_args(arguments)
    return taken.program(taken)


async def test_the_command_line_leads_to_the_commands(database: Database) -> None:
    assert chosen() is run
    assert chosen("quota", "adopt").func is commands.adopt
    assert chosen("quota", "shut").func is commands.shut
    assert chosen("quota", "open").func is commands.open_gate
    await chosen("cities", "forget", "5", "6")(settings_with())
    await adopt(settings_with())
    await chosen("quota", "set-month", "77")(settings_with())
    assert gate_of(database).month_spent == 77


def test_a_mistake_on_the_command_line_ends_it_with_a_clear_message(capsys: pytest.CaptureFixture[str]) -> None:
    mistakes = {"quota set-month": "cities", "quota set-month many": "many", "quota ajar": "ajar"}
    others = {"quota": "set-month,adopt,shut,open", "cities forget": "ID", "collect": "collect"}
    for arguments, named in (mistakes | others).items():
        with pytest.raises(SystemExit) as ended:
            chosen(*arguments.split())
        assert ended.value.code == 2
        assert named in capsys.readouterr().err
