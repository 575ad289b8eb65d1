"""What a person does to the account's gate from the command line. One transaction each."""

import contextlib
from collections.abc import Callable
from typing import Final

from consumer.quota import Ledger
from raingauge.errors import DatabaseUnavailable, Fatal, SettingsError
from raingauge.settings import Settings
from raingauge.storage.database import open_database

MOST_CITIES: Final = 10**15
"""More than any plan allows, and well within the database's integers."""


async def set_month(settings: Settings, cities: int) -> None:
    """Say how many cities of this month are spent already, by whatever program."""
    if not 0 <= cities <= MOST_CITIES:
        raise SettingsError(f"the number of cities spent lies between 0 and {MOST_CITIES}")
    _with_ledger(settings, lambda ledger: ledger.set_month(cities))


async def adopt(settings: Settings) -> None:
    """Have the gate take the settings' limits; running consumers with other settings keep theirs: stop them before."""
    _with_ledger(settings, lambda ledger: ledger.open(change=True))


async def shut(settings: Settings) -> None:
    """Close the gate until every charge that a restored database may have forgotten is released."""
    _with_ledger(settings, lambda ledger: ledger.shut())


def _with_ledger(settings: Settings, work: Callable[[Ledger], None]) -> None:
    with contextlib.closing(open_database(settings.database.url, pool_size=1)) as database:
        ledger = Ledger(database, settings.quota.account, settings.terms, settings.openweather.endpoint, "command")
        try:
            work(ledger)
        except DatabaseUnavailable as error:
            raise Fatal(f"the database does not answer: {error}") from error
