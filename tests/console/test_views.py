"""`/console/views`: pages that a person keeps."""

import pytest

from aitp_cp.console.pages.views import MAX_VIEWS
from tests.support.app import App
from tests.support.console import signed_in
from tests.support.rows import value

pytestmark = pytest.mark.anyio

PAGE = "/console/agents?q=a%20b&status=all"


async def test_a_view_is_saved_shown_replaced_and_forgotten(guarded: App) -> None:
    async with signed_in(guarded) as browser, signed_in(guarded) as other:
        page = (await browser.get(PAGE)).text
        assert 'href="/console/views?url=%2Fconsole%2Fagents%3Fq%3Da%2520b%26status%3Dall"' in page
        form = (await browser.get("/console/views", params={"url": PAGE})).text
        assert 'name="url" value="/console/agents?q=a%20b&amp;status=all"' in form
        for url in ("/console/events", PAGE):
            response = await browser.post("/console/views", {"name": "<b>mine", "url": url})
            assert (response.status_code, response.headers["location"]) == (303, "/console/views")
        saved = (await browser.get("/console/views")).text
        assert 'href="/console/agents?q=a%20b&amp;status=all"' in saved
        assert "&lt;b&gt;mine" in saved
        assert "mine" not in (await other.get("/console/views")).text
        await other.post("/console/views/forget", {"name": "<b>mine"})
        assert await value(guarded, "SELECT count(*) FROM console_views") == 1
        await browser.post("/console/views/forget", {"name": "<b>mine"})
        assert await value(guarded, "SELECT count(*) FROM console_views") == 0


@pytest.mark.parametrize(
    "url", ["https://elsewhere.example/", "//elsewhere", "/api/keys", "javascript:1", "", "/console/" + "a" * 2048]
)
async def test_only_pages_of_the_console_are_kept(guarded: App, url: str) -> None:
    async with signed_in(guarded) as browser:
        assert (await browser.post("/console/views", {"name": "x", "url": url})).status_code == 400
        assert 'name="url"' not in (await browser.get("/console/views", params={"url": url})).text


async def test_views_are_bounded(guarded: App) -> None:
    async with signed_in(guarded) as browser:
        for name in ("", "x" * 101, "a\u202eb"):
            assert (await browser.post("/console/views", {"name": name, "url": PAGE})).status_code == 400
        for n in range(MAX_VIEWS + 1):
            response = await browser.post("/console/views", {"name": f"view {n}", "url": PAGE})
        assert response.status_code == 400
        assert (await browser.post("/console/views", {"name": "view 7", "url": PAGE})).status_code == 303
        assert await value(guarded, "SELECT count(*) FROM console_views") == MAX_VIEWS
