"""The page in a real browser, against the running system."""

import re
from pathlib import Path
from typing import Final

import pytest
import requests
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import MONTEVIDEO, Watched, assert_accessible, collected, embedded, watched_system
from tests.support.processes import Program
from tests.support.servers import free_port

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("browser")]
PHONE: Final = {"width": 360, "height": 780}
SMOOTH_S: Final = 0.5
MANY: Final = list(range(3_400_001, 3_401_001))


def test_a_collection_is_started_on_the_page_and_watched_until_it_is_done(pages: Watched, system: Program) -> None:
    page = pages.open(f"{system.url}/")
    expect(page.get_by_text("Live")).to_be_visible()
    page.get_by_label("Name").fill("first")
    expect(page.get_by_text("167 cities.")).to_be_visible()
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_role("heading", name="first")).to_be_visible()
    expect(page.locator(".title .status")).to_have_text("Collecting")
    expect(page.locator(".title .status")).to_have_text("Done")
    expect(page.get_by_role("progressbar")).to_have_js_property("value", 1)
    expect(page.get_by_role("img", name=re.compile("A map of 167 cities"))).to_be_visible()
    expect(page.locator(".chart.world canvas")).to_be_visible()
    page.get_by_label("Filter").fill("3441575")
    expect(page.locator("table.rows tbody tr")).to_have_count(1)
    for format_ in ("CSV", "GeoJSON"):
        address = page.get_by_role("link", name=format_, exact=True).get_attribute("href")
        answer = requests.get(f"{system.url}{address}", timeout=10)
        assert (answer.status_code, "attachment" in answer.headers["content-disposition"]) == (200, True)
        assert "Montevideo" in answer.content.decode()
    page.get_by_role("link", name="All collections").click()
    expect(page.locator(".line.done").filter(has_text="first")).to_contain_text("167 of 167")


def test_a_thousand_rows_are_sorted_filtered_and_turned_smoothly(
    pages: Watched, weather: Program, tmp_path: Path
) -> None:
    with watched_system(pages, weather, tmp_path, quota__cities_per_window=3000) as system:
        collected(system, "many", cities=MANY)
        page = pages.open(f"{system.url}/#/collections/many")
        expect(page.get_by_text("1 of 20")).to_be_visible()
        expect(page.locator(".chart.world canvas")).to_be_visible()
        before = busy_s(page)
        page.get_by_role("button", name="Temperature").click()
        expect(page.get_by_role("columnheader", name="Temperature")).to_have_attribute("aria-sort", "descending")
        page.get_by_role("button", name="Next").click()
        expect(page.get_by_text("2 of 20")).to_be_visible()
        page.get_by_label("Filter").fill("340012")
        expect(page.get_by_text("10 of 1,000 cities")).to_be_visible()
        assert busy_s(page) - before <= SMOOTH_S


def busy_s(page: Page) -> float:
    """Seconds that the page has worked so far."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))


def test_a_collection_is_cancelled_after_a_confirmation_by_keyboard_alone(pages: Watched, system: Program) -> None:
    system.collect(id="long", cities=list(range(3_500_001, 3_505_001)))
    page = pages.open(f"{system.url}/#/collections/long")
    page.get_by_role("button", name="Cancel…").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("What is collected stays.")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert system.get("/get", id="long", data="false")["status"] in {"queued", "collecting"}
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Cancel it").press("Enter")
    expect(page.locator(".title .status")).to_have_text("Cancelled")
    assert system.get("/get", id="long", data="false")["status"] == "cancelled"


def test_why_everything_waits_is_a_sentence(pages: Watched, weather: Program, tmp_path: Path) -> None:
    requests.post(f"{weather.url}/control/faults", json={"fault": "refuse_key"}, timeout=10).raise_for_status()
    try:
        with watched_system(pages, weather, tmp_path) as system:
            system.collect(id="waits", cities=MANY)
            page = pages.open(f"{system.url}/")
            sentence = "The provider does not accept the API key."
            expect(page.locator("h1")).to_contain_text(sentence)
            expect(page.locator(".line.waiting")).to_contain_text(sentence)
    finally:
        requests.delete(f"{weather.url}/control/faults", timeout=10)


def test_the_page_reconnects_when_the_producer_was_restarted(pages: Watched, weather: Program, tmp_path: Path) -> None:
    pages.tolerated = ("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET")
    port = free_port()
    with embedded(weather, tmp_path, http__port=port) as system:
        page = pages.open(f"{system.url}/")
        expect(page.get_by_text("Live")).to_be_visible()
        assert system.stop() == 0
        expect(page.get_by_role("alert")).to_contain_text("Raingauge does not answer.")
    with watched_system(pages, weather, tmp_path, http__port=port) as system:
        expect(page.get_by_text("Live")).to_be_visible()
        expect(page.get_by_role("alert")).to_be_hidden()
        system.collect(id="after", cities=[MONTEVIDEO])
        expect(page.locator(".line", has_text="after")).to_be_visible()


def test_where_streams_are_blocked_the_page_polls(pages: Watched, system: Program) -> None:
    pages.tolerated = ("net::ERR_FAILED",)
    page = pages.open(f"{system.url}/", blocked="**/collections/stream")
    expect(page.get_by_text("Every 2 s")).to_be_visible()
    system.collect(id="polled", cities=[MONTEVIDEO])
    expect(page.locator(".line", has_text="polled")).to_be_visible()


CITIES: Final = {"San Carlos": [(2, "Maldonado"), (1, "Salta")], "Minas": [(3, "Lavalleja")]}


def answer_cities(route: Route) -> None:
    """What the search of cities answers."""
    name = re.sub(r"\+|%20", " ", re.findall(r"[?&]q=([^&]*)", route.request.url)[0])
    place = {"name": name, "country": "UY", "latitude": -34.9, "longitude": -56.2, "distance_km": None}
    cities = [place | {"id": n, "admin1": admin1, "population": 1000 * n} for n, admin1 in CITIES.get(name, [])]
    route.fulfill(json={"cities": cities})


def test_of_a_pasted_list_what_is_ambiguous_is_chosen_by_a_person(pages: Watched, system: Program) -> None:
    page = pages.open(f"{system.url}/")
    page.route("**/cities?*", answer_cities)
    page.get_by_label("Name").fill("pasted")
    page.get_by_text("Paste a list").click()
    page.get_by_label("One city a line").fill("San Carlos, UY\nMinas\n3441575\nNowhere")
    page.get_by_role("button", name="Find these cities").click()
    expect(page.get_by_text("2 cities are clear; 2 lines need your choice")).to_be_visible()
    page.get_by_label("Which San Carlos, UY").select_option("2")
    expect(page.get_by_text("3 cities are clear; 1 line needs")).to_be_visible()
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator(".title .status")).to_have_text("Done")
    assert [row["city_id"] for row in system.get("/get", id="pasted")["data"]] == [2, 3, 3441575]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, {"width": 1360, "height": 900}], ids=["phone", "wide"])
def test_nothing_keeps_anybody_out(pages: Watched, system: Program, scheme: str, viewport: dict[str, int]) -> None:
    page = pages.open(f"{system.url}/", color_scheme=scheme, viewport=viewport)
    name = f"axe-{scheme}-{viewport['width']}"
    collected(system, name, cities=MANY[:30])
    expect(page.locator(".line", has_text=name)).to_be_visible()
    expect(page.locator(".chart.course canvas")).to_be_visible()
    for group in ("Paste a list", "Search", "Default cities"):
        page.get_by_text(group).click()
        assert_accessible(page)
    page.get_by_role("link", name=name).click()
    expect(page.locator(".chart.world canvas")).to_be_visible()
    assert_accessible(page)
