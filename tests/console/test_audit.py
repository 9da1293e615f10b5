"""`/console/audit`: who did what, and the file of it."""

import re

import pytest

from aitp_cp.protocol.scopes import Role
from tests.console.test_events import HOSTILE, SHOWN
from tests.keys.support import new_key
from tests.support.app import App, running_app
from tests.support.console import browsing, signed_in
from tests.support.enrolment import audit_of
from tests.support.rows import execute

pytestmark = pytest.mark.anyio

ROW = """
INSERT INTO admin_audit_log (id, action, actor_id, actor_name, target_id, request_id, details, created_at)
VALUES (gen_random_uuid(), $1, $2::text, $2::text, $3, $4, jsonb_build_object('said', $5::text),
        now() - interval '1 hour')
"""


async def test_rows_lead_to_their_like_and_to_their_request(app: App) -> None:
    assert "No entry matches" in (await app.http.get("/console/audit")).text
    for number in range(3):
        await execute(app, ROW, f"agent.action-{number}", "key:ana", f"aid:pubkey:{number}", "the-request", "")
    await execute(app, ROW, "other.action", "key:ben", "thing", "another", "")
    page = (await app.http.get("/console/audit?actor=key:ana&limit=2")).text
    assert page.count('<tr id="a') == 2
    assert 'data-copy="http://cp.test/console/audit?actor=key:ana&amp;limit=2"' in page
    assert "aitp-cp audit list --actor=key:ana<" in page
    older = re.findall(r'rel="next" href="([^"]+)"', page)[0].replace("&amp;", "&")
    assert (await app.http.get(older)).text.count('<tr id="a') == 1
    entry = re.findall(r'href="(/console/audit/[0-9a-f-]{36})"', page)[0]
    one = (await app.http.get(entry)).text
    assert len(re.findall(r'href="/console/audit/[0-9a-f-]{36}"', one)) == 2
    assert "other.action" not in one
    assert (await app.http.get("/console/audit/0f8fad5b-d9cb-469f-a165-70867728950e")).status_code == 404
    assert (await app.http.get("/console/audit?since=soon")).status_code == 400


async def test_hostile_text_is_shown_as_text(app: App) -> None:
    await execute(app, ROW, "=1+1", HOSTILE, HOSTILE, HOSTILE[:100], HOSTILE)
    page = (await app.http.get("/console/audit")).text
    entry = re.findall(r'href="(/console/audit/[0-9a-f-]{36})"', page)[0]
    for text in (page, (await app.http.get(entry)).text):
        assert "<img" not in text
        assert text.count(SHOWN) >= 2
        assert not {"\u202e", "\u200b"} & set(text)
    table = (await app.http.get("/console/audit/export?format=csv")).text
    assert ",'=1+1," in table


async def test_the_files_are_those_of_the_filter_and_audited(database_url: str) -> None:
    async with running_app(database_url) as app, signed_in(app, Role.AUDITOR) as browser:
        page = (await browser.get("/console/audit?action=key.create")).text
        for kind in ("csv", "jsonl"):
            url = re.findall(rf'href="(/console/audit/export\?format={kind}[^"]*)"', page)[0].replace("&amp;", "&")
            file = await browser.get(url)
            assert file.text.count("key.create") == 1
            assert "attachment" in file.headers["content-disposition"]
        exports = [row for row in await audit_of(app) if row["action"] == "audit.export"]
        assert [row["details"]["format"] for row in exports] == ["csv", "jsonl"]
        assert {row["actorId"].partition(":")[0] for row in exports} == {"key"}


async def test_without_the_scope_there_is_no_page(database_url: str) -> None:
    async with running_app(database_url) as app, browsing(app) as browser:
        await browser.sign_in((await new_key(app, scopes=["dashboard:read"]))["key"])
        assert (await browser.get("/console/audit")).status_code == 403
        assert (await browser.get("/console/audit/export")).status_code == 403
        assert 'href="/console/audit"' not in (await browser.get("/console/")).text
