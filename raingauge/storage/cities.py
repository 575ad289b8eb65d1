"""Cities: the latest observation of each, which ids are unknown, and who is fetching which now."""

from collections.abc import Collection as Many
from dataclasses import asdict
from datetime import datetime
from itertools import groupby
from typing import Final

from sqlalchemy import Connection, select, update

from raingauge.observation import Observation
from raingauge.storage.database import upsert
from raingauge.storage.models import WEATHER_COLUMNS, City

_OBSERVED: Final = ("name", "country", "latitude", "longitude", *WEATHER_COLUMNS, "claimed_by", "claimed_until")


def remember(connection: Connection, fetched_at: datetime, observations: Many[Observation], unknown: Many[int]) -> None:
    """Keep the latest observation of each city, and which ids are unknown. Their claims end with it."""
    end_of_claim = {"claimed_by": None, "claimed_until": None}
    known = {o.city_id: {name: value for name, value in asdict(o).items() if name != "city_id"} for o in observations}
    rows = {city: values | {"fetched_at": fetched_at, "unknown_at": None} for city, values in known.items()}
    rows |= {city: {"unknown_at": fetched_at} for city in unknown}
    # In the order of their ids whatever became of them: opposite orders would deadlock.
    for is_known, cities in groupby(sorted(rows), key=known.__contains__):
        columns = (*_OBSERVED, "unknown_at") if is_known else ("unknown_at", "claimed_by", "claimed_until")
        upsert(connection, City, [{"id": city} | rows[city] | end_of_claim for city in cities], columns)


def claim(connection: Connection, city_ids: Many[int], holder: str, until: datetime) -> None:
    """Say that someone is fetching these cities now."""
    rows = [{"id": city, "claimed_by": holder, "claimed_until": until} for city in sorted(city_ids)]
    upsert(connection, City, rows, ("claimed_by", "claimed_until"))


def unclaim(connection: Connection, city_ids: Many[int], holder: str) -> None:
    """Say that these are not being fetched any more."""
    if city_ids:
        mine = (City.id.in_(sorted(city_ids)), City.claimed_by == holder)
        connection.execute(update(City).where(*mine).values(claimed_by=None, claimed_until=None))


def good_city(connection: Connection) -> int | None:
    """The city that was fetched last, or None before any was."""
    fetched = select(City.id).where(City.fetched_at.is_not(None)).order_by(City.fetched_at.desc())
    return connection.scalar(fetched.limit(1))
