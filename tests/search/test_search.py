"""Anything is found by its id, as far as the caller may read it (contract, section 22)."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from aitp_cp.protocol.scopes import ALL_SCOPES, Scope
from aitp_cp.search import service
from tests.support.agents import manifest, new_agent
from tests.support.app import App, running_app
from tests.support.enrolment import registered
from tests.support.rows import execute, value

pytestmark = pytest.mark.anyio

JTI, HOP = str(uuid4()), str(uuid4())


async def hits(app: App, q: str) -> list[dict[str, Any]]:
    response = await app.get("/api/search", params={"q": q})
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["hits"]
    return found


async def kinds(app: App, q: str) -> list[str]:
    return [hit["kind"] for hit in await hits(app, q)]


async def filled(app: App) -> dict[str, str]:
    """One of everything; the id that finds it, by kind."""
    one, other, unknown = new_agent(), new_agent(), new_agent()
    await registered(app, manifest(one, display_name="Researcher"))
    tct = {"jti": JTI, "iss": one.aid, "sub": other.aid, "grants": ["cap"], "iat": 1779710400, "exp": 1979710400}
    hop = {"jti": HOP, "parent_jti": JTI, "delegator": other.aid, "delegatee": one.aid, "scope": ["cap"]}
    common = {"session_id": "s/7 %", "run_id": "run_7", "aid_a": one.aid, "aid_b": unknown.aid}
    reports = [
        {"type": "handshake.complete", "payload": {"tct": tct}, **common},
        {"type": "delegation.issued", "payload": hop, **common},
    ]
    made = [
        await app.post("/api/events", {"events": reports}),
        await app.post("/api/webhooks", {"url": "https://93.184.215.14/hook"}),
        await app.post("/api/trust-anchors", {"issuerUrl": "https://idp.example"}),
        await app.post("/api/keys", {"name": "a reporter", "role": "reporter"}),
        await app.post(f"/api/registry/agents/{other.aid}/contain", {"reason": "leaked"}),
    ]
    assert all(response.is_success for response in made), [response.text for response in made]
    delivery = await app.post(f"/api/webhooks/{made[1].json()['id']}/test", {})
    return {
        "agent": one.aid,
        "unknown agent": unknown.aid,
        "session": "s/7 %",
        "run": "run_7",
        "event": str(await value(app, "SELECT id FROM audit_events WHERE type = 'handshake.complete'")),
        "tct": JTI,
        "delegation": HOP,
        "containment": made[4].json()["containment"]["id"],
        "webhook": made[1].json()["id"],
        "delivery": delivery.json()["id"],
        "key": made[3].json()["id"],
        "trust-anchor": made[2].json()["id"],
    }


async def test_every_id_leads_to_what_has_it(database_url: str) -> None:
    async with running_app(database_url) as app:
        ids = await filled(app)
        for kind, id in ids.items():
            expected = {"tct": ["tct", "revocation"], "unknown agent": ["agent"]}.get(kind, [kind])
            assert await kinds(app, f" {id}\n") == expected, kind
        assert await kinds(app, JTI.upper()) == ["tct", "revocation"]
        (delivery,) = await hits(app, ids["delivery"])
        assert (delivery["webhookId"], delivery["name"]) == (ids["webhook"], "webhook.test")
        (known,) = await hits(app, ids["agent"].replace("pubkey:", "pubkey:ed25519:"))
        assert known == {"kind": "agent", "id": ids["agent"], "name": "Researcher", "status": "active"}
        (unknown,) = await hits(app, ids["unknown agent"])
        assert (unknown["name"], unknown["status"]) == (None, None)

        key = ids["agent"].rpartition(":")[2]
        for q in (
            "resear",
            "RESEARCHER",
            key[:6],
            key[-6:],
            f"{key[:4]}…{key[-4:]}",
            f"aid:pubkey:{key[:4]}...{key[-4:]}",
        ):
            assert [hit["id"] for hit in await hits(app, q)] == [ids["agent"]], q
        for q in (
            "",
            "  ",
            "…",
            "...",
            "%",
            "s/7 _",
            "searcher",
            f"{key[:4]}…{key[:4]}",
            str(UUID(int=0)),
            "\u202e",
            "' --",
        ):
            assert await hits(app, q) == [], q
        for q in ("a" * 601, "\0"):
            assert (await app.get("/api/search", params={"q": q})).status_code == 400


async def test_a_caller_finds_only_what_it_may_read(database_url: str) -> None:
    async with running_app(database_url) as app:
        ids = await filled(app)
        needs = {
            "session": Scope.EVENTS_READ,
            "run": Scope.EVENTS_READ,
            "event": Scope.EVENTS_READ,
            "delegation": Scope.EVENTS_READ,
            "unknown agent": Scope.EVENTS_READ,
            "tct": Scope.EVENTS_READ,
            "containment": Scope.AGENTS_READ,
            "webhook": Scope.WEBHOOKS_READ,
            "delivery": Scope.WEBHOOKS_READ,
            "key": Scope.KEYS_ADMIN,
            "trust-anchor": Scope.TRUST_READ,
        }
        async with app.rt.db.connection() as conn:
            for kind, id in ids.items():
                for scope in (None, needs.get(kind)):
                    lacking = ALL_SCOPES if scope is None else ALL_SCOPES - {scope, Scope.REVOCATION_READ}
                    found = await service.search(conn, id, lacking, app.clock())
                    assert bool(found.hits) == (scope is None), (kind, scope)


async def test_many_of_one_name_are_cut(database_url: str) -> None:
    async with running_app(database_url) as app:
        await execute(
            app,
            "INSERT INTO agents (aid, display_name, handshake_endpoint, offered_caps, manifest_json)"
            " SELECT 'aid-' || n, 'same', 'https://a/', '[]', 'm' FROM generate_series(1, 100) AS n",
        )
        assert len(await hits(app, "same")) == service.MAX_AGENTS
        assert (await hits(app, "aid-7"))[0]["id"] == "aid-7"
