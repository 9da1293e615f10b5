"""API keys in the console: shown once, made and changed only soon after a proof of who the person is."""

import asyncio
from datetime import timedelta

import pytest

from aitp_cp.protocol.scopes import Role
from tests.keys.support import new_key, outcome
from tests.support.app import API_KEY, App, running_app
from tests.support.console import Browser, browsing, signed_in
from tests.support.rows import value
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

WAITING = """
SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
WHERE datname = current_database() AND NOT granted AND relation = 'api_keys'::regclass
"""


async def form_of(browser: Browser, **fields: str) -> dict[str, str]:
    """The form of a new key, as the page gives it."""
    page = (await browser.get("/console/keys")).text
    once = page.partition('name="once" value="')[2].partition('"')[0]
    return {"once": once, "name": "made here", "role": "auditor", "days": "30", "rate": "", **fields}


def key_in(page: str) -> str:
    return page.partition('data-copy="')[2].partition('"')[0]


async def test_a_key_is_made_and_shown_once(guarded: App) -> None:
    async with signed_in(guarded) as browser:
        form = await form_of(browser, rate="30", name="nightly <b>report")
        response = await browser.post("/console/keys", form, headers={"Accept-Encoding": "gzip"})
        key = key_in(response.text)
        assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
        assert "content-encoding" not in response.headers
        assert await outcome(guarded, key) == (200, None)
        again = await browser.post("/console/keys", form)
        assert (again.status_code, "was used before" in again.text, key in again.text) == (200, True, False)
        edited = await browser.post("/console/keys", {**form, "role": "admin"})
        assert (edited.status_code, "this form was sent before, with other values" in edited.text) == (422, True)
        assert 'name="once"' in edited.text  # the page with a form for another try
        assert await value(guarded, "SELECT count(*) FROM api_keys") == 2
        page = (await browser.get("/console/keys")).text
        assert "nightly &lt;b&gt;report" in page
        assert key not in page
        assert key[:8] in page


async def test_a_form_that_is_still_being_worked_on_offers_no_fresh_one(guarded: App) -> None:
    """A second press would make a second key."""
    async with signed_in(guarded) as browser:
        form = await form_of(browser)
        async with guarded.rt.db.transaction() as conn:
            await conn.execute("LOCK TABLE api_keys IN EXCLUSIVE MODE")
            first = asyncio.create_task(browser.post("/console/keys", form))
            await until(lambda: conn.fetchval(WAITING))
            response = await browser.post("/console/keys", form)
        assert response.status_code == 409
        assert "It is not known whether this was done" in response.text
        assert 'name="once"' not in response.text
        assert key_in((await first).text)
        assert await value(guarded, "SELECT count(*) FROM api_keys") == 2


async def test_a_key_is_rotated_and_revoked(guarded: App) -> None:
    key = await new_key(guarded, role="operator")
    async with signed_in(guarded) as browser:
        form = await form_of(browser, overlap="3600")
        response = await browser.post(f"/console/keys/{key['id']}/rotate", form)
        fresh = key_in(response.text)
        assert await outcome(guarded, fresh) == await outcome(guarded, key) == (200, None)
        revoked = await browser.post(f"/console/keys/{key['id']}/revoke", {"family": "on", "reason": "it leaked"})
        assert (revoked.status_code, revoked.headers["location"]) == (303, "/console/keys")
        assert await outcome(guarded, fresh) == await outcome(guarded, key) == (401, "API_KEY_REVOKED")
        page = (await browser.get("/console/keys?state=revoked")).text
        assert "it leaked" in page
    rows = (await guarded.get("/api/audit")).json()["entries"]
    done = {row["action"]: row for row in rows if row["details"].get("via") == "console"}
    assert {"key.rotate", "key.revoke"} <= done.keys()
    assert done["key.revoke"]["details"]["reason"] == "it leaked"


async def test_what_is_wrong_in_a_form_makes_no_key(guarded: App) -> None:
    async with signed_in(guarded) as browser:
        for wrong in ({"role": "king"}, {"days": "7000"}, {"rate": "many"}, {"once": ""}, {"name": ""}, {"rate": "-1"}):
            response = await browser.post("/console/keys", await form_of(browser, **wrong))
            assert response.status_code == 400, wrong
        response = await browser.post("/console/keys/nothing/revoke", {"reason": ""})
        assert response.status_code == 400
        assert (await browser.post("/console/keys", {})).status_code == 400
    assert await value(guarded, "SELECT count(*) FROM api_keys") == 1


async def test_after_five_minutes_the_key_is_asked_for_again(guarded: App) -> None:
    made = await new_key(guarded)
    async with browsing(guarded) as browser:
        await browser.sign_in(made["key"])
        form = await form_of(browser)
        guarded.clock.ahead = timedelta(minutes=6)
        page = (await browser.get("/console/keys")).text
        assert "confirm that it is you" in page
        assert 'action="/console/keys"' not in page.replace('class="filters" action="/console/keys"', "")
        for path in ("/console/keys", f"/console/keys/{made['id']}/rotate", f"/console/keys/{made['id']}/revoke"):
            response = await browser.post(path, form)
            assert response.status_code == 303
            assert response.headers["location"] == "/console/login?to=%2Fconsole%2Fkeys&again=1"
        assert await value(guarded, "SELECT count(*) FROM api_keys") == 1
        asked = (await browser.get(response.headers["location"])).text
        assert "less than five minutes old" in asked
        before = browser.session
        again = await browser.post("/console/login?again=1", {"key": made["key"], "to": "/console/keys"})
        assert again.headers["location"] == "/console/keys"
        assert browser.session != before
        assert (await browser.post("/console/keys", await form_of(browser))).status_code == 200
    assert await value(guarded, "SELECT count(*) FROM admin_audit_log WHERE action = 'console.step-up'") == 1


async def test_nobody_gives_more_than_he_has(guarded: App) -> None:
    soon = guarded.clock() + timedelta(days=40)
    async with signed_in(guarded, expiresAt=soon.isoformat()) as browser:
        assert (await browser.post("/console/keys", await form_of(browser, days="30"))).status_code == 200
        beyond = await browser.post("/console/keys", await form_of(browser, days="90"))
        assert (beyond.status_code, "GRANT_EXCEEDED" in beyond.text) == (403, True)


async def test_keys_of_the_environment_are_marked(guarded: App) -> None:
    async with browsing(guarded) as browser:
        await browser.sign_in(API_KEY)
        page = (await browser.get("/console/keys")).text
        assert page.count("apikey:") >= 2
        assert API_KEY not in page


async def test_an_operator_has_no_page_of_keys(guarded: App) -> None:
    async with signed_in(guarded, Role.OPERATOR) as browser:
        for path in ("/console/keys", "/console/signed-in"):
            assert (await browser.get(path)).status_code == 403
        assert "/console/keys" not in (await browser.get("/console/me")).text


async def test_who_is_signed_in_and_that_an_administrator_looked(guarded: App) -> None:
    made = await new_key(guarded, role="auditor", name="“ana”")
    async with browsing(guarded) as ana, signed_in(guarded) as admin:
        ana.http.headers["User-Agent"] = "<img src=x onerror=alert(1)>" + "x" * 1000
        assert (await ana.sign_in(made["key"])).status_code == 303
        page = (await admin.get("/console/signed-in")).text
        assert "“ana”" in page
        assert "&lt;img src=x" in page
        subject = f"key:{made['family']}"
        one = (await admin.get("/console/signed-in", params={"subject": subject})).text
        assert "End every session of" in one
        assert "Nobody is signed in" in (await admin.get("/console/signed-in?subject=user:nobody")).text
        assert "FILTER_INVALID" in (await admin.get("/console/signed-in?subject=a%00b")).text
    rows = (await guarded.get("/api/audit")).json()["entries"]
    seen = [row["targetId"] for row in rows if row["action"] == "console.sessions.view"]
    assert seen == ["user:nobody", subject, "*"]


async def test_my_page_behind_an_open_gate(database_url: str) -> None:
    async with running_app(database_url, API_KEYS="") as app, browsing(app) as browser:
        page = await browser.get("/console/me")
        assert (page.status_code, "anonymous" in page.text) == (200, True)
        assert (await browser.post("/console/me/end", {"which": "others"})).status_code == 303
        assert "nobody needs to sign in" in (await browser.get("/console/login")).text
        assert (await browser.get("/console/signed-in")).status_code == 200


async def test_one_ends_only_sessions_of_ones_own(guarded: App) -> None:
    async with signed_in(guarded) as victim, signed_in(guarded, Role.AUDITOR) as browser:
        theirs = await value(guarded, "SELECT id FROM console_sessions ORDER BY created_at LIMIT 1")
        for which in (str(theirs), "nonsense", ""):
            await browser.post("/console/me/end", {"which": which})
        assert (await victim.get("/console/me")).status_code == 200
