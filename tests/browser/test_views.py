"""A city's history, schedules and signing in, in a real browser, against the running system."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import expect

from raingauge.access.tokens import new_token
from tests.browser.conftest import Watched, assert_accessible, watched_system
from tests.support.eventually import eventually
from tests.support.processes import Program

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("browser")]
MONTEVIDEO = 3441575
ONE_LINE = 40
"""Pixels; two lines of a name are higher."""


def observe(system: Program, name: str) -> None:
    """Collect a city anew."""
    assert system.collect(id=name, cities=[MONTEVIDEO], max_age_s=0).status_code == 202
    eventually(lambda: system.get("/get", id=name, data="false")["status"] == "done", 30)


def test_a_citys_history_is_a_course_a_table_and_a_file(pages: Watched, system: Program) -> None:
    for number in range(3):
        observe(system, f"again{number}")
    page = pages.open(f"{system.url}/#/collections/again0")
    page.get_by_role("link", name="Montevideo").click()
    expect(page.get_by_role("heading", name="Montevideo")).to_be_visible()
    expect(page.locator(".chart.course canvas")).to_be_visible()
    page.get_by_text("Show as a table").click()
    expect(page.locator("details tbody tr")).to_have_count(3)
    page.get_by_label("Measure").select_option("Humidity")
    expect(page.get_by_role("columnheader", name="Humidity")).to_be_visible()
    expect(page.locator("details tbody tr").first).to_contain_text("%")
    page.get_by_role("button", name="30 days").click()
    expect(page.locator(".chart.course canvas")).to_be_visible()
    address = page.get_by_role("link", name="CSV").get_attribute("href")
    rows = requests.get(f"{system.url}{address}", timeout=10).text.splitlines()
    assert len(rows) == 4
    assert "temperature_c" in rows[0]


def test_of_a_city_that_was_never_collected_nothing_is_known(pages: Watched, system: Program) -> None:
    page = pages.open(f"{system.url}/#/cities/99")
    expect(page.get_by_role("heading", name="Nothing is known of city 99 yet.")).to_be_visible()


def test_a_schedule_is_created_paused_resumed_and_deleted_on_the_page(pages: Watched, system: Program) -> None:
    pages.tolerated = ("422",)
    page = pages.open(f"{system.url}/")
    page.get_by_role("link", name="Schedules", exact=True).click()
    page.get_by_label("Name").fill("mornings")
    page.get_by_text("Cron", exact=True).click()
    page.get_by_label("Minute, hour").fill("61 * * * *")
    expect(page.locator(".estimate.bad")).to_be_visible()
    expect(page.get_by_role("button", name="Create")).to_be_disabled()
    page.get_by_label("Minute, hour").fill("0 7 * * 1-5")
    page.get_by_label("Time zone").fill("America/Montevideo")
    expect(page.locator(".estimate")).to_contain_text("a month at most")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name="mornings", exact=True)).to_be_visible()
    expect(page.locator(".facts")).to_contain_text("America/Montevideo")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".title .status")).to_have_text("Paused")
    assert requests.get(f"{system.url}/schedules/mornings", timeout=10).json()["next_at"] is None
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".title .status")).to_have_text("Active")
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_text("No schedule yet.")).to_be_visible()


def test_on_a_phone_a_schedules_name_is_not_squeezed_and_its_next_run_says_whose_time_it_is(
    pages: Watched, system: Program
) -> None:
    wanted = {"name": "new-year-in-kiritimati", "cron": "30 23 1 1 *", "zone": "Pacific/Kiritimati"}
    requests.post(f"{system.url}/schedules", json=wanted, timeout=10).raise_for_status()
    page = pages.open(f"{system.url}/#/schedules", viewport={"width": 360, "height": 780}, timezone_id="Asia/Tokyo")
    line = page.locator(".line", has_text="new-year-in-kiritimati")
    expect(line.locator(".outlook")).to_contain_text("1 Jan, 18:30 your time, in")
    box = line.locator(".name").bounding_box()
    assert box is not None
    assert box["height"] < ONE_LINE
    assert_accessible(page)
    line.get_by_role("link").click()
    expect(page.locator(".facts")).to_contain_text("30 23 1 1 *")
    assert_accessible(page)
    requests.delete(f"{system.url}/schedules/new-year-in-kiritimati", timeout=10).raise_for_status()


def test_the_runs_of_a_schedule_lead_to_their_collections(pages: Watched, system: Program) -> None:
    wanted = {"name": "each-minute", "every_s": 60, "cities": [MONTEVIDEO]}
    requests.post(f"{system.url}/schedules", json=wanted, timeout=10).raise_for_status()
    page = pages.open(f"{system.url}/#/schedules")
    page.get_by_role("link", name="each-minute").click()
    run = page.get_by_role("link", name=re.compile("^each-minute:"))
    expect(run.first).to_be_visible(timeout=90_000)
    run.first.click()
    expect(page.locator(".title .status")).to_have_text("Done")


@pytest.mark.parametrize("scope", ["read", "write", "admin"])
def test_a_page_offers_what_its_token_may_do(pages: Watched, weather: Program, tmp_path: Path, scope: str) -> None:
    pages.tolerated = ("401",)
    tokens = {name: new_token() for name in ("admin", scope)}
    for name, token in tokens.items():
        (tmp_path / name).write_text(token, "utf-8")
    access = json.dumps([{"name": name, "scope": name, "token_file": str(tmp_path / name)} for name in tokens])
    with watched_system(pages, weather, tmp_path, access__tokens=access) as system:
        headers = {"Authorization": f"Bearer {tokens['admin']}"}
        bodies: list[tuple[str, dict[str, Any]]] = [
            ("collect", {"id": "done", "cities": [MONTEVIDEO]}),
            ("collect", {"id": "open", "cities": [*range(3_600_001, 3_605_001)]}),
            ("schedules", {"name": "hourly", "every_s": 3600, "cities": [MONTEVIDEO]}),
        ]
        for path, body in bodies:
            requests.post(f"{system.url}/{path}", json=body, headers=headers, timeout=10).raise_for_status()
        page = pages.open(f"{system.url}/")
        page.get_by_label("Token").fill(tokens[scope])
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator(".line.done")).to_contain_text("done")
        writes, is_admin = scope != "read", scope == "admin"
        expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible(visible=writes)
        expect(page.get_by_text("has the scope read; this needs write")).to_be_visible(visible=not writes)
        page.get_by_role("link", name="open", exact=True).click()
        expect(page.get_by_role("heading", name="open")).to_be_visible()
        expect(page.get_by_role("button", name="Cancel…")).to_be_visible(visible=writes)
        page.goto(f"{system.url}/#/collections/done")
        expect(page.locator(".title .status")).to_have_text("Done")
        expect(page.get_by_role("button", name="Delete…")).to_be_visible(visible=is_admin)
        page.get_by_role("link", name="Schedules", exact=True).click()
        expect(page.get_by_role("button", name="Create")).to_be_visible(visible=is_admin)
        page.get_by_role("link", name="hourly").click()
        expect(page.get_by_role("heading", name="hourly")).to_be_visible()
        for button in ("Pause", "Delete…"):
            expect(page.get_by_role("button", name=button)).to_be_visible(visible=is_admin)


def test_where_tokens_are_wanted_the_page_signs_in_and_out(pages: Watched, weather: Program, tmp_path: Path) -> None:
    pages.tolerated = ("401",)
    token = new_token()
    (tmp_path / "token").write_text(token, "utf-8")
    access = json.dumps([{"name": "browser", "scope": "write", "token_file": str(tmp_path / "token")}])
    with watched_system(pages, weather, tmp_path, access__tokens=access) as system:
        page = pages.open(f"{system.url}/")
        page.get_by_label("Token").fill("rg_wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_be_visible()
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_text("Live")).to_be_visible()
        expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible()
        page.reload()
        expect(page.get_by_text("Live")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
