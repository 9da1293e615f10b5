"""`/console/webhooks`: who is told, what was sent, and sending it again."""

import re
from typing import Any
from uuid import uuid4

import pytest

from aitp_cp.protocol.scopes import Role
from tests.console.test_events import HOSTILE, SHOWN
from tests.deliveries.support import LOCAL, sql
from tests.support.app import App, running_app
from tests.support.console import browsing, signed_in
from tests.support.enrolment import audit_of

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:9/hook"
OPEN = {"API_KEYS": "", "CP_BASE_URL": "http://cp.test", **LOCAL}
EVER = "1970-01-02T00:00:00Z"
ATTEMPT = (
    "INSERT INTO webhook_attempts (delivery_id, n, at, ms, status, head, cut) VALUES ($1, 1, now(), 7, 500, $2, true)"
)


async def made(app: App, **more: Any) -> dict[str, Any]:
    response = await app.http.post("/api/webhooks", json={"url": URL, **more})
    webhook: dict[str, Any] = response.json()
    return webhook


async def failed(app: App, webhook: dict[str, Any], count: int = 1) -> list[str]:
    """Deliveries that have failed, newest first."""
    await app.http.post("/api/events", json=[{"type": "handshake.failed"} for _ in range(count)])
    await app.enqueue()
    await sql(app, "UPDATE webhook_deliveries SET status = 'failed', attempts = 6, error = $1", HOSTILE)
    rows = (await app.http.get(f"/api/webhooks/{webhook['id']}/deliveries")).json()["deliveries"]
    return [row["id"] for row in rows]


async def test_no_webhook_and_then_one(database_url: str) -> None:
    async with running_app(database_url, **OPEN) as app, browsing(app) as browser:
        page = (await browser.get("/console/webhooks")).text
        assert "nobody is told of events" in page
        form = {"once": re.findall(r'name="once" value="([^"]+)"', page)[0], "url": URL, "active": "on"}
        created = await browser.post("/console/webhooks", {**form, "events": "tct.revoked"})
        secret = re.findall(r"<bdi>([0-9a-f]{64})</bdi>", created.text)[0]
        assert created.headers["cache-control"] == "no-store"
        assert "content-encoding" not in created.headers
        again = await browser.post("/console/webhooks", {**form, "events": "tct.revoked"})
        assert "was used before" in again.text
        assert secret not in again.text
        (webhook,) = (await app.http.get("/api/webhooks")).json()["webhooks"]
        assert (webhook["events"], webhook["active"]) == (["tct.revoked"], True)
        for path in ("/console/webhooks", f"/console/webhooks/{webhook['id']}"):
            page = (await browser.get(path)).text
            assert "ok" in page
            assert secret not in page
        for url in ("ftp://a.example/", "http://10.0.0.1/", "nothing"):
            fresh = {"once": str(uuid4()), "url": url}
            assert (await browser.post("/console/webhooks", fresh)).status_code == 400


async def test_each_action_is_audited(database_url: str) -> None:
    async with running_app(database_url, **OPEN) as app, browsing(app) as browser:
        webhook = await made(app)
        path = f"/console/webhooks/{webhook['id']}"
        assert (await browser.post(f"{path}/pause", {"active": "off"})).status_code == 303
        assert "paused" in (await browser.get(path)).text
        assert (await browser.post(f"{path}/pause", {"active": "on"})).status_code == 303
        rotated = await browser.post(f"{path}/rotate", {"secret": HOSTILE})
        assert SHOWN in rotated.text
        moved = await browser.post(f"{path}/edit", {"url": "http://127.0.0.2:9/other", "events": "tct.revoked"})
        assert "Copy the secret now" in moved.text
        assert (await browser.post(f"{path}/edit", {"url": "http://127.0.0.2:9/path"})).status_code == 303
        assert (await browser.post(f"{path}/reset")).status_code == 303
        test = await browser.post(f"{path}/test")
        assert (await browser.get(test.headers["location"])).status_code == 200
        actions = [row["action"].removeprefix("webhook.") for row in await audit_of(app)]
        assert actions == ["create", *["update"] * 5, "circuit-breaker.reset", "test"]
        assert HOSTILE not in str(await audit_of(app))


async def test_deliveries_are_found_and_sent_again(database_url: str) -> None:
    async with running_app(database_url, **OPEN) as app, browsing(app) as browser:
        webhook = await made(app)
        path = f"/console/webhooks/{webhook['id']}"
        assert "No delivery matches" in (await browser.get(path)).text
        ids = await failed(app, webhook, 4)
        page = (await browser.get(f"{path}?status=failed&code=none")).text
        assert "Resend all 4 that match" in page
        assert page.count('name="ids"') == 4
        response = await browser.post(f"{path}/resend", {"what": "selected", "ids": ids[0]})
        assert "1 queued" in (await browser.get(response.headers["location"])).text
        response = await browser.post(f"{path}/resend", {"what": "matching", "status": "failed", "code": "none"})
        assert "3 queued" in (await browser.get(response.headers["location"])).text
        await failed(app, webhook)
        response = await browser.post(f"{path}/recover", {"since": EVER})
        assert "5 queued" in (await browser.get(response.headers["location"])).text
        response = await browser.post(f"{path}/replay-missing", {"since": EVER})
        assert "0 queued" in (await browser.get(response.headers["location"])).text
        for action, form in (
            ("resend", {"what": "selected"}),
            ("resend", {"what": "matching", "status": "pending"}),
            ("recover", {"since": "soon"}),
            ("replay-missing", {"since": ""}),
        ):
            assert (await browser.post(f"{path}/{action}", form)).status_code == 400, (action, form)
        actions = [row["action"] for row in await audit_of(app) if row["action"] != "webhook.create"]
        assert actions == ["webhook.resend", "webhook.resend", "webhook.recover", "webhook.replay-missing"]


async def test_more_than_one_press_does(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aitp_cp.console.pages.deliveries.MAX_STEPS", 1)
    monkeypatch.setattr("aitp_cp.console.pages.deliveries.STEP_ROWS", 2)
    async with running_app(database_url, **OPEN) as app, browsing(app) as browser:
        webhook = await made(app)
        path = f"/console/webhooks/{webhook['id']}"
        await failed(app, webhook, 3)
        response = await browser.post(f"{path}/resend", {"what": "matching"})
        page = (await browser.get(response.headers["location"])).text
        assert "2 queued. There are more" in page
        rest = re.findall(r'name="rest" value="([^"]+)"', page)[0]
        response = await browser.post(f"{path}/resend", {"what": "matching", "rest": rest})
        page = (await browser.get(response.headers["location"])).text
        assert "1 queued.</p>" in page


async def test_hostile_text_is_shown_as_text(database_url: str) -> None:
    async with running_app(database_url, **OPEN) as app, browsing(app) as browser:
        webhook = await made(app)
        (delivery,) = await failed(app, webhook)
        await sql(app, "UPDATE webhooks SET url = $1, events = $2::jsonb", HOSTILE, f'["{HOSTILE[:20]}"]')
        await sql(app, ATTEMPT, delivery, f"x-a: {HOSTILE}\n\n{HOSTILE}")
        path = f"/console/webhooks/{webhook['id']}"
        for page in ("/console/webhooks", path, f"{path}/deliveries/{delivery}"):
            text = (await browser.get(page)).text
            assert "<img" not in text, page
            assert not {"\u202e", "\u200b"} & set(re.sub(r'(data-copy|value)="[^"]*"', "", text)), page
        assert text.count(SHOWN) == 3
        assert "⟨U+202E⟩" in text
        assert "not all of it" in text


async def test_who_may_only_read_has_no_button(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app, signed_in(app, Role.AUDITOR) as browser:
        webhook = await made_with_key(app)
        await app.post("/api/events", [{"type": "handshake.failed"}])
        await app.enqueue()
        path = f"/console/webhooks/{webhook['id']}"
        for page in ("/console/webhooks", path):
            response = await browser.get(page)
            assert (response.status_code, '<tr id="d' in response.text) == (200, page == path)
            assert 'action="/console/webhooks' not in response.text.replace(f'<form class="filters" action="{path}', "")
        for action in ("pause", "rotate", "edit", "reset", "test", "resend", "recover", "replay-missing"):
            assert (await browser.post(f"{path}/{action}", {"since": EVER})).status_code == 403
        assert (await browser.post("/console/webhooks", {"url": URL})).status_code == 403


async def made_with_key(app: App) -> dict[str, Any]:
    webhook: dict[str, Any] = (await app.post("/api/webhooks", {"url": URL})).json()
    return webhook
