"""Signing in with a real browser: what it keeps, what it sends, and where a provider leads it back to."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser

from tests.accounts.test_single_sign_on import CLIENT, LOCAL, ROLES, issuer
from tests.browser.conftest import Tab
from tests.support.app import API_KEY
from tests.support.postgres import migrated_database
from tests.support.process import Process

__all__ = ["issuer"]


@pytest.fixture(scope="module")
def gated(issuer: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server that asks who comes."""
    log = tmp_path_factory.mktemp("gated") / "log"
    settings: dict[str, Any] = {"OIDC_ISSUER": issuer, **CLIENT, **ROLES, **LOCAL}
    # In a thread: no loop can run beside that of Playwright.
    with ThreadPoolExecutor(1) as thread:
        stack = ExitStack()
        dsn = thread.submit(stack.enter_context, migrated_database()).result()
        with Process(dsn, log, **settings) as process:
            yield process
        thread.submit(stack.close).result()
    assert "Traceback" not in process.log()


@pytest.fixture
def guest(chromium: Browser, gated: Process) -> Iterator[Tab]:
    context = chromium.new_context()
    tab = Tab(context.new_page(), gated.url.replace("127.0.0.1", "localhost"))
    tab.watch()
    yield tab
    context.close()


def test_a_person_comes_makes_a_key_and_goes(guest: Tab) -> None:
    page = guest.page
    guest.open("/console/keys")
    assert page.url.endswith("/console/login?to=%2Fconsole%2Fkeys")
    page.keyboard.type(API_KEY)  # the field has the focus
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/keys")
    (cookie,) = page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("acp-dev", True, "Lax")
    assert cookie["value"] not in page.content()
    assert page.evaluate("document.cookie") == ""
    page.fill("input[name=name]", "made by hand")
    page.click("text=Create")
    assert page.locator(".box code").inner_text().startswith("acp_")
    page.reload()
    assert page.locator(".box code").count() == 0
    guest.open("/console/keys")
    assert "made by hand" in page.content()
    page.click("text=Sign out")
    page.wait_for_url("**/console/login")
    assert page.context.cookies() == []
    page.go_back()
    assert "made by hand" not in page.content()
    assert page.url.partition("?")[0].endswith("/console/login")
    assert guest.wrong == []


def test_a_provider_on_another_site_leads_back_into_a_session(guest: Tab) -> None:
    page = guest.page
    guest.open("/console/login?to=/console/sessions")
    page.click("text=Sign in with single sign-on")
    assert "/oauth2/authorize?" in page.url
    page.click("button:has-text('ana')")
    page.wait_for_url("**/console/sessions")
    assert [cookie["name"] for cookie in page.context.cookies()] == ["acp-dev"]
    assert page.locator(".who").inner_text() == "ana@example"
    assert not [entry for entry in guest.wrong if "localhost" in entry]  # the provider's own page is its own affair


def test_a_form_of_another_site_changes_nothing(guest: Tab, issuer: str) -> None:
    """A browser with a session sends its cookie along with a form of the same site, and says where it comes from."""
    page = guest.page
    guest.open("/console/login")
    page.fill("input[name=key]", API_KEY)
    page.click("main button")
    page.wait_for_url("**/console/")
    action = f"{guest.url}/console/signed-in/end-all"
    for origin in (issuer, issuer.replace("127.0.0.1", "localhost")):
        page.goto(f"{origin}/.well-known/openid-configuration")
        page.set_content(
            f'<form method="post" action="{action}"><input name="subject" value="user:x"><button>go</button></form>'
        )
        page.click("button")
        page.wait_for_url("**/console/signed-in/end-all")
        assert "CROSS_SITE_REFUSED" in page.content()


def test_its_pages_can_be_used_by_all(chromium: Browser, console: Process) -> None:
    context = chromium.new_context(viewport={"width": 360, "height": 800}, bypass_csp=True)
    context.add_cookies([{"name": "acp-theme", "value": "dark", "url": f"{console.url}/console"}])
    page, found = context.new_page(), []
    for path in ("/console/login", "/console/me", "/console/keys", "/console/signed-in"):
        page.goto(console.url + path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (path, "scrolls sideways")
        result = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]})
        found += [(path, each["id"], each["nodes"][0]["html"]) for each in result.response["violations"]]
    context.close()
    assert found == []
