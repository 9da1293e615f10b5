"""Sessions of browsers over HTTP: how they begin, what they may do, and everything that ends them (section 22)."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest
from starlette.datastructures import Headers

from aitp_cp.accounts import edge
from aitp_cp.accounts.edge import REFUSED_SECS, BrowserSessions
from aitp_cp.protocol.scopes import Role
from tests.keys.support import called, holding, new_key
from tests.support.app import API_KEY, App, running_app
from tests.support.console import Browser, browsing, signed_in
from tests.support.proxy import Proxy
from tests.support.rows import value

pytestmark = pytest.mark.anyio


@pytest.fixture
async def other(app: App, database_url: str) -> AsyncIterator[App]:
    """A second replica of `app`."""
    async with running_app(database_url) as running:
        yield running


async def is_in(browser: Browser) -> bool:
    response = await browser.get("/console/me")
    assert response.status_code in (200, 303)
    return response.status_code == 200


async def test_a_key_is_exchanged_for_a_session(app: App) -> None:
    async with browsing(app) as browser:
        response = await browser.sign_in(API_KEY, to="/console/events?type=a%26b")
        assert (response.status_code, response.headers["location"]) == (303, "/console/events?type=a%26b")
        cookie = response.headers["set-cookie"]
        assert cookie.startswith("acp-dev=")
        assert cookie.partition("; ")[2] == "Path=/; HttpOnly; SameSite=Lax"
        assert response.headers["cache-control"] == "no-store"
        assert browser.session is not None
        assert API_KEY not in cookie
        assert await is_in(browser)
        page = (await browser.get("/console/me")).text
        assert browser.session not in page
    stored = await value(app, "SELECT digest::text || subject FROM console_sessions")
    assert browser.session not in stored


async def test_over_https_the_cookie_is_bound_to_the_host(database_url: str) -> None:
    async with running_app(database_url, CP_BASE_URL="https://cp.test") as app, browsing(app) as browser:
        browser.http.base_url = "https://cp.test"
        response = await browser.sign_in(API_KEY)
        cookie = response.headers["set-cookie"]
        assert cookie.startswith("__Host-acp=")
        assert cookie.partition("; ")[2] == "Path=/; HttpOnly; SameSite=Lax; Secure"
        assert await is_in(browser)
        browser.cookies = {"acp-dev": browser.cookies["__Host-acp"]}
        assert not await is_in(browser)


async def test_plain_http_from_elsewhere_says_why_it_cannot_work(database_url: str) -> None:
    async with running_app(database_url, CP_BASE_URL="http://cp.test") as app, browsing(app) as browser:
        browser.http.base_url = "http://cp.test"
        response = await browser.sign_in(API_KEY)
        assert (response.status_code, "keeps no session over plain HTTP" in response.text) == (400, True)
        assert "set-cookie" not in response.headers


ELSEWHERE = (
    "https://evil.example/",
    "//evil.example",
    "/\\evil.example",
    "/api/keys",
    "/console/../api/keys",
    "/console/x/%2E./.%2e",
    "/console/./login",
    "/console/login?to=x",
    "",
)


@pytest.mark.parametrize("to", ELSEWHERE)
async def test_it_leads_to_pages_of_the_console_only(app: App, to: str) -> None:
    async with browsing(app) as browser:
        response = await browser.sign_in(API_KEY, to=to)
        assert response.headers["location"] == "/console/"


async def test_every_refusal_looks_the_same_and_takes_as_long(app: App) -> None:
    reporter, revoked = await new_key(app, role="reporter"), await new_key(app)
    await app.delete(f"/api/keys/{revoked['id']}")
    mistyped = revoked["key"][:-1] + ("0" if revoked["key"][-1] != "0" else "1")
    seen = set()
    async with browsing(app) as browser:
        for key in ("", "nonsense", "acp_" + "0" * 39, mistyped, reporter["key"], revoked["key"], "ключ\u202e"):
            started = time.monotonic()
            response = await browser.sign_in(key)
            assert time.monotonic() - started >= REFUSED_SECS
            assert (response.status_code, browser.session) == (401, None)
            body = response.text.partition("<main")[2].partition("</main>")[0]
            assert not key or key not in body
            seen.add(body)
    assert len(seen) == 1
    assert await value(app, "SELECT count(*) FROM admin_audit_log WHERE action = 'console.login-failed'") == 1
    metrics = (await app.http.get("/api/metrics")).text
    assert 'console_logins_total{method="key",result="refused"} 7.0' in metrics


async def test_the_audit_says_who_came_and_went(app: App) -> None:
    async with signed_in(app, name="ana's key") as browser:
        await browser.get("/console/me")
        response = await browser.post("/console/logout")
        assert (response.status_code, response.headers["location"]) == (303, "/console/login")
        assert browser.session is None
    rows = [row for row in (await app.get("/api/audit")).json()["entries"] if row["action"].startswith("console.")]
    assert [row["action"] for row in rows] == ["console.logout", "console.login"]
    for row in rows:
        assert (row["actorId"], row["targetId"]) == (row["targetId"], row["actorId"])
        assert row["actorId"].startswith("key:")
        assert row["actorName"] == "ana's key"
        assert row["details"]["via"] == "console"
        assert row["details"]["address"] == "192.0.2.1"
    assert rows[0]["details"]["session"] == rows[1]["details"]["session"]
    assert len(rows[0]["details"]["session"]) == 8


async def test_what_a_person_does_here_is_named_in_the_audit(app: App) -> None:
    async with signed_in(app) as browser:
        page = (await browser.get("/console/keys")).text
        once = page.partition('name="once" value="')[2].partition('"')[0]
        form = {"once": once, "name": "made here", "role": "auditor", "days": "30", "rate": ""}
        assert (await browser.post("/console/keys", form)).status_code == 200
    (row,) = [
        row
        for row in (await app.get("/api/audit")).json()["entries"]
        if row["action"] == "key.create" and row["details"]["name"] == "made here"
    ]
    assert row["actorId"].startswith("key:")
    assert row["details"]["via"] == "console"
    assert row["requestId"]


async def test_a_session_is_fixed_by_nobody(app: App) -> None:
    """A token that a browser brings along is never taken over."""
    async with browsing(app) as browser:
        planted = "A" * 43
        browser.cookies["acp-dev"] = planted
        await browser.sign_in(API_KEY)
        first = browser.session
        assert first not in (None, planted)
        await browser.sign_in(API_KEY)  # again: as a step-up does
        assert browser.session not in (None, planted, first)
        assert await is_in(browser)
        browser.cookies["acp-dev"] = first or ""
        assert not await is_in(browser)
    assert await value(app, "SELECT count(*) FROM console_sessions") == 1


async def test_another_person_at_the_same_browser_ends_the_first_session(app: App) -> None:
    async with signed_in(app) as browser:
        before = browser.session
        assert (await browser.sign_in(API_KEY)).status_code == 303
        browser.cookies["acp-dev"] = before or ""
        assert not await is_in(browser)
    assert await value(app, "SELECT count(*) FROM console_sessions WHERE ended_by = 'login'") == 1


async def test_an_unused_session_ends_and_scripts_do_not_use_it(app: App) -> None:
    async with signed_in(app) as browser:
        app.clock.ahead = timedelta(minutes=29)
        assert await is_in(browser)
        app.clock.ahead = timedelta(minutes=58)
        assert (await browser.get("/console/events", headers={"X-Fragment": "rows"})).status_code == 200
        assert (await browser.get("/console/events?refresh=10")).status_code == 200
        app.clock.ahead = timedelta(minutes=60)
        response = await browser.get("/console/events", headers={"X-Fragment": "rows"})
        assert response.status_code == 401
        assert not await is_in(browser)
        app.clock.ahead = timedelta(minutes=1)
        assert not await is_in(browser)


async def test_no_session_lasts_longer_than_half_a_day(app: App) -> None:
    async with signed_in(app) as browser:
        for minutes in range(20, 12 * 60, 20):
            app.clock.ahead = timedelta(minutes=minutes)
            assert await is_in(browser)
        app.clock.ahead = timedelta(hours=12)
        assert not await is_in(browser)


async def test_the_limits_are_settings(database_url: str) -> None:
    limits = {"CONSOLE_IDLE_MINUTES": "1", "CONSOLE_MAX_HOURS": "1"}
    async with running_app(database_url, **limits) as app, signed_in(app) as browser:
        for seconds in range(0, 3600, 45):
            app.clock.ahead = timedelta(seconds=seconds)
            assert await is_in(browser)
        app.clock.ahead = timedelta(hours=1)
        assert not await is_in(browser)


End = Callable[[App, Browser], Awaitable[object]]


async def _revoke_key(app: App, browser: Browser) -> None:
    keys = (await app.get("/api/keys")).json()["keys"]
    assert (await app.delete(f"/api/keys/{keys[0]['id']}")).status_code == 200


async def _let_key_expire(app: App, browser: Browser) -> None:
    await _execute(app, "UPDATE api_keys SET expires_at = now() - interval '1 second'")


async def _take_scope_away(app: App, browser: Browser) -> None:
    await _execute(app, """UPDATE api_keys SET scopes = '["events:write"]'""")


async def _log_out(app: App, browser: Browser) -> None:
    async with browsing(app) as fresh:
        fresh.cookies = dict(browser.cookies)
        await fresh.post("/console/logout")


async def _end_by_admin(app: App, browser: Browser) -> None:
    session = await value(app, "SELECT id FROM console_sessions ORDER BY created_at LIMIT 1")
    async with signed_in(app) as admin:
        assert (await admin.post(f"/console/signed-in/{session}/end")).status_code == 303


async def _end_all_by_admin(app: App, browser: Browser) -> None:
    subject = await value(app, "SELECT subject FROM console_sessions ORDER BY created_at LIMIT 1")
    async with signed_in(app) as admin:
        assert (await admin.post("/console/signed-in/end-all", {"subject": subject})).status_code == 303


async def _end_others(app: App, browser: Browser) -> None:
    """The same key in another browser."""
    async with browsing(app) as second:
        await second.sign_in(browser.cookies["key"])
        assert (await second.post("/console/me/end", {"which": "others"})).status_code == 303
        assert await is_in(second)


async def _execute(app: App, statement: str) -> None:
    async with app.rt.db.transaction() as conn:
        await conn.execute(statement)


@pytest.mark.parametrize(
    "end",
    [_revoke_key, _let_key_expire, _take_scope_away, _log_out, _end_by_admin, _end_all_by_admin, _end_others],
    ids=lambda end: end.__name__,
)
async def test_what_ends_a_session_counts_on_the_next_request_of_every_replica(app: App, other: App, end: End) -> None:
    key = await new_key(app)
    async with browsing(app) as here, browsing(other) as there:
        await here.sign_in(key["key"])
        there.cookies = dict(here.cookies)
        here.cookies["key"] = key["key"]  # for the test alone
        assert await is_in(there)
        await end(app, here)
        assert not await is_in(there)
        assert not await is_in(here)


async def test_a_session_goes_on_when_its_key_is_rotated(app: App) -> None:
    key = await new_key(app)
    async with browsing(app) as browser:
        await browser.sign_in(key["key"])
        assert (await app.post(f"/api/keys/{key['id']}/rotate", {"overlapSecs": 0})).status_code == 201
        assert await is_in(browser)


async def test_a_key_of_the_environment_ends_with_the_setting(database_url: str) -> None:
    async with running_app(database_url) as before, browsing(before) as browser:
        await browser.sign_in(API_KEY)
        assert await is_in(browser)
        other_key = {"API_KEYS": "another-key-that-production-takes"}
        async with running_app(database_url, **other_key) as after, browsing(after) as twin:
            twin.cookies = dict(browser.cookies)
            assert not await is_in(twin)


async def test_a_role_sees_what_its_key_may(app: App) -> None:
    async with signed_in(app, Role.AUDITOR) as auditor:
        assert (await auditor.get("/console/events")).status_code == 200
        response = await auditor.get("/console/keys")
        assert (response.status_code, "SCOPE_MISSING" in response.text) == (403, True)
        page = (await auditor.get("/console/me")).text
        assert "/console/keys" not in page
        assert (await auditor.post("/console/keys", {"name": "x"})).status_code == 403
        assert (await auditor.post("/console/signed-in/end-all", {"subject": "user:x"})).status_code == 403


async def test_two_doors_apart(app: App) -> None:
    key = await new_key(app)
    async with signed_in(app) as browser:
        response = await browser.get("/api/whoami")
        assert (response.status_code, response.json()["code"]) == (401, "INVALID_API_KEY")
        for path in ("/console/me", "/console/events"):
            assert (await called(app, key, "GET", path, headers={"Host": "localhost"})).status_code == 303
        assert (await browser.get("/console/me", headers=holding("wrong"))).status_code == 200


async def test_guesses_are_limited_by_address_and_by_subject(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "REFUSED_SECS", 0.0)
    async with running_app(database_url, RATE_LIMIT_ENABLED="true") as app, browsing(app) as browser:
        statuses = [(await browser.sign_in("acp_guess")).status_code for _ in range(6)]
        assert statuses == [401] * 5 + [429]
        metrics = (await app.http.get("/api/metrics")).text
        assert 'rate_limit_drops{bucket="login-ip"} 1.0' in metrics
    limits = {"RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_LOGIN_PER_IP_MIN": "0"}
    async with running_app(database_url, **limits) as app, browsing(app) as browser:
        statuses = [(await browser.sign_in(f"acp_gues{n}")).status_code for n in range(11)]
        assert statuses == [401] * 10 + [429]
        assert (await browser.sign_in("acp_else")).status_code == 401
        assert 'rate_limit_drops{bucket="login-subject"} 1.0' in (await app.http.get("/api/metrics")).text


async def test_a_stream_learns_that_its_session_has_ended(app: App, other: App) -> None:
    """As the live bell asks: without waiting, and within two seconds."""
    async with signed_in(app) as browser:
        browsers = other.rt.get(BrowserSessions)
        headers = Headers({"host": "localhost", "cookie": f"acp-dev={browser.session}"})
        principal = await browsers.find(headers, active=False)
        assert principal is not None
        assert browsers.is_valid(principal)
        await asyncio.sleep(0.1)
        assert browsers.is_valid(principal)
        await browser.post("/console/logout")
        started = time.monotonic()
        while browsers.is_valid(principal):
            assert time.monotonic() - started < 2
            await asyncio.sleep(0.02)


async def test_while_the_database_is_away_a_session_is_known_for_a_minute(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that pages can say what still works; nobody else is let in, and nothing can be changed."""
    async with Proxy(database_url) as proxy, running_app(proxy.dsn) as app, signed_in(app) as browser:
        assert await is_in(browser)
        await proxy.stop()
        for still_known in (True, False):
            response = await browser.get("/console/me")
            assert (response.status_code, "DATABASE_UNAVAILABLE" in response.text) == (503, True)
            assert ('class="who"' in response.text) is still_known
            monkeypatch.setattr(edge, "TRUST_SECS", -1.0)
        async with browsing(app) as stranger:
            assert (await stranger.get("/console/me")).status_code == 303
            assert (await stranger.sign_in("acp_" + "0" * 39)).status_code == 401
        await proxy.start()
        assert await is_in(browser)
