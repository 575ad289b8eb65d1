"""Bad input gets a clear error and changes nothing (promise 7): a table of all kinds, each with its sentence."""

import json
from typing import Final

import pytest

from producer.api.collections.acceptance import NO_CITY_ID
from producer.api.requests import MAX_FIELDS
from raingauge.database import Database
from tests.api_support import JSON, Front, assert_problem, settings_for

MAX_CITIES: Final = 100
ID: Final = "id: an id is an integer, or 1 to 64 characters of A-Z a-z 0-9 . _ -, and neither . nor .."
LEAST: Final = "Input should be greater than or equal to"
MOST: Final = "Input should be less than or equal to"
INTEGER: Final = "Input should be a valid integer, unable to parse string as an integer"
BOOLEAN: Final = "Input should be a valid boolean, unable to interpret input"
TWICE: Final = "it is given more than once"
FIELDS: Final = (
    "feels_like, pressure, wind_speed, wind_deg, clouds, visibility, rain_1h, snow_1h, condition_id, description, "
    "utc_offset_s, country, latitude, longitude"
)


def no_json(what: str) -> str:
    return f"body: it is not JSON: {what}"


BODIES: Final[dict[str, list[str | bytes]]] = {
    "body: it is empty; a JSON object is expected": [""],
    no_json("Expecting value: line 1 column 2 (char 1)"): [" "],
    no_json("Expecting ',' delimiter: line 1 column 9 (char 8)"): ['{"id": 1', '{"id": 007}'],
    no_json("Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"): ["{'id': 1}"],
    no_json("Extra data: line 1 column 11 (char 10)"): ['{"id": 1} {"id": 2}'],
    no_json("Invalid control character at: line 1 column 10 (char 9)"): ['{"id": "1\n"}'],
    no_json("NaN is not a JSON value"): ['{"id": NaN}'],
    no_json("-Infinity is not a JSON value"): ['{"id": 1, "max_age_s": -Infinity}'],
    "body: a JSON object is expected": ["null", '[{"id": 1}]', '"1"', "1", "true"],
    "body: it is not UTF-8": [b'{"id": "\xff"}', '{"id": 1}'.encode("utf-16")],
    "body: it has a number of too many digits": [f'{{"id": {"1" * 5000}}}', f'{{"id": 1, "cities": [{"9" * 5000}]}}'],
    "body: it has text that is not Unicode": ['{"id": 1, "\\ud800": 1}'],
    f"\\ud800: {TWICE}": ['{"id": 1, "\\ud800": 1, "\\ud800": 1}'],
    f"id: {TWICE}": ['{"id": 1, "id": 2}'],
    f"a: {TWICE}": ['{"id": 1, "x": {"a": 1, "a": 1}}'],
    "id: it is missing": ["{}", '{"cities": [1]}'],
    "id: it is missing; ID: it is not known here": ['{"ID": 1}'],
    "citys: it is not known here": ['{"id": 1, "citys": [1]}'],
    f"{'x' * 64}: it is not known here": [json.dumps({"id": 1, "x" * 500: 1})],
    ID: [
        *(f'{{"id": {value}}}' for value in ("null", "true", "false", "1.0", "1e3", "1e999", "[1]", '{"id": 1}')),
        *(f'{{"id": {digits}}}' for digits in ("1" * 65, "-" + "1" * 64)),
        *(
            json.dumps({"id": text})
            for text in ("", ".", "..", "a" * 65, "a b", " 1", "1\n", "1\0", "../1", "1'--", "sweep:1")
        ),
        *(json.dumps({"id": text}) for text in ("mañana", "\u0661\u0662", "\uff11", "\ud800")),
    ],
    "cities: Input should be a valid list": [
        f'{{"id": 1, "cities": {value}}}' for value in ("null", '"1,2"', "1", '{"1": 2}')
    ],
    "cities: at least one is needed": ['{"id": 1, "cities": []}'],
    f"cities.0: {NO_CITY_ID}": [
        f'{{"id": 1, "cities": [{value}]}}' for value in ('"London"', "1.0", "true", "null", "[1]")
    ],
    f"cities.0: {LEAST} 1": ['{"id": 1, "cities": [0]}'],
    f"cities.1: {LEAST} 1": ['{"id": 1, "cities": [1, -1]}'],
    f"cities.0: {MOST} 2147483647": [f'{{"id": 1, "cities": [{city}]}}' for city in (2**31, 10**30)],
    "; ".join(f"cities.{index}: {LEAST} 1" for index in (1, 2, 3)): [json.dumps({"id": 1, "cities": [1, *[0] * 900]})],
    "cities: a collection has at most 100 distinct cities, not 101": [
        json.dumps({"id": 1, "cities": list(range(1, MAX_CITIES + 2))})
    ],
    f"max_age_s: {LEAST} 0": ['{"id": 1, "max_age_s": -1}'],
    f"max_age_s: {MOST} 86400": ['{"id": 1, "max_age_s": 86401}'],
    "max_age_s: Input should be a valid integer": [
        f'{{"id": 1, "max_age_s": {value}}}' for value in ("1.5", "600.0", '"600"', "true", "null")
    ],
    f"{ID}; cities: at least one is needed; max_age_s: {LEAST} 0": [
        '{"id": "", "cities": [], "max_age_s": -1, "x": 1}'
    ],
}
TYPES: Final = {
    None: "missing",
    "": "missing",
    "application/x-www-form-urlencoded": "application/x-www-form-urlencoded",
    "text/plain; charset=utf-8": "text/plain",
    "application/ld+json": "application/ld+json",
    "x/" + "y" * 500: "x/" + "y" * 62,
}
QUERIES: Final = {
    "": "id: it is missing",
    "id=": "id: it is empty",
    "id=1&id=1": f"id: {TWICE}",
    "id=1&limit=1&limit=2": f"limit: {TWICE}",
    "id=1&limit=0": f"limit: {LEAST} 1",
    "id=1&limit=10001": f"limit: {MOST} 10000",
    **{f"id=1&limit={value}": f"limit: {INTEGER}" for value in ("all", "", "1.5", "%D9%A1")},
    "id=1&limit=" + "9" * 5000: "limit: Unable to parse input string as an integer, exceeded maximum size",
    "id=1&after=-1": f"after: {LEAST} 0",
    "id=1&after=2147483648": f"after: {MOST} 2147483647",
    "id=1&after=x": f"after: {INTEGER}",
    "id=1&data=perhaps": f"data: {BOOLEAN}",
    "id=1&data=": f"data: {BOOLEAN}",
    "id=1&feilds=country": "feilds: it is not known here",
    "feilds=x&limit=0&limit=0": f"feilds: it is not known here; limit: {TWICE}; id: it is missing",
    **{f"id=1&fields={names}": f"fields: there is no field x; there are: {FIELDS}" for names in ("x", "country,x,y")},
    "id=1&fields=Country": f"fields: there is no field Country; there are: {FIELDS}",
    f"id=1&fields={'x' * 500}": f"fields: there is no field {'x' * 64}; there are: {FIELDS}",
}


@pytest.fixture
def front(sqlite: Database) -> Front:
    return Front(sqlite, settings=settings_for(MAX_CITIES))


async def test_a_bad_body_is_refused_and_changes_nothing(front: Front) -> None:
    for detail in BODIES:
        for body in BODIES[detail]:
            problem = assert_problem(await front.http.post("/collect", content=body, headers=JSON), 422, detail)
            assert problem["title"] == "Unprocessable Content"
            assert "; ".join(f"{error['where']}: {error['what']}" for error in problem["errors"][:3]) == detail
    await front.assert_nothing_happened()


async def test_a_body_of_another_type_is_refused_and_changes_nothing(front: Front) -> None:
    for kind, shown in TYPES.items():
        headers = {} if kind is None else {"Content-Type": kind}
        answer = await front.http.post("/collect", content=b'{"id": 1}', headers=headers)
        assert_problem(answer, 422, f"body: its Content-Type is {shown}; send application/json")
    await front.assert_nothing_happened()


async def test_a_bad_query_is_refused(front: Front) -> None:
    for query in QUERIES:
        assert assert_problem(await front.http.get(f"/get?{query}"), 422, QUERIES[query])["errors"]


async def test_of_many_errors_the_first_twenty_are_told(front: Front) -> None:
    unknown = {f"x{number}": 1 for number in range(200)}
    problem = (await front.http.post("/collect", json=unknown | {"id": 1})).json()
    assert [error["where"] for error in problem["errors"]] == [f"x{number}" for number in range(20)]
    problem = (await front.http.post("/collect", json={"id": 1, "cities": [1, 2, *["London"] * 90]})).json()
    assert [error["where"] for error in problem["errors"]] == [f"cities.{index}" for index in range(2, 22)]
    assert {error["what"] for error in problem["errors"]} == {NO_CITY_ID}
    await front.assert_nothing_happened()


async def test_a_body_of_very_many_fields_is_refused_before_they_are_looked_at(sqlite: Database) -> None:
    body = {"id": 1} | {f"x{number}": 1 for number in range(MAX_FIELDS)}
    answer = await Front(sqlite).http.post("/collect", json=body)
    assert_problem(answer, 422, f"body: it has more than {MAX_FIELDS} fields")


async def test_a_body_that_is_nested_deeply_is_refused_however_deep_this_python_reads(front: Front) -> None:
    answer = await front.http.post("/collect", content="[" * 2000 + "]" * 2000, headers=JSON)
    assert answer.status_code == 422
    assert answer.json()["detail"] in {"body: it is nested too deeply", "body: a JSON object is expected"}
