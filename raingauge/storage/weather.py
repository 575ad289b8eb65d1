"""The columns that every table of weather has. Units as in `raingauge.model`."""

from datetime import datetime
from typing import Final

from sqlalchemy.orm import Mapped


class Weather:
    """The columns of one city's weather; units as in `raingauge.model`."""

    fetched_at: Mapped[datetime | None]
    """When the call was reserved, by the database's clock: before it was sent."""
    observed_at: Mapped[datetime | None]
    temperature: Mapped[float | None]
    humidity: Mapped[float | None]
    feels_like: Mapped[float | None]
    pressure: Mapped[float | None]
    wind_speed: Mapped[float | None]
    wind_deg: Mapped[float | None]
    clouds: Mapped[float | None]
    visibility: Mapped[float | None]
    rain_1h: Mapped[float | None]
    snow_1h: Mapped[float | None]
    condition_id: Mapped[int | None]
    description: Mapped[str | None]
    utc_offset_s: Mapped[int | None]


WEATHER_COLUMNS: Final = tuple(Weather.__annotations__)
