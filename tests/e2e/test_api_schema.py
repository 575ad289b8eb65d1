"""The HTTP front against its own OpenAPI: whatever is sent, every answer is one that the description promises.

schemathesis sends the description's examples, its boundary values, valid and invalid requests at random (of a fixed
seed), and sequences that follow its links; and checks statuses, bodies, headers and methods.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import StopReason, events, from_schema
from schemathesis.hooks import HookContext
from schemathesis.schemas import BaseSchema

from producer.access.admission import admission
from raingauge.access import stored
from raingauge.access.tokens import digest, new_token
from raingauge.database import Database
from raingauge.settings import Settings
from tests.api_support import NOON, Front, api, observation
from tests.support.cities import build_small_file

CONFIG: Final = {
    "seed": 1,
    "generation": {"max-examples": 30, "deterministic": True},
    # That a route is closed is tested for each of them by itself; here it would triple the requests.
    "checks": {"ignored_auth": {"enabled": False}},
}
UNSAYABLE: Final = {
    "GET /cities",
    "GET /collections",
    "GET /quota/proof",
    "GET /readings",
    "GET /readings/latest",
    "GET /readings/summary",
    "PATCH /schedules/{name}",
    "POST /compat/collection-request/collection-request",
    "POST /schedules",
}
"""No schema can say that `from` comes before `to`, that a country or a time zone exists, that one of two parameters is
needed, what a cron expression is, or whether an id is used."""

ALSO_AN_ID: Final = {"GET /collections/stream"}
"""A collection may be called `stream`, too: `DELETE /collections/{id}` takes it."""


@pytest.fixture
async def described(sqlite: Database, tmp_path: Path) -> BaseSchema:
    """The front's description and a token, with a collection of every kind and a file of cities behind it."""
    file = build_small_file(tmp_path)
    settings = Settings.model_validate({"cities": {"file": str(file)}, "http": {"allowed_hosts": ["*"]}})
    front = Front(sqlite, settings=settings)
    front.beat()
    front.open_gate()
    for id, cities in (("1", [1, 2, 3]), ("0", [1, 2]), ("done", [1])):  # noqa: A001
        await front.collect(id, cities=cities)
        front.settle(id, [observation(1), observation(2, name=None, humidity=None)], {3: "unknown city"})
    token = new_token()
    front.database.write(lambda c: stored.add(c, NOON, "schemathesis", digest(token), "admin", None))
    headers = {"Authorization": f"Bearer {token}"}
    admitted = admission(front.collections.transactions, front.settings, {})
    served = api(front.settings, front.collections, front.relay, admitted)
    served.state.parts.live.close()  # so that the stream of collections ends at once
    config = SchemathesisConfig.from_dict(CONFIG | {"headers": headers})
    schema = schemathesis.openapi.from_asgi("/openapi.json", served, config=config, headers=headers)
    schema.hook("map_body")(whole_numbers)
    return schema


def whole_numbers(_context: HookContext, body: Any) -> Any:
    """JSON Schema takes 1.0 for an integer, this API does not: its ids are exact."""
    if isinstance(body, dict):
        return {name: whole_numbers(_context, value) for name, value in body.items()}
    if isinstance(body, list):
        return [whole_numbers(_context, value) for value in body]
    return int(body) if isinstance(body, float) and body.is_integer() else body


def broken_promises(scenario: events.ScenarioFinished) -> Iterator[str]:
    for case_id, checks in scenario.recorder.checks.items():
        label = scenario.recorder.cases[case_id].value.operation.label
        excused = {
            "positive_data_acceptance" if label in UNSAYABLE else "",
            "allow_header_conformance" if label in ALSO_AN_ID else "",
        }
        for check in checks:
            if check.failure_info is not None and check.name not in excused:
                failure = check.failure_info.failure
                if check.name == "ensure_resource_availability" and "dry_run=true" in check.failure_info.code_sample:
                    continue  # a dry run creates nothing
                yield f"{check.name}: {failure.title}: {failure.message}\n{check.failure_info.code_sample}"


@pytest.mark.long
def test_every_answer_is_one_that_the_description_promises(described: BaseSchema) -> None:
    requests: Counter[str] = Counter()
    statuses: set[int] = set()
    broken: list[str] = []
    for event in from_schema(described).execute():
        match event:
            case events.ScenarioFinished():
                requests[event.phase.value] += len(event.recorder.interactions)
                answers = [each.response for each in event.recorder.interactions.values()]
                statuses |= {answer.status_code for answer in answers if answer is not None}
                broken += broken_promises(event)
            case events.NonFatalError():
                broken.append(f"{event.label}: {event.value!r}")
            case events.FatalError():
                raise event.exception
            case events.EngineFinished():
                assert event.stop_reason is StopReason.COMPLETED
    assert not broken, "\n\n".join(broken)
    assert {200, 202, 204, 401, 404, 405, 409, 422} <= statuses
    assert not [status for status in statuses if status >= 500]
    assert min(requests[phase] for phase in ("examples", "coverage", "fuzzing", "stateful")) > 4, requests
    assert sum(requests.values()) > 200, requests
