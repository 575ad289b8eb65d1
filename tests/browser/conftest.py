"""Chromium, and the system in embedded mode that its pages look at."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.e2e.running import settings_for
from tests.support.databases import need
from tests.support.processes import Program, program, simulator

CHROMIUM: Final = Path("/usr/bin/chromium")
PATIENCE_MS: Final = 15_000
MONTEVIDEO: Final = 3441575


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Not for the session: while Playwright runs, no other test can run an event loop."""
    need(CHROMIUM.exists(), "there is no Chromium: apt install chromium")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield started
        started.close()


class Watched:
    """Pages, and everything that must not happen in them."""

    def __init__(self, browser: Browser) -> None:
        self.wrong: list[str] = []
        self.tolerated: tuple[str, ...] = ()
        self._browser = browser
        self._contexts: list[BrowserContext] = []

    def open(self, url: str, *, blocked: str | None = None, **options: Any) -> Page:
        """A page in a window of its own; `blocked`: addresses that do not get through."""
        context = self._browser.new_context(**options)
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", self._spoke)
        page.on("pageerror", lambda error: self.wrong.append(f"{error} {error.stack}"))
        page.on("request", lambda request: self._requested(request, url))
        if blocked is not None:
            page.route(blocked, lambda route: route.abort())
        page.goto(url)
        return page

    def close(self) -> None:
        """Close the windows."""
        while self._contexts:
            self._contexts.pop().close()

    def _spoke(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not any(part in message.text for part in self.tolerated):
            self.wrong.append(message.text)

    def _requested(self, request: Request, url: str) -> None:
        own = "/".join(url.split("/")[:3]) + "/"
        if not request.url.startswith(own):
            self.wrong.append(f"a request to another host: {request.url}")


@pytest.fixture
def pages(browser: Browser) -> Iterator[Watched]:
    """Opens pages; afterwards no console error, no violation of the policy, no request to another host."""
    watched = Watched(browser)
    yield watched
    watched.close()
    assert watched.wrong == []


@pytest.fixture(scope="module")
def weather() -> Iterator[Program]:
    """The simulator, without a limit of its own."""
    with simulator("--quota", "0", "--latency-s", "0.02") as running:
        yield running


def assert_accessible(page: Page) -> None:
    """Axe finds nothing, and nothing is wider than the window."""
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    assert page.viewport_size is not None
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def collected(system: Program, *names: str, cities: Sequence[int] = (MONTEVIDEO,), **more: object) -> None:
    """Collections that are done."""
    for name in names:
        assert system.collect(id=name, cities=[*cities], **more).status_code == 202
    for name in names:
        system.done(name)


@contextmanager
def embedded(provider: Program, folder: Path, **more: object) -> Iterator[Program]:
    """Embedded mode with a quota of 150 cities in 3 s."""
    quota: dict[str, object] = {"quota__cities_per_window": 150, "quota__window_s": 3}
    settings = settings_for(provider.url, f"sqlite:///{folder}/raingauge.db", quota | more)
    with program("standalone", settings=settings) as running:
        yield running


@contextmanager
def watched_system(pages: Watched, provider: Program, folder: Path, **more: object) -> Iterator[Program]:
    """Embedded mode whose pages are closed before it stops: they would complain that it is away."""
    with embedded(provider, folder, **more) as running:
        yield running
        pages.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the system that all tests share has its database."""
    return tmp_path_factory.mktemp("system")


@pytest.fixture(scope="module")
def system(weather: Program, folder: Path) -> Iterator[Program]:
    """One that all tests share; each collects under names of its own."""
    with embedded(weather, folder) as running:
        yield running
