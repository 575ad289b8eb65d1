"""A city's history, schedules and signing in, in a real browser, against the running system."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import expect
from sqlalchemy import update

from raingauge.access.tokens import new_token
from raingauge.clock import SystemClock
from raingauge.database import open_database
from raingauge.storage.models import Schedule
from tests.browser.conftest import MONTEVIDEO, Watched, assert_accessible, collected, embedded
from tests.support.processes import Program

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("browser")]
ONE_LINE = 40
"""Pixels; two lines of a name are higher."""


def test_a_citys_history_is_a_course_a_table_and_a_file(pages: Watched, system: Program) -> None:
    for number in range(3):
        collected(system, f"again{number}", max_age_s=0)
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


def schedule(system: Program, **wanted: object) -> None:
    requests.post(f"{system.url}/schedules", json=wanted, timeout=10).raise_for_status()


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
    schedule(system, name="new-year-in-kiritimati", cron="30 23 1 1 *", zone="Pacific/Kiritimati")
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


def test_the_runs_of_a_schedule_lead_to_their_collections(pages: Watched, system: Program, folder: Path) -> None:
    schedule(system, name="each-minute", every_s=60, cities=[MONTEVIDEO])
    last_minute = SystemClock().now().replace(second=0, microsecond=0)
    with closing(open_database(f"sqlite:///{folder}/raingauge.db")) as database:
        database.write(lambda c: c.execute(update(Schedule).values(next_at=last_minute)))
    schedule(system, name="each-day", every_s=86_400)  # which has all that is due started
    page = pages.open(f"{system.url}/#/schedules")
    page.get_by_role("link", name="each-minute").click()
    run = page.get_by_role("link", name=re.compile("^each-minute:"))
    expect(run.first).to_be_visible(timeout=20_000)
    run.first.click()
    expect(page.locator(".title .status")).to_have_text("Done")


TOKENS = {scope: new_token() for scope in ("read", "write", "admin")}


@pytest.fixture(scope="module")
def guarded(weather: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A system that wants tokens, with a collection that is done, one that is open and a schedule."""
    folder = tmp_path_factory.mktemp("guarded")
    for scope, token in TOKENS.items():
        (folder / scope).write_text(token, "utf-8")
    access = [{"name": scope, "scope": scope, "token_file": str(folder / scope)} for scope in TOKENS]
    with embedded(weather, folder, access__tokens=json.dumps(access)) as running:
        bodies: list[tuple[str, dict[str, Any]]] = [
            ("collect", {"id": "done", "cities": [MONTEVIDEO]}),
            ("collect", {"id": "open", "cities": [*range(3_600_001, 3_605_001)]}),
            ("schedules", {"name": "hourly", "every_s": 3600, "cities": [MONTEVIDEO]}),
        ]
        for path, body in bodies:
            headers = {"Authorization": f"Bearer {TOKENS['admin']}"}
            requests.post(f"{running.url}/{path}", json=body, headers=headers, timeout=10).raise_for_status()
        yield running


@pytest.mark.parametrize("scope", TOKENS)
def test_a_page_offers_what_its_token_may_do(pages: Watched, guarded: Program, scope: str) -> None:
    pages.tolerated = ("401",)
    page = pages.open(f"{guarded.url}/")
    page.get_by_label("Token").fill(TOKENS[scope])
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(".line.done")).to_contain_text("done")
    writes, is_admin = scope != "read", scope == "admin"
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible(visible=writes)
    expect(page.get_by_text("has the scope read; this needs write")).to_be_visible(visible=not writes)
    page.get_by_role("link", name="open", exact=True).click()
    expect(page.get_by_role("heading", name="open")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel…")).to_be_visible(visible=writes)
    page.goto(f"{guarded.url}/#/collections/done")
    expect(page.locator(".title .status")).to_have_text("Done")
    expect(page.get_by_role("button", name="Delete…")).to_be_visible(visible=is_admin)
    page.get_by_role("link", name="Schedules", exact=True).click()
    expect(page.get_by_role("button", name="Create")).to_be_visible(visible=is_admin)
    page.get_by_role("link", name="hourly").click()
    expect(page.get_by_role("heading", name="hourly")).to_be_visible()
    for button in ("Pause", "Delete…"):
        expect(page.get_by_role("button", name=button)).to_be_visible(visible=is_admin)


def test_where_tokens_are_wanted_the_page_signs_in_and_out(pages: Watched, guarded: Program) -> None:
    pages.tolerated = ("401",)
    page = pages.open(f"{guarded.url}/")
    for token in ("rg_wrong", TOKENS["write"]):
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        if token == "rg_wrong":
            expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_text("Live")).to_be_visible()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible()
    page.reload()
    expect(page.get_by_text("Live")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
