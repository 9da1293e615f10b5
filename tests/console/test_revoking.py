"""`/console/tokens`, `/console/delegations` and `/console/revocations`."""

import re
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid1, uuid4

import aitp
import pytest

from aitp_cp.protocol.scopes import Role
from tests.console.test_containing import form_in
from tests.containment.support import claimed, delegated, proven, report, signed
from tests.support.agents import claims_in, new_agent
from tests.support.app import App
from tests.support.console import browsing, signed_in

pytestmark = pytest.mark.anyio

HOSTILE = "<img src=x onerror=alert(1)>\u202e"


async def test_tokens_with_verdict_and_what_ends_soon(guarded: App) -> None:
    issuer, holder = new_agent(), new_agent()
    soon = int((guarded.clock() + timedelta(minutes=30)).timestamp())
    [real] = await report(guarded, proven(signed(issuer, holder, exp=soon)))
    [claim] = await report(guarded, claimed(issuer.aid, holder.aid, grants=[HOSTILE]))
    async with signed_in(guarded, Role.AUDITOR) as browser:
        page = (await browser.get("/console/tokens")).text
        assert f'href="/console/tokens/{real}"' in page
        assert f'href="/console/tokens/{claim}"' in page
        assert "✔</span> verified" in page
        assert "<img" not in page
        for query, jtis in (("expires=1h", [real]), ("verdict=none", [claim]), ("active=true", [real, claim])):
            shown = re.findall(r'<tr id="t([0-9a-f-]+)"', (await browser.get(f"/console/tokens?{query}")).text)
            assert sorted(shown) == sorted(jtis), query
        assert (await browser.get("/console/tokens?expires=2y")).status_code == 400
        region = await browser.get("/console/tokens", headers={"X-Fragment": "rows"})
        assert region.text.startswith('<section id="rows"')
        one = (await browser.get(f"/console/tokens/{real}")).text
        assert "Revoke for good" not in one  # an auditor


async def test_a_token_says_who_said_what(app: App) -> None:
    issuer, holder, other = new_agent(), new_agent(), new_agent()
    token = signed(issuer, holder)
    jti = claims_in(token)["jti"]
    for event in (claimed(other.aid, other.aid, jti=jti), proven(token)):
        await app.http.post("/api/events", json=[event])
    async with browsing(app) as browser:
        page = (await browser.get(f"/console/tokens/{jti}")).text
        assert page.count("a shared key") >= 2
        assert issuer.aid in page


async def test_a_token_is_revoked_with_what_the_plan_shows(guarded: App) -> None:
    issuer, holder = new_agent(), new_agent()
    [jti] = await report(guarded, claimed(issuer.aid, holder.aid))
    await report(guarded, delegated(holder.aid, new_agent().aid, jti, scope=["a"]))
    path = f"/console/tokens/{jti}"
    async with signed_in(guarded, Role.OPERATOR) as browser:
        page = await browser.get(path)
        assert "this id and 1 live delegations below it" in page.text
        form = form_in(page, reason="key lost")
        await report(guarded, delegated(holder.aid, new_agent().aid, jti, scope=["a"]))
        changed = await browser.post(f"{path}/revoke", form)
        assert (changed.status_code, "2 live delegations" in changed.text) == (409, True)
        assert (await guarded.get("/api/revocation/entries")).json()["count"] == 0
        done = await browser.post(f"{path}/revoke", form_in(changed, reason="key lost"))
        assert (done.status_code, done.headers["location"]) == (303, path)
        page = await browser.get(path)
        assert "on the deny list since" in page.text
        assert "Revoke for good" not in page.text
    [entry] = (await guarded.get("/api/revocation/entries")).json()["entries"]
    assert (entry["jti"], entry["reason"]) == (jti, "key lost")
    rows = (await guarded.get("/api/audit?action=revocation.add")).json()
    assert "console" in str(rows)


async def test_a_tree_shows_narrowed_scopes_and_who_revokes_what(guarded: App) -> None:
    one, two, three, four = (new_agent() for _ in range(4))
    [jti] = await report(guarded, claimed(one.aid, two.aid, grants=["read", "write"]))
    [first] = await report(guarded, delegated(two.aid, three.aid, jti, scope=["read"]))
    [second] = await report(guarded, delegated(three.aid, four.aid, first, scope=["read"]))
    await guarded.post("/api/revocation/entries", {"jti": first})
    async with signed_in(guarded, Role.OPERATOR) as browser:
        page = (await browser.get(f"/console/delegations/{jti}")).text
        assert re.search(r"<s><span class=\"chip none\">write</span></s>", page)
        assert "✖</span> revoked here" in page
        assert "✖</span> revoked above" in page
        assert "1 below" in page
        assert f'href="/console/tokens/{jti}"' in page
        below = (await browser.get(f"/console/delegations/{second}")).text
        assert f'href="/console/delegations/{first}"' in below
        region = await browser.get(f"/console/delegations/{jti}", headers={"X-Fragment": "tree"})
        assert region.text.startswith('<section id="tree"')
        for unknown in (uuid4(), "nothing"):
            assert (await browser.get(f"/console/delegations/{unknown}")).status_code in (400, 404)
        form = form_in(await browser.get(f"/console/delegations/{second}"), reason="")
        done = await browser.post(f"/console/delegations/{second}/revoke", form)
        assert done.status_code == 303
    assert (await guarded.get("/api/revocation/entries")).json()["count"] == 2


async def test_the_signed_list_is_checked_and_can_be_taken_along(app: App) -> None:
    async with browsing(app) as browser:
        empty = (await browser.get("/console/revocations")).text
        assert "empty and signed: nothing is revoked" in empty
        assert "✔</span> verified" in empty
        v1 = UUID(int=uuid1().int)
        for jti in (str(uuid4()), str(v1)):
            await app.http.post("/api/revocation/entries", json={"jti": jti, "reason": HOSTILE})
        page = (await browser.get("/console/revocations")).text
        assert "<img" not in page
        assert "✖</span> cannot hold it" in page
        assert page.count('<tr id="r') == 2
        assert (await browser.get(f"/console/revocations?jti={v1}")).text.count('<tr id="r') == 1
        file = await browser.get("/console/revocations/list")
        assert "attachment" in file.headers["content-disposition"]
        aitp.verify_revocation_list(file.text, app.rt.signer.aid)
        led: dict[str, Any] = {}
        for given in (str(v1), "nonsense"):
            led[given] = (await browser.get(f"/console/revocations/plan?jti={given}")).headers["location"]
        assert led == {str(v1): f"/console/tokens/{v1}", "nonsense": "/console/revocations"}
        unknown = (await browser.get(f"/console/tokens/{uuid4()}")).text
        assert "It can be revoked all the same" in unknown
        for region in ("signed", "rows"):
            response = await browser.get("/console/revocations", headers={"X-Fragment": region})
            assert response.text.startswith(f'<section id="{region}"')
