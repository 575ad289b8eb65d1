"""What the provider says about one city: the shape that the provider's client makes and storage keeps."""

from datetime import datetime
from typing import NamedTuple


class Observation(NamedTuple):
    """The weather of one city. Times are aware and in UTC; what the provider left out is None, never 0."""

    city_id: int
    name: str | None
    country: str | None
    """ISO 3166 code of two letters."""
    latitude: float | None
    longitude: float | None
    observed_at: datetime
    """When the provider says it was so."""
    temperature: float
    """°C."""
    humidity: float | None
    """%; above 100 has been seen."""
    feels_like: float | None = None
    """°C."""
    pressure: float | None = None
    """hPa."""
    wind_speed: float | None = None
    """m/s."""
    wind_deg: float | None = None
    """Degrees, where the wind comes from."""
    clouds: float | None = None
    """% of the sky."""
    visibility: float | None = None
    """m."""
    rain_1h: float | None = None
    """mm in the last hour."""
    snow_1h: float | None = None
    """mm in the last hour."""
    condition_id: int | None = None
    """The provider's code, for example 800 for a clear sky."""
    description: str | None = None
    utc_offset_s: int | None = None
    """Seconds that local time is ahead of UTC."""
