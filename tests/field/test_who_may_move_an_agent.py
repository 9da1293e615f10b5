"""A public manifest in a stranger's hands: whatever is not signed moves nothing and brings nobody back (row A4)."""

import asyncio
import json
import time
from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.support.agents import Agent, compact, manifest, new_agent, sdk_manifest
from tests.support.app import API_KEY, AUTH, App, running_app
from tests.support.enrolment import audit_of, bearer, events_of, register, registered, token_for
from tests.support.rows import break_inserts, execute, value

pytestmark = pytest.mark.anyio

AGENTS = "/api/registry/agents"
NOW = int(time.time())


def outcome(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json().get("code", "")


def into(namespace: str) -> dict[str, str]:
    return {"X-Aitp-Namespace": namespace}


def respelled(body: bytes, **members: Any) -> bytes:
    """The envelope with members that the SDK leaves out of what it verifies."""
    envelope = json.loads(body)
    envelope["manifest"].update(members)
    return compact(envelope)


async def record(app: App, agent: Agent) -> dict[str, Any]:
    found: dict[str, Any] = (await app.http.get(f"{AGENTS}/{agent.aid}")).json()
    return found


async def namespace_of(app: App, agent: Agent) -> str:
    return str((await record(app, agent))["namespace"])


async def move(app: App, aid: str, body: Any, headers: dict[str, str] = AUTH) -> httpx.Response:
    return await app.http.patch(f"{AGENTS}/{aid}", json=body, headers=headers)


@pytest.mark.parametrize(
    "extra",
    [
        {"extensions": None},
        {"required_peer_capabilities": None},
        {"extensions": {"note": None}},
        {"extensions": {"deep": [{"note": None}]}},
        {"identity_hint": {"type": "pinned_key", "subject": None}},
    ],
)
async def test_null_members_are_refused(database_url: str, extra: dict[str, Any]) -> None:
    """Row A4: null members anywhere in the envelope are 400 `MANIFEST_INVALID`, signed or not."""
    async with running_app(database_url) as app:
        agent = new_agent()
        for body in (respelled(manifest(agent), **extra), manifest(agent, **extra)):
            refused = await app.http.post("/api/registry/enroll", content=body)
            assert outcome(refused) == (400, "MANIFEST_INVALID")
            assert outcome(await register(app.http, body, "x.y")) == (400, "MANIFEST_INVALID")


async def test_a_null_in_a_list_is_no_member(database_url: str) -> None:
    """Row A4: what is signed and no member stays allowed."""
    async with running_app(database_url) as app:
        await registered(app, manifest(new_agent(), extensions={"weights": [1, None]}))


async def test_another_spelling_is_the_same_manifest(database_url: str) -> None:
    """Row A4: the same signature is the same manifest, although the SDK accepts it in two spellings."""
    agent = new_agent()
    body = sdk_manifest(agent)
    tagged = respelled(body, signature="ed25519." + json.loads(body)["manifest"]["signature"])
    async with running_app(database_url) as app:
        await registered(app, body, **into("home"))
        assert outcome(await register(app.http, tagged, **into("elsewhere"))) == (409, "NAMESPACE_FIXED")
        await registered(app, tagged)
        assert [event["type"] for event in await events_of(app)] == ["agent.registered"]
        assert (await app.http.get(f"{AGENTS}/{agent.aid}/manifest")).content == body

        await app.delete(f"{AGENTS}/{agent.aid}")
        app.clock.ahead = timedelta(seconds=2)
        assert outcome(await register(app.http, tagged)) == (409, "AGENT_DEREGISTERED")


async def test_a_header_never_moves_a_known_agent(database_url: str) -> None:
    """Row A4: without a header the namespace stays, an equal one is 201, another one 409."""
    agent = new_agent()
    first = manifest(agent, published_at=NOW - 60)
    newer = manifest(agent, published_at=NOW - 30, display_name="Newer")
    async with running_app(database_url) as app:
        await registered(app, first, **into("home"))
        token = await token_for(app.http, first)
        for body in (first, newer):
            assert outcome(await register(app.http, body, **into("elsewhere"))) == (409, "NAMESPACE_FIXED")
        assert outcome(await register(app.http, first, token, **into("elsewhere"))) == (409, "NAMESPACE_FIXED")
        assert (await record(app, agent))["displayName"] == "Test agent"
        assert len(await audit_of(app)) == len(await events_of(app)) == 1

        assert (await register(app.http, first, token, **into("home"))).status_code == 201  # it was not burnt
        await registered(app, newer)
        assert await namespace_of(app, agent) == "home"
        await registered(app, newer, **into("home"))
        assert await namespace_of(app, agent) == "home"


async def test_a_known_agent_in_the_default_namespace_stays_too(database_url: str) -> None:
    """Row A4: `default` is a namespace like any other."""
    agent = new_agent()
    async with running_app(database_url) as app:
        await registered(app, manifest(agent))
        assert outcome(await register(app.http, manifest(agent), **into("elsewhere"))) == (409, "NAMESPACE_FIXED")
        await registered(app, manifest(agent), **into("default"))
        assert await namespace_of(app, agent) == "default"


async def test_the_signed_extension_moves_an_agent(database_url: str) -> None:
    """Row A4: a newer manifest that names the namespace moves the agent; one of the same second does not."""
    agent = new_agent()
    signed_for = {
        name: manifest(agent, published_at=NOW - ago, extensions={"namespace": name})
        for name, ago in (("a", 60), ("b", 60), ("c", 30))
    }
    async with running_app(database_url) as app:
        await registered(app, signed_for["a"])
        assert outcome(await register(app.http, signed_for["b"])) == (409, "NAMESPACE_FIXED")
        await registered(app, signed_for["c"], **into("c"))
        assert await namespace_of(app, agent) == "c"
        assert outcome(await register(app.http, signed_for["a"])) == (409, "MANIFEST_STALE")
        assert (await events_of(app))[-1]["payload"]["namespace"] == "c"


async def test_the_owner_of_a_squatted_agent_is_told(database_url: str) -> None:
    """Row A4: a stranger registers the public manifest first; the owner's header gets 409, his extension wins."""
    agent = new_agent()
    public = manifest(agent, published_at=NOW - 60)
    async with running_app(database_url) as app:
        await registered(app, public, **into("squat"))
        assert outcome(await register(app.http, public, **into("home"))) == (409, "NAMESPACE_FIXED")
        await registered(app, manifest(agent, published_at=NOW - 30, extensions={"namespace": "home"}))
        assert await namespace_of(app, agent) == "home"
        assert outcome(await register(app.http, public, **into("squat"))) == (409, "NAMESPACE_FIXED")


async def test_one_of_two_racing_namespaces_wins(database_url: str) -> None:
    """Row A4: of registrations at the same time with different namespaces one is 201, the others are told."""
    async with running_app(database_url) as app:
        for _ in range(5):
            agent = new_agent()
            body = manifest(agent)
            tokens = [await token_for(app.http, body) for _ in range(6)]
            responses = await asyncio.gather(
                *(register(app.http, body, token, **into(f"n{n}")) for n, token in enumerate(tokens))
            )
            assert sorted(map(outcome, responses)) == [(201, "")] + [(409, "NAMESPACE_FIXED")] * 5
            won = [response.status_code for response in responses].index(201)
            assert await namespace_of(app, agent) == f"n{won}"


async def test_back_only_with_a_strictly_later_second(database_url: str) -> None:
    """Row A4: a manifest from the second of the deregistration does not bring the agent back."""
    agent = new_agent()
    async with running_app(database_url) as app:
        await registered(app, manifest(agent, published_at=NOW - 60), **into("home"))
        await app.delete(f"{AGENTS}/{agent.aid}")
        gone = await value(app, "SELECT deregistered_at FROM agents")
        second = int(gone.timestamp())
        for published in (second - 1, second):
            response = await register(app.http, manifest(agent, published_at=published, display_name="Same second"))
            assert outcome(response) == (409, "AGENT_DEREGISTERED")
        back = manifest(agent, published_at=second + 1)
        assert outcome(await register(app.http, back, **into("elsewhere"))) == (409, "NAMESPACE_FIXED")
        await registered(app, back)
        assert (await record(app, agent))["status"] == "active"
        assert await namespace_of(app, agent) == "home"


async def test_a_clock_ahead_does_not_bring_an_agent_back(database_url: str) -> None:
    """Row A4: a manifest dated after its own deregistration is not new when it was stored before that."""
    agent = new_agent()
    ahead = int(time.time()) + 200
    stored, sibling = (manifest(agent, published_at=ahead, display_name=name) for name in ("stored", "sibling"))
    async with running_app(database_url) as app:
        await registered(app, stored)
        await app.delete(f"{AGENTS}/{agent.aid}")
        for body in (stored, sibling):
            assert outcome(await register(app.http, body)) == (409, "AGENT_DEREGISTERED")
        await registered(app, manifest(agent, published_at=ahead + 1))


async def test_a_deregistration_without_a_date(database_url: str) -> None:
    """Row A4: where an older control plane left no date, only a newer manifest than the stored one comes back."""
    agent = new_agent()
    async with running_app(database_url) as app:
        await registered(app, manifest(agent, published_at=NOW - 60))
        await execute(app, "UPDATE agents SET status = 'deregistered', manifest_published_at = NULL")
        again = manifest(agent, published_at=NOW - 60, display_name="Same second")
        assert outcome(await register(app.http, again)) == (409, "AGENT_DEREGISTERED")
        await registered(app, manifest(agent, published_at=NOW - 59))


async def test_the_namespace_belongs_to_the_idempotent_request(database_url: str) -> None:
    """Row A4: the same Idempotency-Key with another namespace is another request."""
    body = manifest(new_agent())
    async with running_app(database_url) as app:
        token = await token_for(app.http, body)

        async def send(**headers: str) -> httpx.Response:
            everything = bearer(token, **{"Idempotency-Key": "k", **headers})
            return await app.http.post(AGENTS, content=body, headers=everything)

        first = await send(**into("home"))
        assert first.status_code == 201
        again = await send(**into("home"))
        assert (again.status_code, again.headers["Idempotency-Replayed"]) == (201, "true")
        assert again.json() == first.json()
        for headers in (into("elsewhere"), {}):
            assert outcome(await send(**headers)) == (422, "IDEMPOTENCY_KEY_REUSED")


async def test_an_enrolment_is_no_administrator(database_url: str) -> None:
    """Row A4: anybody can send a signed manifest, so its audit row does not name the agent as the actor."""
    agent = new_agent()
    async with running_app(database_url) as app:
        await registered(app, manifest(agent))
        (entry,) = await audit_of(app)
        assert (entry["actorId"], entry["targetId"]) == (f"enrollment:{agent.aid}", agent.aid)


async def test_an_operator_moves_an_agent(database_url: str) -> None:
    """Row A4: `PATCH` moves an agent, is audited once, emits nothing, and discovery shows it at once."""
    agent = new_agent()
    async with running_app(database_url) as app:
        await registered(app, manifest(agent), **into("squat"))
        paths = [f"{AGENTS}?namespace=squat", f"{AGENTS}/{agent.aid}"]
        for path in paths * 2:  # the second time from memory
            assert agent.aid in (await app.http.get(path)).text
        events = await events_of(app)

        tagged = agent.aid.replace("aid:pubkey:", "aid%3Apubkey%3Aed25519%3A")
        moved = await move(app, tagged, {"namespace": "home"})
        assert (moved.status_code, moved.json()) == (200, await record(app, agent))
        assert moved.json()["namespace"] == "home"
        assert (await app.http.get(paths[0])).json()["agents"] == []
        assert await events_of(app) == events
        again = await move(app, agent.aid, {"namespace": "home"})
        assert (again.status_code, again.json()) == (200, moved.json())
        entry = (await audit_of(app))[-1]
        assert entry["details"] == {"namespace": "home", "previousNamespace": "squat"}
        assert (entry["action"], entry["targetId"]) == ("agent.update", agent.aid)
        assert entry["requestId"] == moved.headers["x-request-id"]
        assert entry["actorId"].startswith("apikey:")
        assert API_KEY not in str(entry)
        assert [entry["action"] for entry in await audit_of(app)] == ["agent.register", "agent.update"]


async def test_moves_that_are_refused(database_url: str) -> None:
    """Row A4: who may not move an agent, or says nonsense, is told so, and nothing changes."""
    agent = new_agent()
    async with running_app(database_url) as app:
        await registered(app, manifest(agent))
        bodies: list[Any] = [{}, [], {"namespace": None}, {"namespace": 1}, {"namespace": ""}, {"namespace": "a b"}]
        for body in bodies:
            assert outcome(await move(app, agent.aid, body)) == (400, "BODY_INVALID"), body
        assert outcome(await move(app, agent.aid, {"namespace": "n" * 129})) == (400, "BODY_INVALID")
        assert outcome(await move(app, new_agent().aid, {"namespace": "home"})) == (404, "NOT_FOUND")
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            response = await move(app, agent.aid, {"namespace": "home"}, headers)
            assert outcome(response) == (401, "INVALID_API_KEY")
        assert await namespace_of(app, agent) == "default"
        assert len(await audit_of(app)) == 1


async def test_a_move_and_its_audit_row_are_one(database_url: str) -> None:
    """Row A4: a move whose audit row cannot be written does not happen."""
    agent = new_agent()
    async with running_app(database_url) as app:
        await registered(app, manifest(agent))
        await break_inserts(app, "admin_audit_log")
        assert outcome(await move(app, agent.aid, {"namespace": "home"})) == (500, "INTERNAL")
        assert await namespace_of(app, agent) == "default"
