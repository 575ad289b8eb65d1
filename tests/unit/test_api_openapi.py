"""The description of the API is complete, and the page that shows it needs nothing from elsewhere."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from producer.api.schemas import AcceptedBody, EstimateBody
from producer.pages import ROW
from tests.api_support import Front
from tests.support.databases import sqlite_copy

REQUESTS: Final = "/compat/collection-request/collection-request"
EVENTS: Final = "/compat/events/events"
ANSWERS: Final = {
    "200": "get /health, get /metrics",
    "200 503": "get /ready",
    "200 422 500": "get /collections/stream, get /ping, get /compat/events/ping, get /session",
    "200 422 500 503": f"get /cities, get /compat/total, get /events, get {EVENTS}, get /schedules",
    "200 304 422 500 503": "get /collections, get /readings",
    "200 304 404 422 500 503": "get /get",
    "200 404 422 500 503": "get /quota, get /quota/held, get /quota/proof, "
    "get /readings/latest, get /readings/summary, get /schedules/{name}, get /schedules/{name}/runs, "
    f"get /events/{{event_id}}, get /events/{{event_id}}/deliveries, get {EVENTS}/{{event_id}}, "
    f"get /compat/weather/weather/{{user_id}}, get {REQUESTS}/{{id}}, get {REQUESTS}/{{id}}/progress",
    "200 404 410 422 500 501 503": "get /collections/{id}/export",
    "200 403 404 422 500 503": "post /collections/{id}/cancel, "
    "post /schedules/{name}/pause, post /schedules/{name}/resume",
    "200 202 403 409 413 422 500 503": "post /collect",
    "200 201 403 409 413 422 500 503": "post /schedules",
    "200 403 409 413 422 500 503": "post /compat/weather/weather",
    "201 400 403 413 422 500 503": f"post {REQUESTS}",
    "201 403 413 422 500 503": f"post /events, post {EVENTS}",
    "204 401 403 413 422 500 503": "post /session",
    "200 403 404 413 422 500 503": f"put /events/{{event_id}}, put {EVENTS}/{{event_id}}",
    "200 403 404 409 413 422 500 503": "patch /schedules/{name}",
    "204 403 404 409 422 500 503": "delete /collections/{id}, delete /schedules/{name}",
    "204 403 422 500": "delete /session",
}
"""Every status that the code can answer to a method that it takes, besides those of access."""
OF_ACCESS: Final = {"401", "403", "429", "503"}
"""What an operation that needs a token can answer, too."""


Description = dict[str, Any]


@pytest.fixture(scope="module")
def description(template: Path) -> Description:
    """The same each time that it is asked for: it does not grow."""

    async def asked_twice(front: Front) -> list[httpx2.Response]:
        return [await front.http.get("/openapi.json") for _ in range(2)]

    with sqlite_copy(template) as database:
        first, again = asyncio.run(asked_twice(Front(database)))
    assert (first.status_code, first.json()) == (200, again.json())
    described: Description = first.json()
    return described


def operations(description: Description) -> Iterator[tuple[str, Description]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def properties(description: Description) -> Iterator[tuple[str, Description]]:
    """Every field of every body."""
    shapes = dict(description["components"]["schemas"])
    for name, shape in shapes.items():
        for field, schema in shape["properties"].items():
            # A sentence that a shape says of itself already is not repeated where it is used.
            referred = shapes[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else {}
            yield f"{name}.{field}", {"description": referred.get("description")} | schema


def references(node: Any) -> Iterator[str]:
    """Every `$ref` below."""
    if isinstance(node, dict):
        yield from [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            yield from references(each)


def test_every_status_that_can_be_answered_is_described_and_no_other(description: Description) -> None:
    expected = {name: set(each.split()) for each, names in ANSWERS.items() for name in names.split(", ")}
    closed = {name for name, operation in operations(description) if operation["security"]}
    found = {name: set(operation["responses"]) for name, operation in operations(description)}
    assert found == {name: each | (OF_ACCESS if name in closed else set()) for name, each in expected.items()}


def test_everything_has_its_sentence_and_what_can_be_given_an_example(description: Description) -> None:
    for name, operation in operations(description):
        assert operation["summary"], name
        assert operation["description"].endswith("."), name
        for parameter in operation.get("parameters", []):
            assert parameter["description"].endswith("."), (name, parameter["name"])
            assert parameter["schema"]["examples"], (name, parameter["name"])
        for status, response in operation["responses"].items():
            assert response["description"] not in {"", "Successful Response"}, (name, status)
    fields = dict(properties(description))
    assert len(fields) > 40
    for name, schema in fields.items():
        assert schema["description"].endswith("."), name
        assert schema.get("examples"), name


def test_every_problem_is_described_as_one_with_an_example(description: Description) -> None:
    for name, operation in operations(description):
        for status, response in operation["responses"].items():
            if int(status) < 400 or name == "get /ready":
                continue
            (media,) = response["content"].items()
            assert media[0] == "application/problem+json"
            assert media[1]["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert media[1]["example"]["status"] == int(status)


def test_whatever_is_referred_to_is_there(description: Description) -> None:
    named = set(references(description))
    assert "#/components/schemas/Problem" in named
    assert named <= {f"#/components/schemas/{name}" for name in description["components"]["schemas"]}


def test_null_is_offered_for_nothing_that_is_refused_as_null(description: Description) -> None:
    fields = dict(properties(description))
    for name in ("cities", "max_age_s"):
        assert fields[f"CollectBody.{name}"]["type"] in {"array", "integer"}
        assert "default" not in fields[f"CollectBody.{name}"]


async def test_the_examples_of_the_request_are_accepted(front: Front, description: Description) -> None:
    content = description["paths"]["/collect"]["post"]["requestBody"]["content"]["application/json"]
    for example in content["examples"].values():
        assert (await front.http.post("/collect", json=example["value"])).status_code == 202


def test_every_field_that_can_be_asked_for_is_described(description: Description) -> None:
    (parameter,) = [p for p in description["paths"]["/get"]["get"]["parameters"] if p["name"] == "fields"]
    for name in set(parameter["schema"]["items"]["enum"]) - {"city_id", "datetime", *ROW}:
        assert f"`fields={name}`" in description["components"]["schemas"]["Datum"]["properties"][name]["description"]


async def test_the_documentation_loads_nothing_from_elsewhere_and_nothing_twice(front: Front) -> None:
    page = await front.http.get("/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    loaded = re.findall(r"(?:src|href)=\"([^\"]*)\"", page.text)
    assert len(loaded) == 3
    for path in loaded:
        assert path.startswith("/docs/assets/")
        asset = await front.http.get(path)
        assert (asset.status_code, len(asset.content) > 100) == (200, True)
        again = await front.http.get(path, headers={"If-None-Match": asset.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert "://" not in page.text
    assert '"validatorUrl": null' in page.text


def test_the_page_has_an_id_to_try_and_an_example_of_a_dry_run(description: Description) -> None:
    paths = description["paths"]
    (parameter,) = [p for p in paths["/get"]["get"]["parameters"] if p["name"] == "id"]
    assert parameter["schema"]["example"] == "1"
    examples = paths["/collect"]["post"]["responses"]["200"]["content"]["application/json"]["examples"]
    EstimateBody.model_validate(examples["dry run"]["value"], strict=True)
    AcceptedBody.model_validate(examples["accepted before"]["value"], strict=True)
