"""The API an administrator uses (contract, section 12)."""

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.deliveries.support import LOCAL, breaker_of, log_of, patch, sql, subscribe
from tests.support.app import AUTH, OTHER_KEY, App, running_app

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:9/hook"
PLACES = ("", "/circuit-breaker", "/deliveries")


def public(created: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in created.items() if name != "secret"}


async def audit_of(app: App) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = (await app.get("/api/audit")).json()["entries"]
    return [entry for entry in entries if entry["action"].startswith("webhook.")]


async def test_a_secret_is_made_and_shown_once(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        created = await subscribe(app, URL)
        assert re.fullmatch(r"[0-9a-f]{64}", created["secret"])
        assert created | {"url": URL, "events": [], "active": True} == created
        assert created["createdAt"] == created["updatedAt"]
        assert set(created) == {"id", "url", "events", "active", "createdAt", "updatedAt", "secret"}
        assert (await app.get(f"/api/webhooks/{created['id']}")).json() == public(created)
        assert (await app.get("/api/webhooks")).json() == {"webhooks": [public(created)]}
        assert (await subscribe(app, URL))["secret"] != created["secret"]


async def test_what_is_given_is_kept(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        asked = {"events": ["tct.revoked", "agent.expired", "tct.revoked"], "secret": "\u00fc" * 255, "active": False}
        created = await subscribe(app, URL, **asked)
        assert created["events"] == ["tct.revoked", "agent.expired"]
        assert (created["secret"], created["active"]) == ("\u00fc" * 255, False)
        assert (await subscribe(app, URL, events=None, secret=None, active=None))["active"] is True


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ({}, "BODY_INVALID", "url"),
        ({"url": 1}, "BODY_INVALID", r"\$\.url"),
        ({"url": None}, "BODY_INVALID", r"\$\.url"),
        ({"url": "nonsense"}, "BODY_INVALID", "URL"),
        ({"url": "ftp://example.com/"}, "URL_NOT_ALLOWED", "http"),
        ({"url": "http://10.0.0.1/"}, "URL_NOT_ALLOWED", "private"),
        ({"url": "http://[::1]/"}, "URL_NOT_ALLOWED", "loopback"),
        ({"url": "http://me:pw@127.0.0.1/"}, "URL_NOT_ALLOWED", "credentials"),
        ({"url": URL, "events": "tct.revoked"}, "BODY_INVALID", r"\$\.events"),
        ({"url": URL, "events": [1]}, "BODY_INVALID", r"\$\.events\[0\]"),
        ({"url": URL, "events": ["tct.revoked", "tct.issued"]}, "BODY_INVALID", "tct.issued"),
        ({"url": URL, "events": ["handshake.completed"]}, "BODY_INVALID", "handshake.completed"),
        ({"url": URL, "events": ["webhook.test"]}, "BODY_INVALID", "webhook.test"),
        ({"url": URL, "secret": ""}, "BODY_INVALID", r"\$\.secret"),
        ({"url": URL, "secret": "x" * 256}, "BODY_INVALID", r"\$\.secret"),
        ({"url": URL, "secret": "a\0b"}, "BODY_INVALID", "NUL"),
        ({"url": URL, "active": "yes"}, "BODY_INVALID", r"\$\.active"),
        ([], "BODY_INVALID", "object"),
    ],
)
async def test_what_is_wrong_is_refused_by_name(database_url: str, body: Any, code: str, said: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        refused = await app.post("/api/webhooks", body)
        assert (refused.status_code, refused.json()["code"]) == (400, code)
        assert re.search(said, refused.json()["error"])
        assert (await app.get("/api/webhooks")).json() == {"webhooks": []}
        if isinstance(body, dict) and len(body) > 0 and body.get("url", 0) is not None:
            created = await subscribe(app, URL)
            changed = await app.http.patch(f"/api/webhooks/{created['id']}", json=body, headers=AUTH)
            assert (changed.status_code, changed.json()["code"]) == (400, code)
            assert (await app.get(f"/api/webhooks/{created['id']}")).json() == public(created)


async def test_production_takes_https_only(database_url: str) -> None:
    async with running_app(database_url, CP_ENV="production", CORS_ORIGIN="https://console.example", **LOCAL) as app:
        refused = await app.post("/api/webhooks", {"url": URL})
        assert (refused.status_code, refused.json()["code"]) == (400, "URL_NOT_ALLOWED")
        await subscribe(app, "https://127.0.0.1:9/hook")


async def test_the_allowlist_counts(database_url: str) -> None:
    async with running_app(database_url, WEBHOOK_URL_ALLOWLIST="127.0.0.2,.example", **LOCAL) as app:
        assert (await app.post("/api/webhooks", {"url": URL})).json()["code"] == "URL_NOT_ALLOWED"
        await subscribe(app, "http://127.0.0.2:9/hook")


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_only_what_is_given_changes(database_url: str, method: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        created = await subscribe(app, URL, events=["tct.revoked"])
        path = f"/api/webhooks/{created['id']}"
        tick = timedelta(seconds=1)
        app.clock.ahead += tick
        changes: list[dict[str, Any]] = [{"url": f"{URL}/x?y"}, {"events": []}, {"active": False}]
        for change in changes:
            before = (await app.get(path)).json()
            after = await app.http.request(method, path, json=change, headers=AUTH)
            assert after.status_code == 200
            assert after.json() == before | change | {"updatedAt": after.json()["updatedAt"]}
            assert after.json()["updatedAt"] > created["updatedAt"]
            app.clock.ahead += tick
        nothing = {"url": None, "events": None, "secret": None, "active": None}
        before = (await app.get(path)).json()
        after = await app.http.request(method, path, json=nothing, headers=AUTH)
        assert after.json() == before | {"updatedAt": after.json()["updatedAt"]}


async def test_deleting(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        kept, gone = await subscribe(app, URL), await subscribe(app, URL)
        path = f"/api/webhooks/{gone['id']}"
        deleted = await app.delete(path)
        assert (deleted.status_code, deleted.json()) == (200, {"id": gone["id"], "deleted": True})
        assert (await app.get("/api/webhooks")).json()["webhooks"] == [public(kept)]
        for place in PLACES:
            assert (await app.get(path + place)).status_code == 404
        for again in (
            await app.delete(path),
            await app.http.patch(path, json={"active": True}, headers=AUTH),
            await app.post(f"{path}/test", {}),
            await app.post(f"{path}/circuit-breaker/reset", {}),
            await app.post(f"{path}/deliveries/{uuid4()}/redeliver", {}),
        ):
            assert (again.status_code, again.json()["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/webhooks/{id}"),
        ("PATCH", "/api/webhooks/{id}"),
        ("PUT", "/api/webhooks/{id}"),
        ("DELETE", "/api/webhooks/{id}"),
        ("GET", "/api/webhooks/{id}/circuit-breaker"),
        ("POST", "/api/webhooks/{id}/circuit-breaker/reset"),
        ("GET", "/api/webhooks/{id}/deliveries"),
        ("POST", "/api/webhooks/{id}/deliveries/{id}/redeliver"),
        ("POST", "/api/webhooks/{id}/test"),
    ],
)
async def test_ids_keys_and_unknown_webhooks(database_url: str, method: str, path: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        body = {"active": True} if method in {"PATCH", "PUT"} else None
        for id, status, code in (("x", 400, "ID_INVALID"), (str(uuid4()), 404, "NOT_FOUND")):
            response = await app.http.request(method, path.replace("{id}", id), json=body, headers=AUTH)
            assert (response.status_code, response.json()["code"]) == (status, code)
        response = await app.http.request(method, path.replace("{id}", "x"), json=body)
        assert (response.status_code, response.json()["code"]) == (401, "INVALID_API_KEY")
        assert await audit_of(app) == []


async def test_a_replayed_creation_omits_the_secret(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        key = {"Idempotency-Key": "one"}
        body = {"url": URL, "secret": "a very secret secret"}
        first = await app.post("/api/webhooks", body, headers=key)
        second = await app.post("/api/webhooks", body, headers=key)
        assert (second.status_code, second.headers["idempotency-replayed"]) == (201, "true")
        assert second.json() == first.json() | {"secret": None, "secretOmitted": True}
        assert len((await app.get("/api/webhooks")).json()["webhooks"]) == 1
        other_body = await app.post("/api/webhooks", {"url": URL}, headers=key)
        assert other_body.json()["code"] == "IDEMPOTENCY_KEY_REUSED"
        stranger = {**key, "Authorization": f"Bearer {OTHER_KEY}"}
        assert (await app.post("/api/webhooks", body, headers=stranger)).json()["secret"] == body["secret"]


async def test_a_refused_creation_is_replayed_as_it_was(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        for body, code in (({"url": "http://10.0.0.1/"}, "URL_NOT_ALLOWED"), ({"url": 1}, "BODY_INVALID")):
            key = {"Idempotency-Key": code}
            first = await app.post("/api/webhooks", body, headers=key)
            second = await app.post("/api/webhooks", body, headers=key)
            assert (first.status_code, first.json()["code"]) == (400, code)
            assert second.json() == first.json()
            assert second.headers["idempotency-replayed"] == "true"


async def test_every_change_is_audited_without_the_secret(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        created = await subscribe(app, f"{URL}?token=in-the-query", secret="first-secret")
        await patch(app, created, secret="second-secret", active=False)
        await patch(app, created, active=True)
        path = f"/api/webhooks/{created['id']}"
        sent = (await app.post(f"{path}/test", {})).json()
        await app.post(f"{path}/deliveries/{sent['id']}/redeliver", {})
        await app.post(f"{path}/circuit-breaker/reset", {})
        await app.delete(path)
        entries = (await audit_of(app))[::-1]
        assert [entry["action"].removeprefix("webhook.") for entry in entries] == [
            "create",
            "update",
            "update",
            "test",
            "redeliver",
            "circuit-breaker.reset",
            "delete",
        ]
        assert {entry["targetId"] for entry in entries} == {created["id"]}
        assert all(entry["actorId"].startswith("apikey:") for entry in entries)
        assert [entry["details"].get("secretRotated") for entry in entries[1:3]] == [True, False]
        assert entries[3]["details"] == {"deliveryId": sent["id"]} == entries[4]["details"]
        assert not re.search("first-secret|second-secret|in-the-query", str(entries))


@pytest.mark.parametrize("url", ["http://user:in-the-url@hooks.example/x", "http://[in-the-url/x"])
async def test_urls_that_an_older_control_plane_let_pass_keep_their_secrets(database_url: str, url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        created = await subscribe(app, URL)
        await sql(app, "UPDATE webhooks SET url = $1", url)
        await patch(app, created, active=False)
        assert (await app.delete(f"/api/webhooks/{created['id']}")).status_code == 200
        assert "in-the-url" not in str(await audit_of(app))


async def test_a_change_that_cannot_be_audited_does_not_happen(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        created = await subscribe(app, URL)
        await sql(app, "ALTER TABLE admin_audit_log ADD CONSTRAINT no_more CHECK (action = '') NOT VALID")
        path = f"/api/webhooks/{created['id']}"
        for response in (
            await app.post("/api/webhooks", {"url": URL}),
            await app.http.patch(path, json={"active": False}, headers=AUTH),
            await app.post(f"{path}/test", {}),
            await app.post(f"{path}/circuit-breaker/reset", {}),
            await app.delete(path),
        ):
            assert (response.status_code, response.json()["code"]) == (500, "INTERNAL")
        assert (await app.get("/api/webhooks")).json() == {"webhooks": [public(created)]}
        assert await log_of(app, created) == []
        scraped = (await app.http.get("/api/metrics")).text
        assert "aitp_control_plane_admin_audit_insert_failures 5.0" in scraped


async def test_a_secret_is_in_no_answer_but_the_first_and_in_no_other_table(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "only-in-the-webhooks-table"
    async with running_app(database_url, LOG_LEVEL="trace", **LOCAL) as app:
        created = (
            await app.post("/api/webhooks", {"url": URL, "secret": secret}, headers={"Idempotency-Key": "k"})
        ).json()
        await patch(app, created, secret=f"{secret}-2")
        await app.post(f"/api/webhooks/{created['id']}/test", {})
        responses = [await app.get("/api/webhooks"), await app.get("/api/audit"), await app.get("/api/metrics")]
        responses += [await app.get(f"/api/webhooks/{created['id']}{place}") for place in PLACES]
        responses.append(
            await app.post("/api/webhooks", {"url": URL, "secret": secret}, headers={"Idempotency-Key": "k"})
        )
        assert all(secret not in response.text for response in responses)
        tables = [name for (name,) in await sql(app, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        held = [
            table for table in tables if await sql(app, f"SELECT 1 FROM {table} AS t WHERE t::text LIKE '%{secret}%'")
        ]
        assert held == ["webhooks"]
        await app.delete(f"/api/webhooks/{created['id']}")
        assert await sql(app, "SELECT 1 FROM webhooks WHERE secret <> '' OR url <> ''") == []
    captured = capsys.readouterr()
    assert secret not in captured.out + captured.err


async def test_a_new_breaker_is_closed(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        created = await subscribe(app, URL)
        closed = {"state": "closed", "failures": 0, "consecutiveSuccesses": 0, "openedAt": None, "nextProbeAt": None}
        assert await breaker_of(app, created) == closed
        reset = await app.post(f"/api/webhooks/{created['id']}/circuit-breaker/reset", {})
        assert (reset.status_code, reset.json()) == (200, closed)
