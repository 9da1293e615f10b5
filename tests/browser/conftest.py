"""One real server and one real Chromium for all browser tests of a test process.

Without a browser these tests are left out, loudly; with `BROWSER_REQUIRED` set, as CI does, that is a failure.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    Response,
    sync_playwright,
)

from tests.support.postgres import migrated_database
from tests.support.process import Process

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
TIMEOUT_MS = 10_000


def executable() -> str | None:
    """Return the path of the browser: `CHROMIUM`, or the first of the usual names."""
    wanted = os.environ.get("CHROMIUM")
    return wanted or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="package")
def chromium(console: Process) -> Iterator[Browser]:
    """The browser. It starts after the server and ends with these tests: no loop can run beside that of Playwright."""
    path = executable()
    if path is None:
        if os.environ.get("BROWSER_REQUIRED"):
            pytest.fail("no Chromium: CHROMIUM names its executable")
        pytest.skip("LEFT OUT: tests/browser, for there is no Chromium (.ci/setup installs it, CHROMIUM names one)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server whose gate is open; its tests share the database and must not mind each other's rows."""
    log = tmp_path_factory.mktemp("console") / "log"
    with migrated_database() as dsn, Process(dsn, log, API_KEYS="", RATE_LIMIT_ENABLED="false") as process:
        yield process
        assert "Traceback" not in process.log()


@dataclass
class Tab:
    """A page, with everything that must not happen to one: errors, refusals of the policy, requests that fail."""

    page: Page
    url: str
    wrong: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    bytes_of: dict[str, int] = field(default_factory=dict)

    def open(self, path: str) -> None:
        self.page.goto(self.url + path)

    def ready(self) -> None:
        """Wait until the page hears the bell."""
        self.page.wait_for_selector("#live.on")

    def watch(self) -> None:
        self.page.set_default_timeout(TIMEOUT_MS)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("requestfailed", self._failed)
        self.page.on("response", self._answered)
        self.page.on("dialog", self._asked)

    def _asked(self, dialog: Dialog) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.wrong.append(f"{message.type}: {message.text}")

    def _failed(self, request: Request) -> None:
        # A page that is left drops what it had asked for.
        if request.failure != "net::ERR_ABORTED":
            self.wrong.append(f"failed: {request.url} {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.wrong.append(f"{response.status}: {response.url}")


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    yield context
    context.close()


@pytest.fixture
def tab(context: BrowserContext, console: Process) -> Iterator[Tab]:
    """A tab; after the test nothing may have gone wrong in it."""
    tab = Tab(context.new_page(), console.url)
    tab.watch()
    yield tab
    assert tab.wrong == []
