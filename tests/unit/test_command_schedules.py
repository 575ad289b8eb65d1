"""`raingauge schedules` against a fake API: what it requests and prints. No network, no process."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.unit.test_command import Terminal, problem

RUN: dict[str, Any] = {
    "nominal_at": "2026-11-20T11:00:00.000Z",
    "decided_at": "2026-11-20T11:00:00.012Z",
    "collection_id": "hourly:2026-11-20T11:00Z",
    "reason": None,
}
SKIPPED = RUN | {"collection_id": None, "reason": "overlap: hourly:2026-11-20T10:00Z is still open"}
NAMED = {"name": "hourly", "description": "At the start of every hour", "cities": 167}
TIMES = {"cron": "0 * * * *", "every_s": None, "zone": "UTC", "paused_at": None, "last_run": RUN}
USUAL = {"max_age_s": 600, "missed": "latest", "overlap": "skip", "origin": "api"}
FOLLOWING = {"next_at": "2026-11-20T13:00:00.000Z", "next_at_local": "2026-11-20T13:00:00+00:00"}
SCHEDULE: dict[str, Any] = NAMED | TIMES | USUAL | FOLLOWING
COST = {"cities_per_month": 124_248, "others_per_month": 1000, "budget": 1_000_000, "share": 0.124248}
FORESEEN: dict[str, Any] = {
    **NAMED,
    **COST,
    "next": [
        {"at": "2026-11-20T13:00:00Z", "at_local": "13", "ends_at": "2026-11-20T13:02:40Z", "skipped": False},
        {"at": "2026-11-20T14:00:00Z", "at_local": "14", "ends_at": None, "skipped": True},
        {"at": "2026-11-20T15:00:00Z", "at_local": "15", "ends_at": None, "skipped": False},
    ],
}


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


@pytest.mark.parametrize(
    ("arguments", "request_", "body"),
    [
        (["show", "hourly"], "GET /schedules/hourly", None),
        (["show", "a/b"], "GET /schedules/a%2Fb", None),
        (["pause", "hourly"], "POST /schedules/hourly/pause", None),
        (["resume", "hourly"], "POST /schedules/hourly/resume", None),
        (["create", "hourly", "--cron", "0 * * * *"], "POST /schedules", {"name": "hourly", "cron": "0 * * * *"}),
        (["change", "hourly", "--every-s", "600"], "PATCH /schedules/hourly", {"every_s": 600}),
        (["change", "hourly", "--default-cities"], "PATCH /schedules/hourly", {"cities": None}),
        (
            ["change", "hourly", "--max-age-s", "0", "--missed", "skip", "--overlap", "queue", "--zone", "UTC"],
            "PATCH /schedules/hourly",
            {"max_age_s": 0, "missed": "skip", "overlap": "queue", "zone": "UTC"},
        ),
    ],
)
def test_each_command_makes_its_request_and_prints_the_schedule(
    arguments: list[str], request_: str, body: dict[str, Any] | None, terminal: Terminal
) -> None:
    status, out, _ = terminal.run("schedules", *arguments, api=SCHEDULE)
    [sent] = terminal.requests
    assert (status, f"{sent.method} {sent.url.raw_path.decode()}") == (0, request_)
    assert (json.loads(sent.content) if body is not None else None) == body
    assert "next\tin 1 h\n" in out
    assert "last run\thourly:2026-11-20T11:00Z, 1 h ago\n" in out
    status, out, _ = terminal.run("schedules", *arguments, "--json", api=SCHEDULE)
    assert (status, json.loads(out)) == (0, SCHEDULE)


def test_cities_come_from_a_file(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("1\n2\n")
    terminal.run("schedules", "create", "x", "--every-s", "60", "--cities", str(tmp_path / "ids"), api=SCHEDULE)
    assert json.loads(terminal.requests[0].content) == {"name": "x", "every_s": 60, "cities": [1, 2]}
    status, _, err = terminal.run("schedules", "change", "x", "--cities", "-", "--default-cities", api=SCHEDULE)
    assert (status, len(terminal.requests)) == (2, 1)
    assert "give either --cities or --default-cities" in err


def test_a_dry_run_prints_the_next_runs_and_the_cost(terminal: Terminal) -> None:
    arguments = ("schedules", "create", "hourly", "--cron", "0 * * * *", "--dry-run")
    status, out, err = terminal.run(*arguments, api=FORESEEN)
    assert (status, terminal.requests[0].url.query) == (0, b"dry_run=true")
    assert out.splitlines()[1:] == [
        "2026-11-20 13:00:00\t13\t2026-11-20 13:02:40",
        "2026-11-20 14:00:00\t14\tskipped: the run before is still open",
        "2026-11-20 15:00:00\t15\tunknown",
    ]
    assert "at most 124,248 a month (12.4% of 1,000,000, the other schedules 1,000)" in err
    assert json.loads(terminal.run(*arguments, "--json", api=FORESEEN)[1]) == FORESEEN


@pytest.mark.parametrize("variables", [{}, {"FORCE_COLOR": "1", "COLUMNS": "200"}], ids=["piped", "on a terminal"])
def test_lists_are_printed_with_the_way_to_the_next_page(
    variables: dict[str, str], terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    paused = SCHEDULE | {"name": "p", "paused_at": "2026-11-20T11:30:00.000Z", "next_at": None, "last_run": SKIPPED}
    page = {"data": [SCHEDULE, paused, SCHEDULE | {"last_run": None}], "next": "/schedules?limit=3&after=p"}
    status, out, err = terminal.run("schedules", "list", "--limit", "3", api=page)
    assert (status, "--after p" in err, "hourly" in out) == (0, True, True)
    runs = {"data": [RUN, SKIPPED], "next": "/schedules/hourly/runs?limit=2&after=2026-11-20T11%3A00%3A00.000Z"}
    status, out, err = terminal.run("schedules", "runs", "hourly", api=runs)
    assert (status, "is still open" in out, "--after 2026-11-20T11:00:00.000Z" in err) == (0, True, True)
    for arguments, answered in ((["list"], page), (["runs", "hourly"], runs)):
        assert json.loads(terminal.run("schedules", *arguments, "--json", api=answered)[1]) == answered
        nothing: dict[str, Any] = {"data": [], "next": None}
        status, out, err = terminal.run("schedules", *arguments, api=nothing)
        assert (status, out, err != "") == (0, "", True)


def test_a_paused_schedule_says_since_when(terminal: Terminal) -> None:
    paused = SCHEDULE | {"paused_at": "2026-11-20T11:30:00.000Z", "next_at": None, "missed": "skip", "last_run": None}
    _, out, _ = terminal.run("schedules", "show", "hourly", api=paused)
    assert "next\tpaused since 2026-11-20 11:30:00\n" in out
    assert "missed runs\tare skipped\n" in out


def test_a_schedule_is_deleted(terminal: Terminal) -> None:
    status, _, err = terminal.run("schedules", "delete", "hourly", api=lambda _: httpx2.Response(204))
    assert (status, terminal.requests[0].method, "its collections stay" in err) == (0, "DELETE", True)
    refused = problem(409, "it comes from the settings")
    status, _, err = terminal.run("schedules", "delete", "hourly", api=lambda _: refused)
    assert (status, "it comes from the settings" in err) == (4, True)
