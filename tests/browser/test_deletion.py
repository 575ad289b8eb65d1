"""What an open page shows of collections that are deleted, and deleting one on the page, in a real browser."""

import re
import sqlite3
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import Watched, assert_accessible, collected, watched_system
from tests.support.processes import Program

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("browser")]
STREAM = "**/collections/stream"


def delete(system: Program, name: str) -> None:
    """DELETE it, as another client does."""
    assert requests.delete(f"{system.url}/collections/{name}", timeout=10).status_code == 204


def line(page: Page, name: str) -> Locator:
    """A collection of the overview."""
    return page.locator(".line", has=page.get_by_role("link", name=name, exact=True))


@pytest.mark.parametrize("blocked", [None, STREAM], ids=["streamed", "polled"])
def test_a_deleted_collection_leaves_open_pages_and_one_that_gets_its_id_is_shown(
    pages: Watched, system: Program, blocked: str | None
) -> None:
    pages.tolerated = ("404", "net::ERR_FAILED")
    gone, kept = ("gone", "kept") if blocked is None else ("gone-polled", "kept-polled")
    collected(system, kept, gone)
    overview = pages.open(f"{system.url}/", blocked=blocked)
    view = pages.open(f"{system.url}/#/collections/{gone}", blocked=blocked)
    expect(line(overview, gone)).to_be_visible()
    expect(view.locator(".title .status")).to_have_text("Done")
    delete(system, gone)
    expect(line(overview, gone)).to_be_hidden(timeout=4_000)
    expect(line(overview, kept)).to_be_visible()
    expect(view.get_by_role("heading", name=f"The collection {gone} was deleted.")).to_be_visible()
    expect(view.get_by_role("button", name="Delete…")).to_be_hidden()
    collected(system, gone)
    expect(line(overview, gone)).to_be_visible()
    expect(view.locator(".title .status")).to_have_text("Done")


def test_also_one_that_is_too_old_to_be_streamed(pages: Watched, weather: Program, tmp_path: Path) -> None:
    pages.tolerated = ("404",)
    with watched_system(pages, weather, tmp_path, quota__cities_per_window=3000) as system:
        collected(system, "old", "older")
        collected(system, *(f"new{number}" for number in range(101)))
        page = pages.open(f"{system.url}/#/collections/old")
        expect(page.locator(".title .status")).to_have_text("Done")
        page.get_by_role("link", name="All collections").click()
        for _ in range(2):
            page.get_by_role("button", name="Show older ones").click()
        expect(line(page, "old")).to_be_visible()
        delete(system, "old")
        expect(line(page, "old")).to_be_hidden(timeout=4_000)
        expect(page.locator(".line")).to_have_count(102)


def test_a_collection_is_deleted_after_a_confirmation_by_keyboard_alone(pages: Watched, system: Program) -> None:
    collected(system, "unwanted")
    page = pages.open(f"{system.url}/#/collections/unwanted")
    page.get_by_role("button", name="Delete…").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Delete unwanted?")
    expect(dialog).to_contain_text("its 1 reading are removed for good")
    expect(dialog).to_contain_text("The latest weather of each city stays")
    expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    assert_accessible(page)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("button", name="Delete…")).to_be_focused()
    assert system.get("/get", id="unwanted", data="false")["status"] == "done"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Start a collection")).to_be_visible()
    expect(line(page, "unwanted")).to_be_hidden()
    assert requests.get(f"{system.url}/get?id=unwanted", timeout=10).status_code == 404


def test_why_a_collection_cannot_be_deleted_is_said_in_the_dialog(pages: Watched, system: Program) -> None:
    pages.tolerated = ("503",)
    collected(system, "stuck")
    page = pages.open(f"{system.url}/#/collections/stuck")

    def refuse(route: Route) -> None:
        if route.request.method != "DELETE":
            return route.fallback()
        return route.fulfill(status=503, json={"detail": "the database cannot be used now"})

    page.route("**/collections/stuck", refuse)
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_have_text("the database cannot be used now")
    page.get_by_role("button", name="Keep it").click()
    page.get_by_role("button", name="Delete…").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_be_hidden()


def test_an_open_collection_is_cancelled_before_it_is_deleted(pages: Watched, system: Program) -> None:
    system.collect(id="open", cities=list(range(3_600_001, 3_605_001)))
    page = pages.open(f"{system.url}/#/collections/open")
    expect(page.get_by_role("button", name="Cancel…")).to_be_visible()
    expect(page.get_by_role("button", name="Delete…")).to_be_hidden()
    page.get_by_role("button", name="Cancel…").click()
    page.get_by_role("button", name="Cancel it").click()
    expect(page.get_by_role("button", name="Delete…")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel…")).to_be_hidden()


def test_readings_that_were_removed_for_their_age_are_not_waited_for(
    pages: Watched, weather: Program, tmp_path: Path
) -> None:
    with watched_system(pages, weather, tmp_path) as system:
        collected(system, "aged")
        with sqlite3.connect(tmp_path / "raingauge.db") as database:
            database.execute("UPDATE collections SET readings_pruned_at = finished_at")
        page = pages.open(f"{system.url}/#/collections/aged")
        expect(page.get_by_text(re.compile("readings were removed because of their age"))).to_be_visible()
        expect(page.locator(".skeleton")).to_have_count(0)
        expect(page.get_by_role("link", name="CSV")).to_be_hidden()
