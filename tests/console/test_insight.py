"""`/console/`, `/console/graph` and `/console/system`: what is wrong, who trusts whom, and this deployment."""

import inspect
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aitp_cp.console.parts.state import CONCERNS
from aitp_cp.dashboard.first_screen import FirstScreens
from aitp_cp.ops import attention
from aitp_cp.ops.attention import AttentionLines
from aitp_cp.ops.heartbeat import Heartbeat
from aitp_cp.protocol.scopes import Role
from tests.console.test_events import HOSTILE, SHOWN, handshake
from tests.dashboard.test_trust import hop, token
from tests.support.app import API_KEY, SECRET, SEED, App, running_app
from tests.support.console import signed_in
from tests.support.rows import execute

pytestmark = pytest.mark.anyio


async def page(app: App, path: str = "/console/", **more: Any) -> str:
    for memo in (AttentionLines, FirstScreens):
        app.rt.get(memo).clear()  # type: ignore[attr-defined]
    response = await app.http.get(path, **more)
    assert response.status_code == 200, response.text
    return response.text


async def test_the_first_screen_of_an_empty_deployment_says_how_to_begin(app: App) -> None:
    shown = await page(app)
    assert "nothing needs attention" in shown
    assert "http://cp.test/api/registry/enroll" in shown
    assert "Nobody has changed anything yet" in shown
    assert re.search(r"✔</span> database \d+ ms", shown)


async def test_the_first_screen_shows_what_is_wrong_and_how_things_go(app: App) -> None:
    await app.http.post(
        "/api/events",
        json=[handshake(), *(handshake(f"f-{n}", aid_a=HOSTILE) | {"type": "handshake.failed"} for n in range(11))],
    )
    shown = await page(app, "/console/?range=1h")
    assert "failed handshakes within the last hour" in shown
    assert SHOWN.split("&#34;")[0] in shown
    assert "<img" not in shown
    assert "8.3 % complete" in shown
    links = re.findall(r'<a href="(/console/sessions\?since=[^"]+)" aria-label="([^"]+)"', shown)
    assert len(links) in (60, 61)
    target = next(url for url, said in links if "11 failed" in said).replace("&amp;", "&")
    assert (await page(app, target)).count('<tr id="k') == 12
    one = await page(app, "/console/", headers={"X-Fragment": "facts"})
    assert one.lstrip().startswith('<section id="facts"')
    assert "Needs attention" not in one


async def test_a_part_that_fails_leaves_the_others_standing(app: App) -> None:
    await execute(app, "ALTER TABLE replicas RENAME TO elsewhere")
    shown = await page(app)
    assert "INTERNAL" in shown
    assert "Enrol a first agent" in shown
    assert "INTERNAL" in await page(app, "/console/system")


async def test_the_picture_of_trust_has_links_and_a_table_beside_it(app: App) -> None:
    await app.http.post(
        "/api/events",
        json=[
            token(app, 1, "planner", "centre"),
            token(app, 2, "planner", "centre"),
            token(app, 3, "centre", HOSTILE),
            token(app, 4, "centre", "broker"),
            hop(app, 11, 4, "broker", "worker"),
        ],
    )
    await execute(app, "UPDATE issued_tcts SET verdict = 'verified' WHERE issuer_aid = 'planner'")
    assert 'href="/console/graph?aid=centre"' in await page(app, "/console/graph")
    shown = await page(app, "/console/graph?aid=centre&delegations=on")
    assert "<img" not in shown
    assert shown.count('<a href="/console/graph?aid=') == 5
    assert (shown.count('class="line verified"'), shown.count('class="line claimed"')) == (1, 2)
    assert shown.count('class="line delegated"') == 1
    assert "3 peers hold a live token of it or for it" in shown
    assert "1 agents, 2 tokens, 2 verified" in shown
    assert 'class="line delegated"' not in await page(app, "/console/graph?aid=centre")
    assert "No live token between" in await page(app, "/console/graph?aid=nobody")
    assert 'role="group"' in await page(app, "/console/graph", params={"aid": HOSTILE})
    refused = await app.http.get("/console/graph?aid=centre&delegations=perhaps")
    assert (refused.status_code, "FILTER_INVALID" in refused.text) == (400, True)


async def test_a_graph_without_tokens_says_so(app: App) -> None:
    assert "nobody trusts anybody yet" in await page(app, "/console/graph")


async def test_the_system_shows_processes_jobs_and_settings_without_secrets(app: App) -> None:
    app.rt.job_runs.record("a.job", app.rt.clock(), 0.5, ValueError("hunter2"))
    app.rt.job_runs.record("retention.sweep", app.rt.clock(), 0.1, None)
    await app.rt.get(Heartbeat).beat()
    shown = await page(app, "/console/system")
    assert shown.count(f'title="{app.rt.id}"') >= 3
    assert "ValueError" in shown
    assert "hunter2" not in shown
    assert re.search(r"Retention: last <time[^>]*>now</time>, next <time", shown)
    assert "<code>DATABASE_URL</code>" in shown
    for secret in (SEED, SECRET, API_KEY, app.rt.db.dsn):
        assert secret not in shown


@pytest.fixture
async def guarded(database_url: str) -> AsyncIterator[App]:
    async with running_app(database_url, CP_BASE_URL="http://localhost:4000") as running:
        yield running


async def test_without_the_scope_there_is_no_page_and_no_button(guarded: App) -> None:
    await execute(
        guarded,
        "INSERT INTO issued_tcts (jti, issuer_aid, subject_aid, audience_aid, grants, issued_at)"
        " VALUES (gen_random_uuid(), 'centre', 'peer', 'peer', '[]', now())",
    )
    async with signed_in(guarded, Role.AUDITOR) as browser:
        shown = await browser.get("/console/graph?aid=centre")
        assert (shown.status_code, "/agents/centre/contain" in shown.text) == (200, False)
        first = (await browser.get("/console/")).text
        assert "API_KEYS is still set" in first
        assert "/console/keys" not in first
    async with signed_in(guarded, Role.OPERATOR) as browser:
        assert "/console/agents/centre/contain" in (await browser.get("/console/graph?aid=centre")).text
    assert (await guarded.http.get("/console/system", headers={"Host": "localhost:4000"})).status_code == 303


def test_every_concern_has_words() -> None:
    kinds = set(re.findall(r'_line\(\s*(?:"\w+"|severity),\s*"([a-z-]+)"', inspect.getsource(attention)))
    assert len(kinds) > 10
    assert kinds == CONCERNS.keys()
