"""Bad input gets a clear error and changes nothing (promise 7): a table of all kinds, each with its sentence."""

import json
from typing import Final

import pytest

from producer.api.collections import NO_CITY_ID
from producer.api.strict import MAX_FIELDS
from raingauge.storage.database import Database
from tests.api_support import JSON, Front, assert_problem, settings_for

MAX_CITIES: Final = 100
ID: Final = "id: an id is an integer, or 1 to 64 of A-Z a-z 0-9 . _ -"
EMPTY: Final = "body: it is empty; a JSON object is expected"
OBJECT: Final = "body: a JSON object is expected"
DIGITS: Final = "body: it has a number of too many digits"
LIST: Final = "cities: Input should be a valid list"
CITY: Final = f"cities.0: {NO_CITY_ID}"
AGE: Final = "max_age_s: Input should be a valid integer"
UTF_8: Final = "body: it is not UTF-8"


def not_json(what: str) -> str:
    return f"body: it is not JSON: {what}"


BODIES: Final[dict[str, tuple[str | bytes, str]]] = {
    "nothing": ("", EMPTY),
    "space only": (" ", not_json("Expecting value: line 1 column 2 (char 1)")),
    "malformed": (
        '{"id": 1',
        not_json("Expecting ',' delimiter: line 1 column 9 (char 8)"),
    ),
    "single quotes": (
        "{'id': 1}",
        not_json("Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
    ),
    "two values": ('{"id": 1} {"id": 2}', not_json("Extra data: line 1 column 11 (char 10)")),
    "leading zeros": ('{"id": 007}', not_json("Expecting ',' delimiter: line 1 column 9 (char 8)")),
    "a raw line break in text": ('{"id": "1\n"}', not_json("Invalid control character at: line 1 column 10 (char 9)")),
    "NaN": ('{"id": NaN}', not_json("NaN is no value there")),
    "Infinity": ('{"id": 1, "cities": [Infinity]}', not_json("Infinity is no value there")),
    "minus Infinity": ('{"id": 1, "max_age_s": -Infinity}', not_json("-Infinity is no value there")),
    "null": ("null", OBJECT),
    "a list": ('[{"id": 1}]', OBJECT),
    "text": ('"1"', OBJECT),
    "a number": ("1", OBJECT),
    "a bool": ("true", OBJECT),
    "invalid UTF-8": (b'{"id": "\xff"}', UTF_8),
    "UTF-16": ('{"id": 1}'.encode("utf-16"), UTF_8),
    "deep nesting": ("[" * 2000 + "]" * 2000, "body: it is nested too deeply"),
    "nested objects": ('{"id": {"id": {"id": 1}}}', ID),
    "a field twice": ('{"id": 1, "id": 2}', "id: it is given more than once"),
    "a field twice within": ('{"id": 1, "x": {"a": 1, "a": 1}}', "a: it is given more than once"),
    "no fields": ("{}", "id: it is missing"),
    "no id": ('{"cities": [1]}', "id: it is missing"),
    "another case of id": ('{"ID": 1}', "id: it is missing; ID: it is not known here"),
    "null id": ('{"id": null}', ID),
    "true id": ('{"id": true}', ID),
    "false id": ('{"id": false}', ID),
    "float id": ('{"id": 1.0}', ID),
    "exponent id": ('{"id": 1e3}', ID),
    "infinite id": ('{"id": 1e999}', ID),
    "list id": ('{"id": [1]}', ID),
    "empty id": ('{"id": ""}', ID),
    "65 characters": (json.dumps({"id": "a" * 65}), ID),
    "65 digits": ('{"id": ' + "1" * 65 + "}", ID),
    "64 digits and a sign": ('{"id": -' + "1" * 64 + "}", ID),
    "5,000 digits": ('{"id": ' + "1" * 5000 + "}", DIGITS),
    "space in id": ('{"id": "a b"}', ID),
    "space before id": ('{"id": " 1"}', ID),
    "slash in id": ('{"id": "../1"}', ID),
    "quote in id": ('{"id": "1\'--"}', ID),
    "an id of the system's own": ('{"id": "sweep:1"}', ID),
    "letters beyond ASCII": ('{"id": "mañana"}', ID),
    "digits beyond ASCII": ('{"id": "\u0661\u0662"}', ID),
    "fullwidth digits": ('{"id": "\uff11"}', ID),
    "NUL in id": ('{"id": "1\\u0000"}', ID),
    "line break after id": ('{"id": "1\\n"}', ID),
    "half a surrogate pair": ('{"id": "\\ud800"}', ID),
    "half a surrogate pair as a field": ('{"id": 1, "\\ud800": 1}', "body: it has text that is not Unicode"),
    "half a surrogate pair as a field twice": (
        '{"id": 1, "\\ud800": 1, "\\ud800": 1}',
        "\\ud800: it is given more than once",
    ),
    "null cities": ('{"id": 1, "cities": null}', LIST),
    "no cities": ('{"id": 1, "cities": []}', "cities: at least one is needed"),
    "cities as text": ('{"id": 1, "cities": "1,2"}', LIST),
    "cities as a number": ('{"id": 1, "cities": 1}', LIST),
    "cities as an object": ('{"id": 1, "cities": {"1": 2}}', LIST),
    "text city": ('{"id": 1, "cities": ["1"]}', CITY),
    "float city": ('{"id": 1, "cities": [1.0]}', CITY),
    "bool city": ('{"id": 1, "cities": [true]}', CITY),
    "null city": ('{"id": 1, "cities": [null]}', CITY),
    "nested city": ('{"id": 1, "cities": [[1]]}', CITY),
    "negative city": ('{"id": 1, "cities": [1, -1]}', "cities.1: Input should be greater than or equal to 1"),
    "zero city": ('{"id": 1, "cities": [0]}', "cities.0: Input should be greater than or equal to 1"),
    "city of 2^31": (
        '{"id": 1, "cities": [2147483648]}',
        "cities.0: Input should be less than or equal to 2147483647",
    ),
    "city of 10^30": (
        json.dumps({"id": 1, "cities": [10**30]}),
        "cities.0: Input should be less than or equal to 2147483647",
    ),
    "city of 5,000 digits": ('{"id": 1, "cities": [' + "9" * 5000 + "]}", DIGITS),
    "many bad cities": (
        json.dumps({"id": 1, "cities": [1, *[0] * 900]}),
        "; ".join(f"cities.{index}: Input should be greater than or equal to 1" for index in (1, 2, 3)),
    ),
    "too many cities": (
        json.dumps({"id": 1, "cities": list(range(1, MAX_CITIES + 2))}),
        "cities: a collection has at most 100 distinct cities, not 101",
    ),
    "negative age": ('{"id": 1, "max_age_s": -1}', "max_age_s: Input should be greater than or equal to 0"),
    "age over a day": ('{"id": 1, "max_age_s": 86401}', "max_age_s: Input should be less than or equal to 86400"),
    "float age": ('{"id": 1, "max_age_s": 1.5}', AGE),
    "whole float age": ('{"id": 1, "max_age_s": 600.0}', AGE),
    "text age": ('{"id": 1, "max_age_s": "600"}', AGE),
    "bool age": ('{"id": 1, "max_age_s": true}', AGE),
    "null age": ('{"id": 1, "max_age_s": null}', AGE),
    "another field": ('{"id": 1, "citys": [1]}', "citys: it is not known here"),
    "a field with a long name": (json.dumps({"id": 1, "x" * 500: 1}), f"{'x' * 64}: it is not known here"),
    "several at once": (
        '{"id": "", "cities": [], "max_age_s": -1, "x": 1}',
        f"{ID}; cities: at least one is needed; max_age_s: Input should be greater than or equal to 0",
    ),
}

TYPES: Final[dict[str, tuple[dict[str, str], str]]] = {
    "none": ({}, "missing"),
    "curl's own": ({"Content-Type": "application/x-www-form-urlencoded"}, "application/x-www-form-urlencoded"),
    "text": ({"Content-Type": "text/plain; charset=utf-8"}, "text/plain"),
    "other JSON": ({"Content-Type": "application/ld+json"}, "application/ld+json"),
    "empty": ({"Content-Type": ""}, "missing"),
    "long": ({"Content-Type": "x/" + "y" * 500}, "x/" + "y" * 62),
}

QUERIES: Final[dict[str, tuple[str, str]]] = {
    "no id": ("", "id: it is missing"),
    "empty id": ("id=", "id: it is empty"),
    "two ids": ("id=1&id=2", "id: it is given more than once"),
    "the same id twice": ("id=1&id=1", "id: it is given more than once"),
    "two limits": ("id=1&limit=1&limit=2", "limit: it is given more than once"),
    "zero limit": ("id=1&limit=0", "limit: Input should be greater than or equal to 1"),
    "negative limit": ("id=1&limit=-1", "limit: Input should be greater than or equal to 1"),
    "large limit": ("id=1&limit=10001", "limit: Input should be less than or equal to 10000"),
    "text limit": ("id=1&limit=all", "limit: Input should be a valid integer, unable to parse string as an integer"),
    "empty limit": ("id=1&limit=", "limit: Input should be a valid integer, unable to parse string as an integer"),
    "float limit": ("id=1&limit=1.5", "limit: Input should be a valid integer, unable to parse string as an integer"),
    "digits beyond ASCII": (
        "id=1&limit=%D9%A1",
        "limit: Input should be a valid integer, unable to parse string as an integer",
    ),
    "huge limit": (
        "id=1&limit=" + "9" * 5000,
        "limit: Unable to parse input string as an integer, exceeded maximum size",
    ),
    "negative after": ("id=1&after=-1", "after: Input should be greater than or equal to 0"),
    "large after": ("id=1&after=2147483648", "after: Input should be less than or equal to 2147483647"),
    "text after": ("id=1&after=x", "after: Input should be a valid integer, unable to parse string as an integer"),
    "data perhaps": ("id=1&data=perhaps", "data: Input should be a valid boolean, unable to interpret input"),
    "empty data": ("id=1&data=", "data: Input should be a valid boolean, unable to interpret input"),
    "unknown parameter": ("id=1&feilds=country", "feilds: it is not known here"),
}
FIELDS: Final = (
    "feels_like, pressure, wind_speed, wind_deg, clouds, visibility, rain_1h, snow_1h, condition_id, description, "
    "utc_offset_s, country, latitude, longitude"
)


@pytest.fixture
def front(sqlite: Database) -> Front:
    return Front(sqlite, settings=settings_for(MAX_CITIES))


@pytest.mark.parametrize("kind", BODIES)
async def test_a_bad_body_is_refused_and_changes_nothing(front: Front, kind: str) -> None:
    body, detail = BODIES[kind]
    answer = await front.http.post("/collect", content=body, headers=JSON)
    problem = assert_problem(answer, 422, detail)
    assert problem["title"] == "Unprocessable Content"
    said = [f"{error['where']}: {error['what']}" for error in problem["errors"]]
    assert "; ".join(said[:3]) == detail
    await front.assert_nothing_happened()


@pytest.mark.parametrize("kind", TYPES)
async def test_a_body_of_another_type_is_refused_and_changes_nothing(front: Front, kind: str) -> None:
    headers, shown = TYPES[kind]
    answer = await front.http.post("/collect", content=b'{"id": 1}', headers=headers)
    assert_problem(answer, 422, f"body: its Content-Type is {shown}; send application/json")
    await front.assert_nothing_happened()


@pytest.mark.parametrize("kind", QUERIES)
async def test_a_bad_question_is_refused(front: Front, kind: str) -> None:
    query, detail = QUERIES[kind]
    assert assert_problem(await front.http.get(f"/get?{query}"), 422, detail)["errors"]


@pytest.mark.parametrize("fields", ["x", "country,x", "x,y", "Country", "x" * 500])
async def test_a_field_that_is_not_there_is_refused_with_those_that_are(front: Front, fields: str) -> None:
    name = fields.removeprefix("country,").partition(",")[0][:64]
    answer = await front.get(1, fields=fields)
    assert_problem(answer, 422, f"fields: there is no field {name}; there are: {FIELDS}")


async def test_of_many_errors_the_first_twenty_are_told(front: Front) -> None:
    body = {"id": 1} | {f"x{number}": 1 for number in range(200)}
    problem = (await front.http.post("/collect", json=body)).json()
    assert [error["where"] for error in problem["errors"]] == [f"x{number}" for number in range(20)]
    await front.assert_nothing_happened()


async def test_the_first_twenty_wrong_cities_are_named(front: Front) -> None:
    problem = (await front.http.post("/collect", json={"id": 1, "cities": [1, 2, *["London"] * 90]})).json()
    assert [error["where"] for error in problem["errors"]] == [f"cities.{index}" for index in range(2, 22)]
    assert {error["what"] for error in problem["errors"]} == {NO_CITY_ID}


async def test_a_known_field_after_many_unknown_ones_is_still_seen(front: Front) -> None:
    body = {f"x{number}": 1 for number in range(200)} | {"id": 1}
    problem = (await front.http.post("/collect", json=body)).json()
    assert "id" not in {error["where"] for error in problem["errors"]}


async def test_a_body_of_very_many_fields_is_refused_before_they_are_looked_at(sqlite: Database) -> None:
    body = {"id": 1} | {f"x{number}": 1 for number in range(MAX_FIELDS)}
    answer = await Front(sqlite).http.post("/collect", json=body)
    assert_problem(answer, 422, f"body: it has more than {MAX_FIELDS} fields")


async def test_no_kind_of_bad_body_says_what_it_is_made_of() -> None:
    for _, detail in BODIES.values():
        assert not {"pydantic", "python", "Traceback", "validation", "constrained"} & set(detail.lower().split())


def test_the_table_is_long_enough() -> None:
    assert len(BODIES) + len(TYPES) + len(QUERIES) >= 40
