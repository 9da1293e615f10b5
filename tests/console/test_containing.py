"""`/console/agents/{aid}/contain` and `/console/containments`: the plan, the act, its reach and its end."""

import re
from typing import Any

import httpx
import pytest

from aitp_cp.clock import now
from aitp_cp.console.parts.link import link
from aitp_cp.protocol.scopes import Role
from aitp_cp.revocation import holders
from aitp_cp.revocation.holders import NONE, Holder
from tests.containment.support import claimed, contain, contained, delegated, proven, report, signed
from tests.support.agents import Agent, new_agent
from tests.support.app import App
from tests.support.console import Browser, browsing, signed_in
from tests.support.rows import value

pytestmark = pytest.mark.anyio

HOSTILE = "<img src=x onerror=alert(1)>\u202e"


def page_of(agent: Agent) -> str:
    return link("/agents/{aid}/contain", aid=agent.aid)


def form_in(page: httpx.Response, **typed: str) -> dict[str, str]:
    """What a browser sends: the hidden fields of the form, and what was typed."""
    assert page.status_code in (200, 409), page.text
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text))
    return {name: value for name, value in hidden.items() if name != "to"} | typed


async def test_the_plan_is_shown_and_carried_out(guarded: App) -> None:
    bad, peer = new_agent(), new_agent()
    token = claimed(bad.aid, peer.aid)
    jti = token["payload"]["tct"]["jti"]
    below = delegated(peer.aid, new_agent().aid, jti, scope=["a"])
    await report(guarded, token, claimed(peer.aid, bad.aid), below)
    async with signed_in(guarded, Role.OPERATOR) as browser:
        page = await browser.get(page_of(bad))
        assert all(part in page.text for part in ("1 issued · 1 held · 1 delegations below", peer.aid, "2 none"))
        form = form_in(page, reason=HOSTILE[:28], ticket="INC-7", typed=bad.aid[-4:])
        done = await browser.post(page_of(bad), form)
        assert done.status_code == 303, done.text
        shown = (await browser.get(done.headers["location"])).text
        assert all(
            part in shown for part in ("✖</span> contained", "INC-7", "0 of 1 exposed peers confirmed", peer.aid)
        )
        assert "<img" not in shown
        again = await browser.get(page_of(bad))
        assert again.headers["location"] == done.headers["location"]
        listed = (await browser.get("/console/containments?open=true")).text
        assert done.headers["location"] in listed
        assert (await browser.post(page_of(bad), form)).status_code == 303  # the same form again: nothing happens
    stored = (await guarded.get("/api/containments")).json()["containments"]
    assert [(each["aid"], each["reason"], each["ticket"]) for each in stored] == [(bad.aid, HOSTILE[:28], "INC-7")]
    said = "SELECT details ->> 'via' FROM admin_audit_log WHERE action = 'agent.contain'"
    assert await value(guarded, said) == "console"


async def test_a_plan_that_has_changed_is_shown_with_what_differs(app: App) -> None:
    bad = new_agent()
    await app.http.post("/api/events", json=[claimed(bad.aid, new_agent().aid)])
    async with browsing(app) as browser:
        form = form_in(await browser.get(page_of(bad)), reason="key lost", typed=bad.aid[-4:])
        await app.http.post("/api/events", json=[claimed(bad.aid, new_agent().aid)])
        changed = await browser.post(page_of(bad), form)
        assert changed.status_code == 409
        assert all(
            part in changed.text for part in ("issued: 1 → 2", "peers: 1 → 2", "nothing was done", 'value="key lost"')
        )
        assert (await app.http.get("/api/containments")).json()["containments"] == []
        done = await browser.post(page_of(bad), form_in(changed, reason="key lost", typed=bad.aid[-4:]))
        assert done.headers["location"].startswith("/console/containments/")


@pytest.mark.parametrize(
    ("typed", "status"),
    [
        ({"typed": "????"}, 409),
        ({"reason": ""}, 409),
        ({"reason": "x" * 501}, 400),
        ({"include": "none"}, 400),
        ({"expect": ""}, 409),
    ],
)
async def test_what_is_not_a_whole_form_does_nothing(app: App, typed: dict[str, str], status: int) -> None:
    bad = new_agent()
    async with browsing(app) as browser:
        form = form_in(await browser.get(page_of(bad)), reason="key lost", typed=bad.aid[-4:])
        assert (await browser.post(page_of(bad), form | typed)).status_code == status
        assert (await browser.get(link("/agents/{aid}/contain", aid="nobody"))).status_code == 400
    assert (await app.http.get("/api/containments")).json()["containments"] == []


async def test_a_role_without_the_scope_sees_and_does_nothing(guarded: App) -> None:
    bad = new_agent()
    done = await contained(guarded, bad)
    path = f"/console/containments/{done['containment']['id']}"
    async with signed_in(guarded, Role.AUDITOR) as browser:
        for response in (await browser.get(page_of(bad)), await browser.post(page_of(bad), {"reason": "x"})):
            assert response.status_code == 403
        page = await browser.get(path)
        assert (page.status_code, "Release" in page.text) == (200, False)
        assert (await browser.post(f"{path}/release", {"reason": "x"})).status_code == 403


async def test_an_old_proof_of_who_acts_is_not_enough(guarded: App) -> None:
    bad = new_agent()
    async with signed_in(guarded, Role.OPERATOR) as browser:
        form = form_in(await browser.get(page_of(bad)), reason="x", typed=bad.aid[-4:])
        await _age(guarded)
        assert "Contain now" not in (await browser.get(page_of(bad))).text
        response = await browser.post(page_of(bad), form)
        assert response.status_code != 303 or "/console/login" in response.headers["location"]
    assert (await guarded.get("/api/containments")).json()["containments"] == []


async def _age(app: App) -> None:
    """Let the proof of whoever is signed in be six minutes old."""
    async with app.rt.db.transaction() as conn:
        await conn.execute("UPDATE console_sessions SET auth_at = auth_at - interval '6 minutes'")


async def test_a_peer_that_was_sent_the_list_is_not_confirmed(guarded: App) -> None:
    bad, *peers = (new_agent() for _ in range(4))
    await report(guarded, *(proven(signed(bad, peer)) for peer in peers))
    done = await contained(guarded, bad)
    version = await value(guarded, "SELECT max(version) FROM revocation_version")
    seen: list[tuple[Agent, dict[str, Any]]] = [
        (peers[0], {"holds": version, "sent": version}),
        (peers[1], {"holds": NONE, "sent": version}),
        (peers[2], {"holds": version - 1, "sent": NONE}),
    ]
    async with guarded.rt.db.transaction() as conn:
        await holders.write(conn, [Holder("agent", peer.aid, seen_at=now(), **shown) for peer, shown in seen])
    async with signed_in(guarded, Role.AUDITOR) as browser:
        path = f"/console/containments/{done['containment']['id']}"
        page = (await browser.get(path)).text
        assert "1 of 3 exposed peers confirmed · 1 sent · 1 unknown" in page
        rows = re.findall(r"</span> (confirmed|sent|unknown)</span></td>", page)
        assert rows == ["unknown", "sent", "confirmed"]
        assert '<progress max="3" value="1"' in page
        region = await browser.get(path, headers={"X-Fragment": "reach"})
        assert region.text.startswith('<section id="reach"')


async def test_a_release_ends_it_once(app: App) -> None:
    bad = new_agent()
    done = (await contain(app, bad)).json()["containment"]
    async with browsing(app) as browser:
        path = f"/console/containments/{done['id']}"
        assert (await browser.post(f"{path}/release", {"reason": " "})).status_code == 400
        for _ in range(2):
            response = await browser.post(f"{path}/release", {"reason": "a new key"})
            assert (response.status_code, response.headers["location"]) == (303, path)
        assert "released" in (await browser.get(path)).text
    [stored] = (await app.http.get("/api/containments?open=false")).json()["containments"]
    assert stored["releaseReason"] == "a new key"


async def test_pages_without_rows_say_so(app: App) -> None:
    async with browsing(app) as browser:
        assert "No containment matches" in (await browser.get("/console/containments")).text
        page = (await browser.get(page_of(new_agent()))).text
        assert "No peer holds a live token" in page
        unknown: Browser = browser
        assert (await unknown.get("/console/containments/6fa459ea-ee8a-4ca4-894e-db77e160355e")).status_code == 404
