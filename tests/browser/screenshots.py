"""`python -m tests.browser.screenshots FOLDER`: pictures of the page for the documents, at the pace of a free key."""

import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Page, expect, sync_playwright

from producer.cities import default_cities
from tests.browser.conftest import CHROMIUM, embedded
from tests.support.eventually import eventually
from tests.support.processes import Program, simulator

WIDE: Final = {"width": 1280, "height": 860}
PHONE: Final = {"width": 390, "height": 844}
KEY: Final = {"quota__cities_per_window": 60, "quota__window_s": 60}
COLLECTED: Final = 120


def until_it_works(system: Program) -> None:
    """A small collection is done, and most of a large one."""
    system.collect(id="montevideo-area", cities=list(default_cities()[:25]))
    system.done("montevideo-area", 90)
    system.collect(id="uruguay", max_age_s=0)
    eventually(lambda: system.get("/get", id="uruguay", data="false")["collected"] >= COLLECTED, 240)


def opened(browser: Browser, url: str, chart: str, **options: Any) -> Page:
    """A page whose charts are drawn."""
    page = browser.new_context(device_scale_factor=2, **options).new_page()
    page.goto(url)
    expect(page.locator(f".chart.{chart} canvas")).to_be_visible(timeout=20_000)
    expect(page.get_by_text("Live")).to_be_visible()
    page.evaluate("document.fonts.ready")
    return page


def main(folder: Path) -> None:
    """Make all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as data,
        simulator("--quota", "0", "--latency-s", "0.1") as weather,
        embedded(weather, Path(data), **KEY) as system,
        sync_playwright() as playwright,
    ):
        until_it_works(system)
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        overview, collection = f"{system.url}/", f"{system.url}/#/collections/uruguay"
        pictures: list[tuple[str, str, str, dict[str, Any]]] = [
            ("overview", overview, "course", {"viewport": WIDE}),
            ("overview-dark", overview, "course", {"viewport": WIDE, "color_scheme": "dark"}),
            ("overview-phone", overview, "course", {"viewport": PHONE}),
            ("collection", collection, "histogram", {"viewport": WIDE}),
            ("collection-dark", collection, "histogram", {"viewport": WIDE, "color_scheme": "dark"}),
            ("collection-phone", collection, "histogram", {"viewport": PHONE}),
        ]
        for name, url, chart, options in pictures:
            opened(browser, url, chart, **options).screenshot(path=folder / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
