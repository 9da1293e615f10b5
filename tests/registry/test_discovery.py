"""Reading the registry (contract, section 8)."""

import asyncio
import json
import re
import time
from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from aitp_cp.events.tail import Tail
from aitp_cp.registry.cache import KEPT_SECS, RegistryCache
from aitp_cp.registry.jobs import read_names
from tests.support.agents import ENDPOINT, Agent, manifest, new_agent
from tests.support.app import AUTH, App, running_app
from tests.support.enrolment import register, registered
from tests.support.rows import execute

pytestmark = pytest.mark.anyio

AGENTS = "/api/registry/agents"
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
MEMBERS = {
    "aid",
    "displayName",
    "handshakeEndpoint",
    "offeredCaps",
    "status",
    "namespace",
    "registeredAt",
    "lastEnrolledAt",
    "lastSeenAt",
    "manifestUrl",
    "agentManifestHint",
    "manifestExpiresAt",
}


async def listed(app: App, **filters: str) -> list[dict[str, Any]]:
    response = await app.http.get(AGENTS, params=filters)
    assert response.status_code == 200
    agents: list[dict[str, Any]] = response.json()["agents"]
    return agents


async def names(app: App, **filters: str) -> list[str]:
    return [agent["displayName"] for agent in await listed(app, **filters)]


async def add(app: App, name: str, agent: Agent | None = None, namespace: str = "default", **changes: Any) -> Agent:
    agent = agent or new_agent()
    await registered(app, manifest(agent, display_name=name, **changes), **{"X-Aitp-Namespace": namespace})
    return agent


async def test_a_record_has_every_member(database_url: str) -> None:
    async with running_app(database_url) as app:
        agent = await add(app, "One")
        (record,) = await listed(app)
        assert set(record) == MEMBERS
        assert (record["aid"], record["displayName"], record["offeredCaps"]) == (agent.aid, "One", ["cap.read"])
        assert (record["handshakeEndpoint"], record["status"], record["namespace"]) == (ENDPOINT, "active", "default")
        assert ISO.fullmatch(record["registeredAt"])
        assert record["lastEnrolledAt"] == record["registeredAt"]
        assert record["lastSeenAt"] is None
        assert record["manifestUrl"] == f"{AGENTS}/{quote(agent.aid, safe='')}/manifest"
        assert "%3A" in record["manifestUrl"]
        assert record["agentManifestHint"] == "https://agent.example/.well-known/aitp-manifest"

        for spelled in (quote(agent.aid, safe=""), agent.aid, agent.aid.replace("pubkey:", "pubkey:ed25519:")):
            response = await app.http.get(f"{AGENTS}/{spelled}")
            assert response.json() == record
            assert response.headers["cache-control"] == "public, max-age=30"


@pytest.mark.parametrize("named", ["aid_a", "aid_b", "by its token"])
async def test_when_an_agent_was_last_seen(database_url: str, named: str) -> None:
    """Whoever reports reads that at once, although the record and the list were in memory before."""
    async with running_app(database_url) as app:
        agent = await add(app, "One")

        async def last_seen() -> list[str | None]:
            (in_list,), record = await listed(app), await app.http.get(f"{AGENTS}/{agent.aid}")
            return [in_list["lastSeenAt"], record.json()["lastSeenAt"]]

        async def report() -> None:
            token = {"jti": str(uuid4()), "iss": agent.aid, "sub": "peer"}
            by_token = {"type": "handshake.complete", "session_id": "s", "payload": {"tct": token}}
            event = {"type": "tick", named: agent.aid} if named.startswith("aid") else by_token
            assert (await app.post("/api/events", [event])).json()["inserted"] == 1

        await settled(app)
        assert await last_seen() == [None, None]
        await report()
        first, again = await last_seen()
        assert first == again
        assert ISO.fullmatch(str(first))
        app.clock.ahead += timedelta(seconds=2)
        await report()
        assert str((await last_seen())[1]) > str(first)


async def test_the_filters(database_url: str) -> None:
    async with running_app(database_url) as app:
        first = await add(app, "First", offered_capabilities=["cap.a", "cap.b"])
        await add(app, "Second", namespace="team/b", offered_capabilities=["cap.b"])
        await add(app, "Second", namespace="team/b", offered_capabilities=["cap.a.b", "Cap.B"])
        assert await names(app) == ["First", "Second", "Second"]
        assert await names(app, capability="cap.b") == ["First", "Second"]
        assert await names(app, capability="cap.a") == ["First"]
        assert await names(app, capability="cap") == []
        assert await names(app, capability='cap.a","cap.b') == []
        assert await names(app, aid=first.aid) == ["First"]
        assert await names(app, aid=first.aid.replace("pubkey:", "pubkey:ed25519:")) == ["First"]
        assert await names(app, displayName="Second") == ["Second", "Second"]
        assert await names(app, display_name="Second") == ["Second", "Second"]
        assert await names(app, displayName="second") == []
        assert await names(app, namespace="team/b") == ["Second", "Second"]
        assert await names(app, namespace="default") == ["First"]
        assert await names(app, namespace="team/b", capability="cap.b") == ["Second"]
        assert await names(app, namespace="nowhere") == []
        assert await names(app, capability="", aid="", namespace="") == ["First", "Second", "Second"]
        assert await names(app, unknown="filter") == ["First", "Second", "Second"]


async def test_by_status(database_url: str) -> None:
    async with running_app(database_url) as app:
        await add(app, "Short", ttl_secs=600)
        gone = await add(app, "Gone")
        await add(app, "Here")
        await app.http.delete(f"{AGENTS}/{gone.aid}", headers=AUTH)

        async def by_status() -> dict[str, list[str]]:
            return {status: await names(app, status=status) for status in ("active", "expired", "deregistered", "all")}

        found = {"active": ["Short", "Here"], "expired": [], "deregistered": ["Gone"], "all": ["Short", "Gone", "Here"]}
        assert await by_status() == found
        assert await names(app) == found["active"]
        assert await names(app, status="nonsense") == []
        app.clock.ahead = timedelta(minutes=11)  # no job has run, and still
        assert await by_status() == found | {"active": ["Here"], "expired": ["Short"]}
        assert await names(app) == ["Here"]
        (short,) = await listed(app, displayName="Short", status="all")
        assert short["status"] == "expired"


async def test_the_order_is_of_registration_then_of_aids(database_url: str) -> None:
    async with running_app(database_url) as app:
        agents = [await add(app, str(number)) for number in range(6)]
        assert await names(app) == ["0", "1", "2", "3", "4", "5"]
        await register(app.http, manifest(agents[0], display_name="0", extensions={"again": 1}))
        assert await names(app) == ["0", "1", "2", "3", "4", "5"]
        await execute(app, "UPDATE agents SET registered_at = '2026-01-01T00:00:00Z'")
        app.rt.get(RegistryCache).clear()
        assert [agent["aid"] for agent in await listed(app)] == sorted(agent.aid for agent in agents)


async def test_pages(database_url: str) -> None:
    async with running_app(database_url) as app:
        await execute(
            app,
            "INSERT INTO agents (aid, display_name, handshake_endpoint, offered_caps, manifest_json,"
            " manifest_expires_at, registered_at)"
            " SELECT 'aid:' || n, 'n' || n, 'not a url', '[]', '{}', now() + interval '1 day',"
            " timestamptz '2026-01-01' + n * interval '1 s' FROM generate_series(1, 1005) AS n",
        )
        assert len(await listed(app)) == 200
        assert len(await listed(app, limit="1000000")) == 1000
        assert await names(app, limit="2", offset="3") == ["n4", "n5"]
        assert len(await listed(app, limit="0")) == 1
        assert len(await listed(app, limit="-1", offset="-1")) == 1
        assert len(await listed(app, limit="ten", offset="five")) == 200
        assert len(await listed(app, limit="%00")) == 200
        assert await names(app, limit="1000", offset="1003") == ["n1004", "n1005"]
        assert await names(app, offset="100000") == []
        (record,) = await listed(app, aid="aid:7")
        assert record["agentManifestHint"] is None
        assert record["offeredCaps"] == []


async def test_the_hint_is_the_origin_of_the_endpoint(database_url: str) -> None:
    endpoints = {
        "https://agent.example:8443/a/b?c=d#e": "https://agent.example:8443/.well-known/aitp-manifest",
        "http://[2001:db8::1]:80/h": "http://[2001:db8::1]:80/.well-known/aitp-manifest",
        "https://user:secret@agent.example/h": "https://agent.example/.well-known/aitp-manifest",
        "HTTPS://agent.example": "https://agent.example/.well-known/aitp-manifest",
    }
    async with running_app(database_url) as app:
        for endpoint in endpoints:
            await add(app, "x", handshake_endpoint=endpoint)
        hints = {agent["handshakeEndpoint"]: agent["agentManifestHint"] for agent in await listed(app)}
    assert hints == endpoints


async def test_manifests_come_along_only_when_asked_for(database_url: str) -> None:
    agent = new_agent()
    body = manifest(agent)
    async with running_app(database_url) as app:
        await registered(app, body)
        for asked in ("include_manifest", "includeManifest"):
            (record,) = await listed(app, **{asked: "true"})
            assert record["manifestJson"].encode() == body
        for response in ("false", "0", "", "no"):
            assert set((await listed(app, include_manifest=response))[0]) == MEMBERS


async def test_the_manifest_as_bytes_whatever_became_of_the_agent(database_url: str) -> None:
    agent = new_agent()
    body = json.dumps(json.loads(manifest(agent, ttl_secs=600, display_name="Ä")), indent=2, ensure_ascii=False)
    async with running_app(database_url) as app:
        await registered(app, body.encode())
        url = (await listed(app))[0]["manifestUrl"]

        async def status() -> str:
            response = await app.http.get(url)
            assert (response.status_code, response.content) == (200, body.encode())
            assert response.headers["content-type"] == "application/json"
            assert response.headers["cache-control"] == "max-age=60"
            return response.headers["x-aitp-agent-status"]

        assert await status() == "active"
        app.clock.ahead = timedelta(minutes=11)
        assert await status() == "expired"
        await app.http.delete(f"{AGENTS}/{agent.aid}", headers=AUTH)
        assert await status() == "deregistered"
        gone = await app.http.get(f"{AGENTS}/{agent.aid}")
        assert (gone.status_code, gone.json()["status"]) == (200, "deregistered")
        assert gone.headers["cache-control"] == "no-store"


async def test_agents_nobody_knows(database_url: str) -> None:
    async with running_app(database_url) as app:
        for aid in (new_agent().aid, "x", "aid%3Apubkey%3A", "%F0%9F%98%80", "a" * 3000, "'; DROP TABLE agents"):
            for path in (f"{AGENTS}/{aid}", f"{AGENTS}/{aid}/manifest"):
                response = await app.http.get(path)
                assert (response.status_code, response.json()["code"]) == (404, "NOT_FOUND")
                assert response.headers["cache-control"] == "no-store"


async def test_what_one_replica_changes_another_shows_within_a_second(database_url: str) -> None:
    agent = new_agent()
    async with running_app(database_url) as one, running_app(database_url) as other:
        assert await names(other) == []
        await add(one, "New", agent)
        assert await names(one) == ["New"]
        await eventually(other, ["New"])
        await one.http.delete(f"{AGENTS}/{agent.aid}", headers=AUTH)
        assert await names(one) == []
        await eventually(other, [])


async def test_what_another_program_changes_without_a_word_is_shown_within_five_seconds(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_app(database_url) as app:
        agent = await add(app, "One")
        record = f"{AGENTS}/{agent.aid}"

        async def shown() -> set[str]:
            return {*await names(app), (await app.http.get(record)).json()["displayName"]}

        await settled(app)
        assert await shown() == {"One"}
        await execute(app, "UPDATE agents SET display_name = 'Two'")
        assert await shown() == {"One"}
        monkeypatch.setattr(app.rt.get(RegistryCache), "_clock", lambda: time.monotonic() + KEPT_SECS)
        assert await shown() == {"Two"}


async def test_a_change_of_an_agent_is_forgotten_where_it_counts(database_url: str) -> None:
    """Its record, its manifest, lists that it is in or joins, and pages behind the first; nothing else."""
    async with running_app(database_url) as app:
        cache = app.rt.get(RegistryCache)
        reads, other = await add(app, "Reads"), await add(app, "Writes", offered_capabilities=["cap.write"])
        paths = {
            "all": AGENTS,
            "reading": f"{AGENTS}?capability=cap.read",
            "writing": f"{AGENTS}?capability=cap.write",
            "second page": f"{AGENTS}?offset=1&capability=cap.write",
            "record": f"{AGENTS}/{reads.aid}",
            "manifest": f"{AGENTS}/{reads.aid}/manifest",
            "other record": f"{AGENTS}/{other.aid}",
        }

        async def kept_after(change: Any) -> set[str]:
            """What is still answered from memory."""
            await settled(app)
            before = {name: (await app.http.get(path)).content for name, path in paths.items()}
            await change
            await execute(app, "UPDATE agents SET handshake_endpoint = handshake_endpoint || '/x'")
            await execute(app, "UPDATE agents SET manifest_json = manifest_json || ' '")
            return {name for name, path in paths.items() if (await app.http.get(path)).content == before[name]}

        everything = set(paths) - {"second page"}  # which is empty whenever it is read
        nothing = asyncio.sleep(0)
        assert await kept_after(nothing) >= everything
        cache.clear()
        moved = app.http.patch(paths["record"], json={"namespace": "home"}, headers=AUTH)
        assert await kept_after(moved) - {"second page"} == {"other record"}
        cache.clear()
        gone = app.http.delete(paths["record"], headers=AUTH)
        assert await kept_after(gone) - {"second page"} == {"writing", "other record"}
        cache.clear()
        third = registered(app, manifest(new_agent(), offered_capabilities=["cap.write"]))
        assert await kept_after(third) - {"second page"} == {"reading", "record", "manifest", "other record"}


async def test_a_move_is_shown_by_other_replicas_within_a_second(database_url: str) -> None:
    async with running_app(database_url) as one, running_app(database_url) as other:
        agent = await add(one, "One")
        await eventually(other, ["One"])
        assert (await other.http.get(f"{AGENTS}/{agent.aid}")).json()["namespace"] == "default"
        await one.http.patch(f"{AGENTS}/{agent.aid}", json={"namespace": "home"}, headers=AUTH)
        for _ in range(20):
            if (await other.http.get(f"{AGENTS}/{agent.aid}")).json()["namespace"] == "home":
                break
            await asyncio.sleep(0.05)
        assert await names(other, namespace="home") == ["One"]
        assert (await other.http.get(f"{AGENTS}/{agent.aid}")).json()["namespace"] == "home"


async def settled(app: App) -> None:
    """Wait until the tail has read what the test wrote so far: it makes the cache forget, too."""
    async with app.rt.db.connection() as conn:
        newest = await conn.fetchval("SELECT max(seq) FROM audit_events")
    while app.rt.get(Tail).last < newest:
        await asyncio.sleep(0.02)


async def eventually(app: App, expected: list[str]) -> None:
    for _ in range(24):
        if await names(app) == expected:
            return
        await asyncio.sleep(0.05)
    assert await names(app) == expected


async def test_by_the_beginning_of_a_name_or_an_aid(database_url: str) -> None:
    async with running_app(database_url) as app:
        one = await add(app, "100% Real_name", offered_capabilities=["cap.one"])
        other = await add(app, "100x real")
        key = one.aid.removeprefix("aid:pubkey:")
        for q in ("100%", "100% rEAL_", one.aid, one.aid[:20], key[:9], key[-8:], "cap.one"):
            assert await names(app, q=q) == ["100% Real_name"], q
        assert await names(app, q="100") == ["100% Real_name", "100x real"]
        assert await names(app, q=other.aid, capability="cap.one") == []
        for q in ("%", "__%", "Real_name", "cap", "\\", "\U0010ffff", "' OR true --"):
            assert await names(app, q=q) == [], q


async def test_by_what_a_name_looks_like(database_url: str) -> None:
    async with running_app(database_url) as app:
        for name in ("modern", "rnodern", "m\u043edern", "mo\u200bdern", "modest"):
            await add(app, name)
        await execute(app, "UPDATE agents SET name_skeleton = NULL WHERE display_name = 'rnodern'")
        assert len(await names(app, looksLike="Modern", status="all")) == 3
        await read_names(app.rt)
        assert await names(app, looksLike="Modern", status="all") == [
            "modern",
            "rnodern",
            "m\u043edern",
            "mo\u200bdern",
        ]


async def test_by_the_expiry_of_the_manifest(database_url: str) -> None:
    async with running_app(database_url) as app:
        soon, late = await add(app, "soon", ttl_secs=3600), await add(app, "late", ttl_secs=86_400)
        expiry = (await listed(app, aid=soon.aid))[0]["manifestExpiresAt"]
        assert await names(app, expiresAfter=expiry) == ["soon", "late"]
        assert await names(app, expiresBefore=expiry) == []
        assert await names(app, expires_before=(await listed(app, aid=late.aid))[0]["manifestExpiresAt"]) == ["soon"]
        assert (await app.http.get(AGENTS, params={"expiresBefore": "soon"})).status_code == 400
