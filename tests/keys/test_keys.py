"""Creating, using, changing, rotating and revoking keys over HTTP (contract, part II, section 18)."""

import asyncio
import re
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from aitp_cp.clock import iso
from aitp_cp.keys.cache import KeyCache
from aitp_cp.protocol.bearer_token import digest_of, is_token
from aitp_cp.protocol.scopes import ROLES, Role, Scope
from tests.keys.support import called, holding, new_key, outcome
from tests.support.app import API_KEY, App
from tests.support.rows import break_inserts, value

pytestmark = pytest.mark.anyio


async def audited(app: App) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = (await app.get("/api/audit")).json()["entries"]
    return [entry for entry in entries if entry["action"].startswith("key.")]


async def test_a_key_is_created_and_works_at_once(app: App) -> None:
    created = await new_key(app, name="reports", role="reporter", ratePerMin=50)
    key = created.pop("key")
    assert is_token(key)
    assert created["shown"] == key[:8]
    assert created["family"] == created["id"]
    assert (created["state"], created["scopes"], created["ratePerMin"]) == ("active", ["events:write"], 50)
    assert created["createdBy"].startswith("apikey:")
    assert created == (await app.get(f"/api/keys/{created['id']}")).json()
    assert (await app.get("/api/keys")).json() == {"keys": [created], "count": 1}
    assert await value(app, "SELECT digest FROM api_keys") == digest_of(key)
    assert (await called(app, key, "POST", "/api/events", json=[{"type": "custom"}])).status_code == 200
    refused = await called(app, key, "GET", "/api/audit")
    assert (refused.status_code, refused.json()["code"]) == (403, "SCOPE_MISSING")
    assert refused.json()["required"] == "audit:read"


async def test_whoami(app: App) -> None:
    key = await new_key(app, name="who", scopes=["webhooks:read", "agents:read", "agents:read"])
    assert (await called(app, key, "GET", "/api/whoami")).json() == {
        "actor": f"key:{key['family']}",
        "actorName": "who",
        "kind": "key",
        "scopes": ["agents:read", "webhooks:read"],
        "expiresAt": None,
    }
    own = (await app.get("/api/whoami")).json()
    assert (own["kind"], own["actorName"], own["scopes"]) == ("environment", None, [str(scope) for scope in Scope])
    assert (await app.http.get("/api/whoami")).status_code == 401


@pytest.mark.parametrize("role", Role)
async def test_a_role_is_expanded_when_the_key_is_made(app: App, role: Role) -> None:
    assert set((await new_key(app, role=role))["scopes"]) == set(map(str, ROLES[role]))


async def test_an_expiry_takes_effect_to_the_second(app: App) -> None:
    ends = app.clock() + timedelta(seconds=30)
    key = await new_key(app, expiresAt=iso(ends))
    assert await outcome(app, key) == (200, None)
    app.clock.ahead = ends - app.clock() + timedelta(milliseconds=1) + app.clock.ahead
    assert await outcome(app, key) == (401, "API_KEY_EXPIRED")
    assert (await app.get("/api/keys?state=expired")).json()["keys"][0]["id"] == key["id"]
    response = await app.post(f"/api/keys/{key['id']}/rotate", {})
    assert (response.status_code, response.json()["code"]) == (409, "KEY_NOT_ACTIVE")


async def test_a_rotation_keeps_the_family_and_ends_the_old_key_after_the_overlap(app: App) -> None:
    old = await new_key(app, name="rotated", role="operator", ratePerMin=9, expiresAt=iso(app.clock() + timedelta(1)))
    fresh = (await app.post(f"/api/keys/{old['id']}/rotate", {"overlapSecs": 5})).json()
    assert fresh["key"] != old["key"]
    for kept in ("family", "name", "scopes", "ratePerMin", "expiresAt", "actor"):
        assert fresh[kept] == old[kept]
    replaced = (await app.get(f"/api/keys/{old['id']}")).json()
    assert replaced["replacedBy"] == fresh["id"]
    assert await outcome(app, old) == await outcome(app, fresh) == (200, None)
    app.clock.ahead += timedelta(seconds=6)
    assert await outcome(app, old) == (401, "API_KEY_EXPIRED")
    assert await outcome(app, fresh) == (200, None)
    entry = (await audited(app))[0]
    assert (entry["action"], entry["targetId"], entry["details"]["replaces"]) == ("key.rotate", fresh["id"], old["id"])


async def test_an_overlap_gives_no_more_time_than_the_key_had(app: App) -> None:
    old = await new_key(app, expiresAt=iso(app.clock() + timedelta(seconds=30)))
    fresh = (await app.post(f"/api/keys/{old['id']}/rotate", {})).json()
    assert fresh["expiresAt"] == old["expiresAt"] == (await app.get(f"/api/keys/{old['id']}")).json()["expiresAt"]


async def test_without_an_overlap_the_old_key_ends_at_once(app: App) -> None:
    old = await new_key(app)
    response = await called(app, old, "POST", f"/api/keys/{old['id']}/rotate", json={"overlapSecs": 0})
    assert response.status_code == 201
    assert await outcome(app, old) == (401, "API_KEY_EXPIRED")


async def test_a_revoked_key_is_refused_and_its_row_stays(app: App) -> None:
    key = await new_key(app)
    response = await app.delete(f"/api/keys/{key['id']}", params={"reason": "leaked"})
    assert response.json() == {"id": key["id"], "revoked": True, "keys": [key["id"]]}
    assert await outcome(app, key) == (401, "API_KEY_REVOKED")
    shown = (await app.get("/api/keys?state=revoked")).json()["keys"]
    assert [(row["id"], row["revokedReason"]) for row in shown] == [(key["id"], "leaked")]
    again = await app.delete(f"/api/keys/{key['id']}", params={"reason": "another reason"})
    assert again.json() == {"id": key["id"], "revoked": True, "keys": []}
    assert [entry["action"] for entry in await audited(app)] == ["key.revoke", "key.create"]
    assert (await app.post(f"/api/keys/{key['id']}/rotate", {})).json()["code"] == "KEY_NOT_ACTIVE"


async def test_a_family_is_revoked_by_any_of_its_keys(app: App) -> None:
    first = await new_key(app)
    second = (await app.post(f"/api/keys/{first['id']}/rotate", {})).json()
    third = (await app.post(f"/api/keys/{second['id']}/rotate", {})).json()
    other = await new_key(app)
    response = await app.delete(f"/api/keys/{second['id']}", params={"family": "true"})
    assert set(response.json()["keys"]) == {first["id"], second["id"], third["id"]}
    for key in (first, second, third):
        assert await outcome(app, key) == (401, "API_KEY_REVOKED")
    assert await outcome(app, other) == (200, None)


async def test_name_and_rate_can_be_changed(app: App) -> None:
    key = await new_key(app, name="before")
    response = await app.http.patch(f"/api/keys/{key['id']}", json={"name": "after"}, headers=holding(API_KEY))
    assert (response.json()["name"], response.json()["ratePerMin"]) == ("after", None)
    assert (await called(app, key, "GET", "/api/whoami")).json()["actorName"] == "after"
    entry = (await audited(app))[0]
    assert (entry["action"], entry["details"]["name"]) == ("key.update", "after")


async def test_audit_rows_name_who_acted(app: App) -> None:
    key = await new_key(app, name="the operator", role="operator")
    sent = await called(app, key, "POST", "/api/revocation/entries", json={"jti": str(uuid4())})
    assert sent.status_code == 201
    entries = (await app.get("/api/audit")).json()["entries"]
    assert (entries[0]["actorId"], entries[0]["actorName"]) == (f"key:{key['family']}", "the operator")
    assert (entries[1]["action"], entries[1]["actorName"]) == ("key.create", None)


async def test_events_hold_ids_only(app: App) -> None:
    first = await new_key(app)
    second = (await app.post(f"/api/keys/{first['id']}/rotate", {})).json()
    await app.delete(f"/api/keys/{second['id']}")
    events = (await app.get("/api/events/history?order=asc")).json()["events"]
    assert [(event["type"], event["payload"], event["source"]) for event in events] == [
        ("apikey.created", {"id": first["id"], "family": first["id"]}, "cp"),
        ("apikey.rotated", {"id": first["id"], "family": first["id"], "replacedBy": second["id"]}, "cp"),
        ("apikey.revoked", {"id": second["id"], "family": first["id"]}, "cp"),
    ]


async def test_a_repeated_creation_shows_no_key(app: App) -> None:
    """The first answer alone holds it; who lost that one revokes the key by its id, which every repetition gives."""
    body, once = {"name": "once", "role": "auditor"}, {"Idempotency-Key": "the-same"}
    first = await app.post("/api/keys", body, headers=once)
    again = await app.post("/api/keys", body, headers=once)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.status_code == 201
    created = first.json()
    key = created.pop("key")
    assert again.json() == created
    rotated = await app.post(f"/api/keys/{created['id']}/rotate", {}, headers=once)
    assert "key" in rotated.json()
    assert "key" not in (await app.post(f"/api/keys/{created['id']}/rotate", {}, headers=once)).json()
    assert await value(app, "SELECT count(*) FROM api_keys") == 2
    stored = await value(app, "SELECT string_agg(response_body::text, '') FROM idempotency_keys")
    assert key not in stored
    assert rotated.json()["key"] not in stored


async def test_a_rotation_keeps_event_ids_so_nothing_is_stored_twice(app: App) -> None:
    old = await new_key(app, role="reporter")
    batch = [{"type": "custom", "ts": "2026-01-01T00:00:00Z", "payload": {"n": 1}}]
    assert (await called(app, old, "POST", "/api/events", json=batch)).json()["inserted"] == 1
    fresh = (await app.post(f"/api/keys/{old['id']}/rotate", {})).json()
    assert (await called(app, fresh, "POST", "/api/events", json=batch)).json()["inserted"] == 0


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": "n"}, "role"),
    ({"name": "n", "role": "admin", "scopes": ["events:read"]}, "role"),
    ({"name": "n", "role": "root"}, "role"),
    ({"name": "n", "scopes": []}, "scopes"),
    ({"name": "n", "scopes": ["events:read", "all"]}, "scopes"),
    ({"name": "n", "scopes": "events:read"}, "scopes"),
    ({"role": "admin"}, "name"),
    ({"name": "", "role": "admin"}, "name"),
    ({"name": "   ", "role": "admin"}, "name"),
    ({"name": "n" * 101, "role": "admin"}, "name"),
    ({"name": "a\nb", "role": "admin"}, "name"),
    ({"name": "a\x1bb", "role": "admin"}, "name"),
    ({"name": "a\u202eb", "role": "admin"}, "name"),
    ({"name": 7, "role": "admin"}, "name"),
    ({"name": "n", "role": "admin", "expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
    ({"name": "n", "role": "admin", "expiresAt": "10000-01-01T00:00:00Z"}, "expiresAt"),
    ({"name": "n", "role": "admin", "expiresAt": "9999-12-31T23:59:59-14:00"}, "expiresAt"),
    ({"name": "n", "role": "admin", "expiresAt": 10**18}, "expiresAt"),
    ({"name": "n", "role": "admin", "expiresAt": "tomorrow"}, "expiresAt"),
    ({"name": "n", "role": "admin", "expiresAt": True}, "expiresAt"),
    ({"name": "n", "role": "admin", "expires_at": "2999-01-01T00:00:00Z"}, "expires_at"),
    ({"name": "n", "role": "admin", "ratePerMin": 0}, "ratePerMin"),
    ({"name": "n", "role": "admin", "ratePerMin": 1.5}, "ratePerMin"),
    ({"name": "n", "role": "admin", "ratePerMin": 10**10}, "ratePerMin"),
]


async def test_bad_input_is_named(app: App) -> None:
    for body, field in BAD:
        response = await app.post("/api/keys", body)
        assert (response.status_code, response.json()["code"]) == (400, "BODY_INVALID"), body
        assert field in response.json()["error"], response.json()
    key = await new_key(app)
    for overlap in (-1, 604_801, "5", None, 1.5):
        response = await app.post(f"/api/keys/{key['id']}/rotate", {"overlapSecs": overlap})
        assert (response.status_code, "overlapSecs" in response.json()["error"]) == (400, True), overlap
    response = await app.post(f"/api/keys/{key['id']}/rotate", {"overlap": 0})
    assert (response.status_code, "overlap" in response.json()["error"]) == (400, True)
    patches: list[dict[str, Any]] = [{"name": None}, {"name": "a\x01b"}, {"ratePerMin": "many"}, {"scopes": []}]
    for patch in patches:
        response = await called(app, API_KEY, "PATCH", f"/api/keys/{key['id']}", json=patch)
        assert (response.status_code, next(iter(patch)) in response.json()["error"]) == (400, True), patch
    for reason in ("r" * 501, "a\tb"):
        response = await app.delete(f"/api/keys/{key['id']}", params={"reason": reason})
        assert (response.status_code, "reason" in response.json()["error"]) == (400, True)
    assert (await app.get("/api/keys?state=lost")).json()["code"] == "FILTER_INVALID"
    assert await outcome(app, key) == (200, None)


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/rotate")])
async def test_ids_that_name_no_key(app: App, method: str, path: str) -> None:
    for id, refusal in (("no-uuid", (400, "ID_INVALID")), (str(uuid4()), (404, "NOT_FOUND"))):
        response = await called(app, API_KEY, method, f"/api/keys/{id}{path}", json={} if path else {"name": "n"})
        assert (response.status_code, response.json()["code"]) == refusal


async def test_use_is_marked_with_one_statement(app: App) -> None:
    keys = [await new_key(app) for _ in range(3)]
    for key in keys[:2]:
        await outcome(app, key)
    cache = app.rt.get(KeyCache)
    async with asyncio.timeout(10):
        while True:  # the process's own turn may have taken the marks a moment ago, and be about to write them
            cache._mark_at = 0.0
            await cache.turn()
            shown = {row["id"]: row for row in (await app.get("/api/keys")).json()["keys"]}
            if shown[keys[0]["id"]]["lastUsedIp"] is not None:
                break
    assert [shown[key["id"]]["lastUsedIp"] for key in keys] == ["192.0.2.1", "192.0.2.1", None]
    assert re.fullmatch(r"20.*Z", shown[keys[0]["id"]]["lastUsedAt"])


async def test_a_failed_audit_row_undoes_the_key(app: App) -> None:
    """No key without its audit row, and none is refused that was not: the three rows stand or fall together."""
    await break_inserts(app, "admin_audit_log")
    assert (await app.post("/api/keys", {"name": "n", "role": "admin"})).status_code == 500
    assert await value(app, "SELECT count(*) FROM api_keys") == 0
    assert await value(app, "SELECT count(*) FROM audit_events") == 0


async def test_ids_are_uuids(app: App) -> None:
    assert UUID((await new_key(app))["id"]).version == 4
