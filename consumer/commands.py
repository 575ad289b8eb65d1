"""What a person does to the account's gate from the command line. One transaction each; one line says what changed."""

import contextlib
from collections.abc import AsyncIterator
from typing import Final

from consumer.ledger import Ledger
from raingauge.blocking import inline
from raingauge.clock import SystemClock
from raingauge.contracts import utc_text
from raingauge.errors import DatabaseUnavailable, Fatal, SettingsError
from raingauge.settings import Settings
from raingauge.storage.database import open_database

MAX_CITIES: Final = 10**15
"""More than any plan allows, and well within the database's integers."""


async def set_month(settings: Settings, cities: int) -> None:
    """Record how many cities of this month are spent already, by whatever program."""
    if not 0 <= cities <= MAX_CITIES:
        raise SettingsError(f"the number of cities spent lies between 0 and {MAX_CITIES}")
    async with _ledger(settings) as ledger:
        before, now = await ledger.set_month(cities)
    print(f"account {settings.quota.account}: spent this month {before} -> {now} cities")  # noqa: T201


async def adopt(settings: Settings) -> None:
    """Have the gate take the settings' limits; consumers with other settings wait until they are restarted."""
    async with _ledger(settings) as ledger:
        before = await ledger.adopt()
    print(f"account {settings.quota.account}: {before} -> {_terms(settings)}")  # noqa: T201


async def shut(settings: Settings) -> None:
    """Close the gate until every charge that a restored database may have forgotten is released."""
    async with _ledger(settings) as ledger:
        until = await ledger.shut()
    print(f"account {settings.quota.account}: closed until {utc_text(until)}")  # noqa: T201


def _terms(settings: Settings) -> str:
    quota = settings.quota
    return f"{quota.cities_per_window} cities in {quota.window_s:g} s, {quota.pacing}"


@contextlib.asynccontextmanager
async def _ledger(settings: Settings) -> AsyncIterator[Ledger]:
    with contextlib.closing(open_database(settings.database.url, pool_size=1)) as database:
        terms, endpoint = settings.terms, settings.openweather.endpoint
        try:
            yield Ledger(database, inline, SystemClock(), settings.quota.account, terms, endpoint, "command")
        except DatabaseUnavailable as error:
            raise Fatal(f"the database cannot be used: {error}") from error
