"""What a person changes from the command line: the account's gate, and what is known of cities.

Each command prints what it changed, in one line.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final

from consumer.control import GateControl
from raingauge.contracts import utc_text
from raingauge.database import Database
from raingauge.errors import SettingsError
from raingauge.settings import Settings
from raingauge.storage.cities import forget_unknown

MAX_CITIES: Final = 10**15
"""More than any plan allows, and well within the database's integers."""

OpenDatabase = Callable[[Settings], AbstractContextManager[Database]]
OpenControl = Callable[[Settings], AbstractContextManager[GateControl]]


async def set_month(settings: Settings, cities: int, open_control: OpenControl) -> None:
    """Record how many cities of this month are spent already, by whatever program."""
    if not 0 <= cities <= MAX_CITIES:
        raise SettingsError(f"the number of cities spent lies between 0 and {MAX_CITIES}")
    with open_control(settings) as control:
        before, now = await control.set_month(cities)
    print(f"account {settings.quota.account}: spent this month {before} -> {now} cities")  # noqa: T201


async def adopt(settings: Settings, open_control: OpenControl) -> None:
    """Have the gate take the settings' limits; consumers with other settings wait until they are restarted."""
    with open_control(settings) as control:
        before = await control.adopt()
    print(f"account {settings.quota.account}: {before} -> {_terms(settings)}")  # noqa: T201


async def shut(settings: Settings, open_control: OpenControl) -> None:
    """Close the gate until every charge that a restored database may have forgotten is released."""
    with open_control(settings) as control:
        until = await control.shut()
    print(f"account {settings.quota.account}: closed until {utc_text(until)}")  # noqa: T201


async def open_gate(settings: Settings, open_control: OpenControl) -> None:
    """Open the gate at once, whatever the provider or a person closed it for."""
    with open_control(settings) as control:
        gate = await control.reopen()
    before = "open" if gate.state == "open" else f"{gate.state} until {utc_text(gate.blocked_until)}"
    print(f"account {settings.quota.account}: {before} -> open")  # noqa: T201


async def forget_cities(settings: Settings, city_ids: Sequence[int], open_database: OpenDatabase) -> None:
    """Have these cities requested again although the provider did not know them."""
    with open_database(settings) as database:
        forgotten = database.write(lambda connection: forget_unknown(connection, city_ids))
    for city_id in dict.fromkeys(city_ids):
        since = forgotten.get(city_id)
        print(f"city {city_id}: {f'unknown since {utc_text(since)} -> forgotten' if since else 'was not unknown'}")  # noqa: T201


def _terms(settings: Settings) -> str:
    quota = settings.quota
    return f"{quota.cities_per_window} cities in {quota.window_s:g} s, {quota.pacing}"
