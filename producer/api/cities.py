"""`GET /cities`: cities by the beginning of their name, or near a place. It speaks HTTP and needs no database."""

import re
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from producer.api.parts import SettingsDep
from producer.api.problems import Invalid, responses
from producer.api.requests import StrictRoute
from raingauge.cities.search import Coordinates, NoCitiesFile, UnknownCountry, no_file, open_cities
from raingauge.web import UNEXPECTED

router = APIRouter(tags=["cities"], route_class=StrictRoute)

MAX_CITIES: Final = 100
LONGEST_NAME: Final = 100
NEAR: Final = re.compile(r"(-?\d{1,3}(?:\.\d+)?),(-?\d{1,3}(?:\.\d+)?)")
NO_PLACE: Final = "a place is written as -34.9,-56.2: latitude and longitude in degrees"

# The factories only keep a default out of the schema: these may be left out, but not be null.
Beginning = Annotated[
    str,
    Query(
        alias="q",
        default_factory=str,
        max_length=LONGEST_NAME,
        description="How the name begins, in any language; case and accents do not matter. Left out: any name.",
        examples=["monte"],
    ),
]
CountryIs = Annotated[
    str,
    Query(
        alias="country",
        default_factory=str,
        max_length=LONGEST_NAME,
        description="Only cities of this country: its code in ISO 3166-1 (UY or URY), or its English name.",
        examples=["UY"],
    ),
]
Near = Annotated[
    str,
    Query(
        default_factory=str,
        max_length=LONGEST_NAME,
        description="Those nearest to this place come first: latitude and longitude in degrees, with a comma between.",
        examples=["-34.9,-56.2"],
    ),
]
Limit = Annotated[int, Query(ge=1, le=MAX_CITIES, description="How many cities to answer at most.", examples=[20])]


class CityBody(BaseModel):
    """A city."""

    id: int = Field(description="Its id, as `POST /collect` takes it.", examples=[3441575])
    name: str = Field(description="Its usual name.", examples=["Montevideo"])
    country: str = Field(description="Its country's code, ISO 3166-1.", examples=["UY"])
    admin1: str = Field(
        description="Its province, state or department; empty if it is not known.", examples=["Montevideo Department"]
    )
    latitude: float = Field(description="Degrees; north is positive.", examples=[-34.90328])
    longitude: float = Field(description="Degrees; east is positive.", examples=[-56.18816])
    population: int = Field(description="Its inhabitants; 0 if they are not known.", examples=[1270737])
    distance_km: float | None = Field(description="Kilometres from `near`; null if that was left out.", examples=[1.1])


class CitiesBody(BaseModel):
    """Cities that were found."""

    cities: list[CityBody] = Field(
        description="The largest first, or with `near` the nearest.",
        examples=[
            [
                {
                    "id": 3441575,
                    "name": "Montevideo",
                    "country": "UY",
                    "admin1": "Montevideo Department",
                    "latitude": -34.90328,
                    "longitude": -56.18816,
                    "population": 1270737,
                    "distance_km": None,
                }
            ]
        ],
    )


def _place(near: str) -> Coordinates | None:
    if not near:
        return None
    found = NEAR.fullmatch(near)
    if found is None or abs(float(found[1])) > 90 or abs(float(found[2])) > 180:
        raise Invalid(NO_PLACE, "query", "near")
    return float(found[1]), float(found[2])


def _problems() -> dict[int | str, dict[str, Any]]:
    described = responses(s422=f"near: {NO_PLACE}", s500=UNEXPECTED, s503=no_file("var/cities.db"))
    described[503] = {**described[503], "description": "There is no file of cities yet: `detail` says how to build it."}
    del described[503]["headers"]
    return described


@router.get(
    "/cities",
    operation_id="cities",
    summary="Find cities by name or place",
    response_description="The cities that were found.",
    responses=_problems(),
)
def search(settings: SettingsDep, query: Beginning, country: CountryIs, near: Near, limit: Limit = 20) -> CitiesBody:
    """Finds cities by the beginning of their name in any language: the largest first, or those nearest to a place.

    The data is that of GeoNames, whose ids the provider uses. It also knows districts and hamlets that are not
    found here; `POST /collect` takes their ids all the same.
    """
    place = _place(near)
    try:
        with open_cities(Path(settings.cities.file)) as cities:
            found = cities.search(query, country=country, near=place, limit=limit)
    except NoCitiesFile as error:
        raise HTTPException(503, str(error)) from None
    except UnknownCountry as error:
        raise Invalid(str(error), "query", "country") from None
    return CitiesBody(cities=[CityBody(**city._asdict()) for city in found])
