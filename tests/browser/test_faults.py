"""What the page does when something is wrong: a producer that hangs, an address of nothing, a slow answer."""

import re
import signal
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Page, Route, expect

from producer.api.collections.acceptance import ID
from tests.browser.conftest import MONTEVIDEO, Watched, assert_accessible, collected, watched_system
from tests.support.eventually import eventually
from tests.support.processes import Program

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("browser")]
NOW: Final = "2026-11-29T12:00:00.000Z"


def of_module(page: Page, name: str, expression: str) -> Any:
    """An expression with the functions of one of the page's modules, `text` for `text.js`."""
    source = page.locator("script[type=module]").get_attribute("src")
    assert source is not None
    return page.evaluate(f"import('{source.replace('app.js', f'{name}.js')}').then(({name}) => {expression})")


def of_text(page: Page, expression: str) -> Any:
    """An expression with the functions of `text.js`."""
    return of_module(page, "text", expression)


def test_a_producer_that_hangs_is_not_shown_as_live(pages: Watched, weather: Program, tmp_path: Path) -> None:
    pages.tolerated = ("signal timed out", "503")  # what was under way is answered too late
    with watched_system(pages, weather, tmp_path) as system:
        page = pages.open(f"{system.url}/")
        expect(page.get_by_text("Live")).to_be_visible()
        system.process.send_signal(signal.SIGSTOP)
        try:
            expect(page.get_by_text("Offline")).to_be_visible(timeout=20_000)
            assert_accessible(page)  # figures that are old can be read, too
        finally:
            system.process.send_signal(signal.SIGCONT)
        expect(page.get_by_text("Live")).to_be_visible(timeout=20_000)
        expect(page.get_by_role("alert")).to_be_hidden()


@pytest.mark.parametrize("address", ["%E0%A4%A", "%3Cimg%20src=x%20onerror=alert(1)%3E", "nothing"])
def test_an_address_of_no_collection_is_answered_in_words(pages: Watched, system: Program, address: str) -> None:
    pages.tolerated = ("404", "422")
    page = pages.open(f"{system.url}/#/collections/{address}")
    expect(page.locator("h1")).to_contain_text(re.compile("There is no collection|id: "))
    page.get_by_role("link", name="All collections").click()
    expect(page.get_by_role("heading", name="Start a collection")).to_be_visible()


def test_below_a_path_older_collections_are_shown_page_by_page(
    pages: Watched, weather: Program, tmp_path: Path
) -> None:
    with watched_system(pages, weather, tmp_path, http__root_path="/rain") as system:
        for number in range(230):
            assert system.collect(id=f"c{number:03}", cities=[MONTEVIDEO]).status_code == 202
        page = pages.open(f"{system.url}/rain/")
        for shown in (100, 200, 230):
            page.get_by_role("button", name="Show older ones").click()
            expect(page.locator(".line")).to_have_count(shown)
        expect(page.get_by_role("button", name="Show older ones")).to_be_hidden()
        expect(page.locator(".line").last).to_contain_text("c000")


def test_names_of_the_provider_are_text(pages: Watched, system: Program) -> None:
    name = "<img src=x onerror=alert(1)>{a|b}"
    row = {"city_id": 1, "name": name, "temperature": 5.0, "humidity": None, "observed_at": NOW, "country": "UY"}
    nameless = {**row, "city_id": 3441575, "name": None, "country": "??", "latitude": -34.9, "longitude": -56.2}

    def answer(route: Route) -> None:
        body = route.fetch().json()
        route.fulfill(json={**body, "data": [row, nameless]})

    collected(system, "names")
    page = pages.open(f"{system.url}/")
    page.route("**/get?id=names&limit*", answer)
    page.get_by_role("link", name="names", exact=True).click()
    expect(page.locator("table.rows tbody")).to_contain_text(name)
    expect(page.locator("table.rows tbody")).to_contain_text("City 3441575")
    page.get_by_role("button", name="Humidity").click()
    expect(page.locator("table.rows tbody tr")).to_have_count(2)
    assert page.locator("img[src=x]").count() == 0


def test_what_is_looked_up_for_a_list_that_changed_is_dropped(pages: Watched, system: Program) -> None:
    page = pages.open(f"{system.url}/")
    held: list[Route] = []

    def hold(route: Route) -> None:  # Playwright looks at its signature
        held.append(route)

    page.route("**/cities?*", hold)
    page.get_by_text("Paste a list").click()
    page.get_by_label("One city a line").fill("Minas")
    page.get_by_role("button", name="Find these cities").click()
    eventually(lambda: page.evaluate("1") == 1 and bool(held), 10)
    page.get_by_label("One city a line").fill("3441575")
    page.get_by_role("button", name="Find these cities").click()
    expect(page.locator(".resolved li")).to_have_text(re.compile("3441575"))
    city = {"id": 3, "name": "Minas", "country": "UY", "admin1": None, "population": 1, "distance_km": None}
    with page.expect_response("**/cities?*"):
        held[0].fulfill(json={"cities": [city]})
    page.locator("input[name=id]").fill("another")
    expect(page.locator(".estimate")).to_contain_text("1 city.")
    expect(page.locator(".resolved li")).to_have_text(re.compile("3441575"))


def test_a_new_collection_is_named_as_the_api_takes_it(pages: Watched, system: Program) -> None:
    field = pages.open(f"{system.url}/").locator("input[name=id]")
    names = [chr(code) for code in range(32, 127)] + ["2026-11-20.a_B", "ä"]
    fit = "(field, names) => names.filter((name) => Object.assign(field.cloneNode(), {value: name}).checkValidity())"
    assert field.evaluate(fit, names) == [name for name in names if ID.fullmatch(name)]


def test_what_a_failover_reopens_is_not_shown_as_done(pages: Watched, system: Program) -> None:
    once = '{id: "reopened", requested_at: "2026", status: "collecting", finished_at: null}'
    done = '{id: "reopened", requested_at: "2026", status: "done", finished_at: "2026"}'
    taken = (f"[{done}], true", f"[{once}]", f"[{once}], true")
    steps = ", ".join(f'(live.take({one}), live.collectionOf("reopened").status)' for one in taken)
    page = pages.open(f"{system.url}/")
    assert of_module(page, "live", f"[{steps}]") == ["done", "done", "collecting"]


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        ("text.duration(7190)", "2\u00a0h 0\u00a0min"),
        ("text.duration(89.6)", "2\u00a0min"),
        ("text.why('month', undefined)", "The month\u2019s budget allows no more cities yet."),
        ("text.time('2001-05-04T12:00:00Z')", "4 May 2001"),
        ("text.time(Date.now(), false).length", 5),
        ("text.time(Date.now() + 3 * 86400000, false).length > 9", True),
        ("text.clock(Date.now() + 3 * 86400000, false).length", 5),
        ("text.country('??') + text.country(null) + text.country('UY')", "??Uruguay"),
    ],
)
def test_figures_and_times_are_written_in_full(pages: Watched, system: Program, expression: str, shown: object) -> None:
    assert of_text(pages.open(f"{system.url}/"), expression) == shown
