"""A webhook's secret belongs to one receiver, and its URL is a secret too."""

import hashlib
import hmac
import json
from typing import Any

import pytest

from tests.deliveries.support import LOCAL, attempted, delivering, ended, pass_time, patch, report, sql, subscribe
from tests.support.app import App, running_app
from tests.support.receiver import Answer, receiver

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:9/hook"


async def secret_of(app: App, hook: dict[str, Any]) -> str:
    ((secret,),) = await sql(app, "SELECT secret FROM webhooks WHERE id = $1", hook["id"])
    return str(secret)


@pytest.mark.parametrize("url", ["http://127.0.0.1:10/hook", "http://127.0.0.2:9/hook", "https://127.0.0.1:9/hook"])
async def test_another_host_gets_another_secret(database_url: str, url: str) -> None:
    """Row A16: a key holder moved another one to himself: deliveries came signed with the victim's secret."""
    async with running_app(database_url, **LOCAL) as app:
        hook = await subscribe(app, URL, secret="the-receiver-s-own")
        changed = await patch(app, hook, url=url)
        assert len(changed["secret"]) == 64
        assert changed["secret"] == await secret_of(app, hook)
        assert "secret" not in (await app.get(f"/api/webhooks/{hook['id']}")).json()
        given = await patch(app, hook, url=URL, secret="given")
        assert given["secret"] == await secret_of(app, hook) == "given"
        entries = (await app.get("/api/audit")).text
        assert changed["secret"] not in entries
        assert entries.replace(" ", "").count('"secretRotated":true') == 2


@pytest.mark.parametrize("url", [f"{URL}?x=1", "http://127.0.0.1:9/", "HTTP://127.0.0.1:9/hook"])
async def test_another_path_of_the_same_host_keeps_the_secret(database_url: str, url: str) -> None:
    """Row A16: host means scheme, host and port."""
    async with running_app(database_url, **LOCAL) as app:
        hook = await subscribe(app, URL)
        assert "secret" not in await patch(app, hook, url=url)
        assert await secret_of(app, hook) == hook["secret"]
        assert "secret" not in await patch(app, hook, secret="rotated", url=url)


async def test_what_waits_is_signed_for_its_new_receiver(database_url: str) -> None:
    """Row A16: a pending delivery goes to the new host, checked anew and signed with the new secret."""
    async with receiver(Answer(500)) as old, receiver() as new, delivering(database_url) as app:
        hook = await subscribe(app, old.url)
        await report(app)
        row = await attempted(app, hook, 1)
        changed = await patch(app, hook, url=new.url)
        await pass_time(app, minutes=1)
        await ended(app, hook, 1)
        (got,) = new.got
        assert got.headers["x-aitp-delivery"] == row["id"]
        for secret, genuine in ((changed["secret"], True), (hook["secret"], False)):
            expected = "sha256=" + hmac.new(secret.encode(), got.body, hashlib.sha256).hexdigest()
            assert (got.headers["x-aitp-signature"] == expected) is genuine


async def test_the_audit_holds_no_url(database_url: str) -> None:
    """Row A17: a token in a path was kept in the audit for a year, and shown to every key."""
    async with running_app(database_url, **LOCAL) as app:
        url = "http://127.0.0.1:9/services/T000/token-in-the-path?key=token-in-the-query"
        hook = await subscribe(app, url)
        await patch(app, hook, url=f"{url}2")
        await app.post(f"/api/webhooks/{hook['id']}/test", {})
        await app.delete(f"/api/webhooks/{hook['id']}")
        rows = [
            json.loads(row[0])
            for row in await sql(app, "SELECT details::text FROM admin_audit_log ORDER BY created_at")
        ]
        assert "token-in-the" not in json.dumps(rows)
        assert rows[0]["url"] == "http://127.0.0.1:9"
        assert rows[0]["urlSha256"] == hashlib.sha256(url.encode()).hexdigest()
        assert rows[1]["urlSha256"] != rows[0]["urlSha256"]
