"""The dashboard and the alerts use what the services export, and each alert fires when it should and not before."""

import json
import re
import shutil
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.databases import need
from tests.support.metrics import exported
from tests.support.processes import ROOT, run_to_end

MONITORING: Final = ROOT / "deploy/monitoring"
DASHBOARD: Final = json.loads((MONITORING / "dashboard.json").read_text())
ALERTS: Final[list[dict[str, Any]]] = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
TESTS: Final[list[dict[str, Any]]] = yaml.safe_load((MONITORING / "alerts_test.yml").read_text())["tests"]
QUERIES: Final = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
METRICS: Final = exported("producer") | exported("consumer")
SAMPLES: Final = frozenset[str]().union(*METRICS.values())


@pytest.fixture
def promtool() -> str:
    need(path := shutil.which("promtool"), "promtool is missing: install Debian's package prometheus")
    return str(path)


def run(*command: str | Path) -> str:
    done = run_to_end(command, cwd=MONITORING)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_dashboard_and_alerts_use_only_metrics_that_are_exported() -> None:
    for query in [*QUERIES, *(alert["expr"] for alert in ALERTS)]:
        own = set(re.findall(r"\b(raingauge_\w+)", query))
        assert own <= SAMPLES, query
        assert own or re.search(r"\bprocess_(cpu_seconds_total|resident_memory_bytes|open_fds)\b", query), query


def test_every_metric_of_the_services_is_on_the_dashboard() -> None:
    queries = "\n".join(QUERIES)
    missing = [name for name, samples in METRICS.items() if not re.search(rf"\b({'|'.join(samples)})\b", queries)]
    assert missing == []


def test_every_alert_is_tested_firing_and_silent_and_is_explained_in_the_manual() -> None:
    cases = {(case["alertname"], bool(case["exp_alerts"])) for test in TESTS for case in test["alert_rule_test"]}
    names = [alert["alert"] for alert in ALERTS]
    assert cases == {(name, fires) for name in names for fires in (True, False)}
    manual = (ROOT / "docs/operations.md").read_text()
    assert re.findall(r"^- \*\*`(Raingauge\w+)`\*\*", manual, re.MULTILINE) == names


@pytest.mark.long
def test_the_alerts_fire_when_they_should(promtool: str) -> None:
    assert "SUCCESS" in run(promtool, "test", "rules", "alerts_test.yml")


@pytest.mark.long
def test_the_dashboard_s_queries_are_valid(promtool: str, tmp_path: Path) -> None:
    queries = [query.replace("$__rate_interval", "5m") for query in QUERIES]
    rules = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(QUERIES)} rules found" in run(promtool, "check", "rules", file)
