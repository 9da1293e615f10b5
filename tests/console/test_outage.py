"""Pages and actions while the database is silent or away: they say what is known, soon, and leave nothing half done."""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from aitp_cp.console.routes import ENDPOINTS
from aitp_cp.db import pool
from tests.console.test_containing import form_in, page_of
from tests.containment.support import claimed, report
from tests.support.agents import new_agent
from tests.support.app import App, running_app
from tests.support.console import Browser, signed_in
from tests.support.proxy import Proxy
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

PAGES = [
    endpoint.path
    for endpoint in ENDPOINTS
    if endpoint.method == "GET" and not endpoint.streaming and "{" not in endpoint.path and "oidc" not in endpoint.path
]
SOON_SECS = 15  # sooner than the driver gives up
FRAME = {"/console/preferences", "/console/logout", "/console/login"}


@pytest.fixture
async def between(database_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(database_url) as proxy:
        yield proxy


@pytest.fixture
async def app(between: Proxy, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    monkeypatch.setattr(pool, "SILENT_SECS", 0.2)
    monkeypatch.setattr(pool, "ANSWER_SECS", 0.2)
    async with running_app(between.dsn) as running:
        yield running


async def no_connection_is_held(app: App) -> None:
    await until(lambda: app.rt.db.in_use == 0, SOON_SECS)


async def test_a_silent_database_is_said_soon_and_costs_no_connection(app: App, between: Proxy) -> None:
    async with signed_in(app) as browser:
        await no_connection_is_held(app)
        between.stall()
        async with asyncio.timeout(SOON_SECS):
            responses = await asyncio.gather(*(browser.get(path) for path in ("/console/", "/console/me", PAGES[-2])))
        for response in responses:
            assert (response.status_code, "DATABASE_UNAVAILABLE" in response.text) == (503, True)
            assert response.headers["content-type"].startswith("text/html")
        between.resume()
        await no_connection_is_held(app)
        assert (await browser.get("/console/")).status_code == 200


@pytest.mark.parametrize("silent_after", [0, 3000])
async def test_an_act_in_the_silence_is_done_or_not_and_can_be_done_again(
    app: App, between: Proxy, silent_after: int
) -> None:
    bad = new_agent()
    await report(app, *(claimed(bad.aid, new_agent().aid) for _ in range(3)))
    async with signed_in(app) as browser:
        form = form_in(await browser.get(page_of(bad)), reason="its key leaked", typed=bad.aid[-4:])
        between.stall_after(silent_after)
        async with asyncio.timeout(SOON_SECS):
            response = await browser.post(page_of(bad), form)
        assert response.status_code == 503
        assert ("Nothing was done" in response.text) is (silent_after == 0)
        assert ("not known" in response.text) is (silent_after != 0)
        assert page_of(bad) in response.text  # where to look
        between.resume()
        await no_connection_is_held(app)
        again = await browser.post(page_of(bad), form)
        assert again.status_code == 303
        (stored,) = (await app.get("/api/containments")).json()["containments"]
        assert stored["aid"] == bad.aid
        assert len((await app.get("/api/revocation/entries")).json()["entries"]) == 3


async def test_without_a_database_no_page_offers_what_it_cannot_do(app: App, between: Proxy) -> None:
    async with signed_in(app) as browser:
        assert (await browser.get("/console/")).status_code == 200
        await between.stop()
        shown = {path: await posts(browser, path) for path in PAGES}
        assert {path: forms for path, forms in shown.items() if forms - FRAME} == {}


async def posts(browser: Browser, path: str) -> set[str]:
    response = await browser.get(path)
    assert response.status_code in (200, 303, 400, 503), path
    return set(re.findall(r'<form[^>]*method="post"[^>]*action="([^"?]*)', response.text))
