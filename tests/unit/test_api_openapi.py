"""The description of the API is complete, and the page that shows it needs nothing from elsewhere."""

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest

from producer.api.schemas import AcceptedBody, EstimateBody
from producer.pages import ROW
from raingauge.database import Database
from tests.api_support import Front

REQUESTS: Final = "/compat/collection-request/collection-request"
ANSWERS: Final = {
    ("post", "/collect"): {"200", "202", "403", "409", "413", "422", "500", "503"},
    ("get", "/collections/{id}/export"): {"200", "404", "410", "422", "500", "501", "503"},
    ("post", "/collections/{id}/cancel"): {"200", "403", "404", "422", "500", "503"},
    ("get", "/get"): {"200", "304", "404", "422", "500", "503"},
    ("get", "/collections"): {"200", "304", "422", "500", "503"},
    ("get", "/quota"): {"200", "404", "422", "500", "503"},
    ("get", "/collections/stream"): {"200", "422", "500"},
    ("get", "/quota/held"): {"200", "404", "422", "500", "503"},
    ("get", "/quota/proof"): {"200", "404", "422", "500", "503"},
    ("get", "/cities"): {"200", "422", "500", "503"},
    ("get", "/readings/latest"): {"200", "404", "422", "500", "503"},
    ("get", "/readings/summary"): {"200", "404", "422", "500", "503"},
    ("get", "/compat/total"): {"200", "422", "500", "503"},
    ("post", "/compat/weather/weather"): {"200", "403", "409", "413", "422", "500", "503"},
    ("get", "/compat/weather/weather/{user_id}"): {"200", "404", "422", "500", "503"},
    ("post", REQUESTS): {"201", "400", "403", "413", "422", "500", "503"},
    ("get", f"{REQUESTS}/{{id}}"): {"200", "404", "422", "500", "503"},
    ("get", f"{REQUESTS}/{{id}}/progress"): {"200", "404", "422", "500", "503"},
    ("get", "/events"): {"200", "422", "500", "503"},
    ("post", "/events"): {"201", "403", "413", "422", "500", "503"},
    ("get", "/events/{event_id}"): {"200", "404", "422", "500", "503"},
    ("put", "/events/{event_id}"): {"200", "403", "404", "413", "422", "500", "503"},
    ("get", "/events/{event_id}/deliveries"): {"200", "404", "422", "500", "503"},
    ("get", "/ping"): {"200", "422", "500"},
    ("get", "/compat/events/events"): {"200", "422", "500", "503"},
    ("post", "/compat/events/events"): {"201", "403", "413", "422", "500", "503"},
    ("get", "/compat/events/events/{event_id}"): {"200", "404", "422", "500", "503"},
    ("put", "/compat/events/events/{event_id}"): {"200", "403", "404", "413", "422", "500", "503"},
    ("get", "/compat/events/ping"): {"200", "422", "500"},
    ("delete", "/collections/{id}"): {"204", "403", "404", "409", "422", "500", "503"},
    ("get", "/readings"): {"200", "304", "422", "500", "503"},
    ("get", "/schedules"): {"200", "422", "500", "503"},
    ("post", "/schedules"): {"200", "201", "403", "409", "413", "422", "500", "503"},
    ("get", "/schedules/{name}"): {"200", "404", "422", "500", "503"},
    ("patch", "/schedules/{name}"): {"200", "403", "404", "409", "413", "422", "500", "503"},
    ("delete", "/schedules/{name}"): {"204", "403", "404", "409", "422", "500", "503"},
    ("get", "/schedules/{name}/runs"): {"200", "404", "422", "500", "503"},
    ("post", "/schedules/{name}/pause"): {"200", "403", "404", "422", "500", "503"},
    ("post", "/schedules/{name}/resume"): {"200", "403", "404", "422", "500", "503"},
    ("get", "/health"): {"200"},
    ("get", "/ready"): {"200", "503"},
    ("get", "/metrics"): {"200"},
    ("get", "/session"): {"200", "422", "500"},
    ("post", "/session"): {"204", "401", "403", "413", "422", "500", "503"},
    ("delete", "/session"): {"204", "403", "422", "500"},
}
"""Every status that the code can answer to a method that it takes, besides those of access."""
OF_ACCESS: Final = {"401", "403", "429", "503"}
"""What an operation that needs a token can answer, too."""


@pytest.fixture
def front(sqlite: Database) -> Front:
    return Front(sqlite)


async def described(front: Front) -> dict[str, Any]:
    answer = await front.http.get("/openapi.json")
    assert answer.status_code == 200
    description: dict[str, Any] = answer.json()
    return description


def operations(description: dict[str, Any]) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield (method, path), operation


def properties(description: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
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


async def test_every_status_that_can_be_answered_is_described_and_no_other(front: Front) -> None:
    found = {key: set(operation["responses"]) for key, operation in operations(await described(front))}
    closed = {key for key, operation in operations(await described(front)) if operation["security"]}
    assert found == {key: each | (OF_ACCESS if key in closed else set()) for key, each in ANSWERS.items()}


async def test_every_path_parameter_and_response_has_its_sentence(front: Front) -> None:
    for key, operation in operations(await described(front)):
        assert operation["summary"], key
        assert operation["description"].endswith("."), key
        for parameter in operation.get("parameters", []):
            assert parameter["description"].endswith("."), (key, parameter["name"])
            assert parameter["schema"]["examples"], (key, parameter["name"])
        for status, response in operation["responses"].items():
            assert response["description"], (key, status)
            assert response["description"] != "Successful Response", (key, status)


async def test_every_field_has_a_sentence_and_an_example(front: Front) -> None:
    fields = dict(properties(await described(front)))
    assert len(fields) > 40
    for name, schema in fields.items():
        assert schema["description"].endswith("."), name
        assert schema.get("examples"), name


async def test_every_problem_is_described_as_one_with_an_example(front: Front) -> None:
    for key, operation in operations(await described(front)):
        for status, response in operation["responses"].items():
            if int(status) < 400 or key == ("get", "/ready"):
                continue
            (media,) = response["content"].items()
            assert media[0] == "application/problem+json"
            assert media[1]["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert media[1]["example"]["status"] == int(status)


async def test_whatever_is_referred_to_is_there(front: Front) -> None:
    description = await described(front)
    named = set(references(description))
    there = {f"#/components/schemas/{name}" for name in description["components"]["schemas"]}
    assert "#/components/schemas/Problem" in named
    assert named <= there


async def test_the_description_does_not_grow_when_it_is_asked_for_again(front: Front) -> None:
    assert await described(front) == await described(front)


async def test_null_is_offered_for_nothing_that_is_refused_as_null(front: Front) -> None:
    fields = dict(properties(await described(front)))
    for name in ("cities", "max_age_s"):
        assert fields[f"CollectBody.{name}"]["type"] in {"array", "integer"}
        assert "default" not in fields[f"CollectBody.{name}"]


async def test_the_examples_of_the_request_are_accepted(front: Front) -> None:
    content = (await described(front))["paths"]["/collect"]["post"]["requestBody"]["content"]["application/json"]
    for example in content["examples"].values():
        assert (await front.http.post("/collect", json=example["value"])).status_code == 202


async def test_every_field_that_can_be_asked_for_is_described(front: Front) -> None:
    description = await described(front)
    (parameter,) = [p for p in description["paths"]["/get"]["get"]["parameters"] if p["name"] == "fields"]
    for name in set(parameter["schema"]["items"]["enum"]) - {"city_id", "datetime", *ROW}:
        assert f"`fields={name}`" in description["components"]["schemas"]["Datum"]["properties"][name]["description"]


async def test_the_documentation_loads_nothing_from_elsewhere(front: Front) -> None:
    page = await front.http.get("/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    loaded = re.findall(r"(?:src|href)=\"([^\"]*)\"", page.text)
    assert len(loaded) == 3
    for path in loaded:
        assert path.startswith("/docs/assets/")
        asset = await front.http.get(path)
        assert (asset.status_code, len(asset.content) > 100) == (200, True)
    assert "://" not in page.text
    assert '"validatorUrl": null' in page.text


async def test_the_documentation_is_not_sent_again_to_who_has_it(front: Front) -> None:
    first = await front.http.get("/docs/assets/swagger-ui-bundle.js")
    again = await front.http.get(first.request.url, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_the_page_has_an_id_to_try_and_an_example_of_a_dry_run(front: Front) -> None:
    paths = (await described(front))["paths"]
    (parameter,) = [p for p in paths["/get"]["get"]["parameters"] if p["name"] == "id"]
    assert parameter["schema"]["example"] == "1"
    examples = paths["/collect"]["post"]["responses"]["200"]["content"]["application/json"]["examples"]
    EstimateBody.model_validate(examples["dry run"]["value"], strict=True)
    AcceptedBody.model_validate(examples["accepted before"]["value"], strict=True)
