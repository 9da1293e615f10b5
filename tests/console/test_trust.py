"""`/console/trust`: anchors and pinned keys, and that each change needs a fresh sign-in (step-up)."""

import re
from datetime import timedelta

import pytest

from aitp_cp.protocol.scopes import Role
from tests.console.test_events import HOSTILE, SHOWN
from tests.support.agents import new_agent
from tests.support.app import App, running_app
from tests.support.console import browsing, signed_in
from tests.support.enrolment import audit_of
from tests.support.rows import execute

pytestmark = pytest.mark.anyio

ISSUER = "https://idp.example"


async def test_anchors_and_pins_come_and_go(app: App) -> None:
    agent = new_agent()
    async with browsing(app) as browser:
        page = (await browser.get("/console/trust")).text
        assert "No anchor." in page
        assert "No key is pinned." in page
        form = {"issuerUrl": ISSUER, "label": HOSTILE, "namespace": "home"}
        assert (await browser.post("/console/trust/anchors", form)).status_code == 303
        assert "has a trust anchor" in (await browser.post("/console/trust/anchors", form)).text
        assert (await browser.post("/console/trust/pins", {"aid": agent.aid, "label": "checked"})).status_code == 303
        page = (await browser.get("/console/trust")).text
        assert SHOWN in page
        assert "<img" not in page
        assert "⟨U+202E⟩" in page
        assert 'class="state soon"' in page
        anchor = re.findall(r'action="/console/trust/anchors/([0-9a-f-]{36})/edit"', page)[0]
        changed = {"issuerUrl": ISSUER, "namespace": "home", "jwksUrl": "https://idp.example/keys", "label": ""}
        assert (await browser.post(f"/console/trust/anchors/{anchor}/edit", changed)).status_code == 303
        shown = (await app.http.get(f"/api/trust-anchors/{anchor}")).json()
        assert (shown["jwksUrl"], shown["label"]) == ("https://idp.example/keys", None)
        assert "No anchor." in (await browser.get("/console/trust?namespace=elsewhere")).text
        assert (await browser.post(f"/console/trust/anchors/{anchor}/remove")).status_code == 303
        unpinned = await browser.post("/console/trust/pins/remove", {"aid": agent.aid, "namespace": "default"})
        assert unpinned.status_code == 303
        for path, wrong in (
            ("anchors", {"issuerUrl": "ftp://idp.example"}),
            ("pins", {"aid": "nobody"}),
            ("pins", {"aid": agent.aid, "expiresAt": "soon"}),
        ):
            assert (await browser.post(f"/console/trust/{path}", wrong)).status_code == 400
    assert [row["action"] for row in await audit_of(app)] == [
        "trust-anchor.create",
        "pinned-key.upsert",
        "trust-anchor.update",
        "trust-anchor.delete",
        "pinned-key.delete",
    ]


async def test_each_list_has_pages_of_its_own(app: App) -> None:
    await execute(
        app,
        "INSERT INTO trust_anchors (id, namespace, issuer_url, created_at)"
        " SELECT gen_random_uuid(), 'n', 'https://i/' || n, now() FROM generate_series(1, 3) AS n",
    )
    await execute(
        app,
        "INSERT INTO pinned_keys (namespace, aid, pubkey) SELECT 'n', 'aid:' || n, 'k' FROM generate_series(1, 3) AS n",
    )
    page = (await app.http.get("/console/trust?limit=2")).text
    anchors, pins = (link.replace("&amp;", "&") for link in re.findall(r'rel="next" href="([^"]+)"', page))
    assert (await app.http.get(f"{anchors}&limit=2")).text.count('<tr id="t') == 1
    assert (await app.http.get(f"{pins}&limit=2")).text.count('data-head="pinned"') == 1
    assert "(FILTER_INVALID)" in (await app.http.get("/console/trust?pinsBefore=junk")).text


async def test_an_old_proof_and_a_reader_change_nothing(database_url: str) -> None:
    async with running_app(database_url) as app:
        for role in (Role.AUDITOR, Role.OPERATOR):
            async with signed_in(app, role) as browser:
                app.clock.ahead += timedelta(minutes=6)
                page = (await browser.get("/console/trust")).text
                assert 'method="post" action="/console/trust' not in page
                assert ("confirm that it is you" in page) == (role is Role.OPERATOR)
                response = await browser.post("/console/trust/anchors", {"issuerUrl": ISSUER})
                assert response.status_code == (403 if role is Role.AUDITOR else 303)
                assert role is Role.AUDITOR or response.headers["location"].startswith("/console/login")
        assert (await app.get("/api/trust-anchors")).json()["trustAnchors"] == []
