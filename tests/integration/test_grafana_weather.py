"""The dashboard for Grafana's Infinity datasource requests what the API answers. Grafana itself is not started."""

import json
from functools import reduce
from typing import Any, Final

from raingauge.database import Database
from tests.api_support import Front, observation
from tests.support.processes import ROOT

DASHBOARD: Final = json.loads((ROOT / "deploy/grafana/weather.json").read_text("utf-8"))
TARGETS: Final = [target for panel in DASHBOARD["panels"] for target in panel["targets"]]
FILLED_IN: Final = (
    ("${collection}", "1"),
    ("${city}", "1"),
    ("${__from:date:iso}", "2026-11-20T06:00:00.123Z"),
    ("${__to:date:iso}", "2026-11-20T12:30:00.456Z"),
)
"""What Grafana writes in the place of its variables: https://grafana.com/docs/grafana/latest/dashboards/variables/."""


def selected(value: Any, selector: str) -> Any:
    """The value at a path of names with dots between; a name that is missing is an error."""
    return reduce(lambda inner, name: inner[name], filter(None, selector.split(".")), value)


async def test_every_request_of_the_dashboard_is_answered_with_the_columns_that_it_shows(sqlite: Database) -> None:
    front = Front(sqlite)
    front.open_gate()
    await front.collect(1, cities=[1])
    front.settle("1", [observation(1)])
    variables = [variable["name"] for variable in DASHBOARD["templating"]["list"]]
    assert variables == ["datasource", "collection", "city"]
    assert TARGETS
    for target in TARGETS:
        answer = await front.http.get(reduce(lambda url, pair: url.replace(*pair), FILLED_IN, target["url"]))
        assert answer.status_code == 200, target["url"]
        found = selected(answer.json(), target["root_selector"])
        (row,) = found if isinstance(found, list) else [found]
        for column in target["columns"]:
            value = selected(row, column["selector"])
            assert value is None or isinstance(value, int | float) == (column["type"] == "number"), column
