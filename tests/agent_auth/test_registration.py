"""A registration that proves its key: it sets the namespace, and may be demanded (contract, section 20)."""

from datetime import timedelta

import pytest

from tests.agent_auth.support import refusal, token_of
from tests.support.agents import manifest, new_agent
from tests.support.app import App, running_app
from tests.support.enrolment import events_of, register, registered, token_for

pytestmark = pytest.mark.anyio

NAMESPACE, PROOF = "X-Aitp-Namespace", "X-Aitp-Agent-Token"


async def namespace(app: App, aid: str) -> str:
    response = await app.http.get(f"/api/registry/agents/{aid}")
    found: str = response.json()["namespace"]
    return found


async def test_a_proven_registration_overrides_a_strangers(database_url: str) -> None:
    """Manifests are public: a stranger registers one elsewhere before its agent does."""
    async with running_app(database_url) as app:
        agent = new_agent()
        body = manifest(agent)
        await registered(app, body, **{NAMESPACE: "elsewhere"})
        assert refusal(await register(app.http, body, **{NAMESPACE: "home"}))[:2] == (409, "NAMESPACE_FIXED")
        proof = await token_of(app, agent)
        await registered(app, body, **{NAMESPACE: "home", PROOF: proof})
        assert await namespace(app, agent.aid) == "home"
        listed = await app.http.get("/api/registry/agents", params={"namespace": "home"})
        assert [shown["aid"] for shown in listed.json()["agents"]] == [agent.aid]
        assert [event["type"] for event in await events_of(app, aid=agent.aid)] == ["agent.registered"] * 2
        for header in ("elsewhere", "else"):
            response = await register(app.http, body, **{NAMESPACE: header})
            assert refusal(response)[:2] == (409, "NAMESPACE_FIXED")
        await registered(app, body, **{PROOF: proof})  # names none: it stays where it is
        await registered(app, body)
        assert await namespace(app, agent.aid) == "home"


async def test_a_proof_changes_nothing_else(database_url: str) -> None:
    async with running_app(database_url) as app:
        agent, now = new_agent(), int(app.clock().timestamp())
        await registered(app, manifest(agent, published_at=now))
        proof = {PROOF: await token_of(app, agent), NAMESPACE: "home"}
        response = await register(app.http, manifest(agent, published_at=now - 10), **proof)
        assert refusal(response)[:2] == (409, "MANIFEST_STALE")
        signed = manifest(agent, published_at=now + 1, extensions={"namespace": "signed"})
        assert refusal(await register(app.http, signed, **proof))[:2] == (400, "NAMESPACE_CONFLICT")
        await app.delete(f"/api/registry/agents/{agent.aid}")
        response = await register(app.http, manifest(agent, published_at=now), **proof)
        assert refusal(response)[:2] == (409, "AGENT_DEREGISTERED")


async def test_a_wrong_proof_is_refused_and_not_ignored(database_url: str) -> None:
    async with running_app(database_url) as app:
        agent = new_agent()
        body = manifest(agent)
        for proof in (await token_of(app, new_agent()), "", "nonsense"):
            response = await register(app.http, body, **{PROOF: proof})
            assert refusal(response)[:2] == (401, "AGENT_TOKEN_INVALID")
        proof = await token_of(app, agent)
        token = await token_for(app.http, body)
        app.clock.ahead = timedelta(seconds=299)
        assert (await register(app.http, body, token, **{PROOF: proof})).status_code == 201


async def test_registrations_without_proof_can_be_refused(database_url: str) -> None:
    async with running_app(database_url, ENROLMENT="proof") as app:
        agent = new_agent()
        body = manifest(agent)
        assert refusal(await register(app.http, body))[:2] == (403, "PROOF_REQUIRED")
        assert (await app.http.get(f"/api/registry/agents/{agent.aid}")).status_code == 404
        await registered(app, body, **{PROOF: await token_of(app, agent), NAMESPACE: "home"})
        assert await namespace(app, agent.aid) == "home"


async def test_a_proof_is_part_of_what_an_idempotency_key_stands_for(database_url: str) -> None:
    async with running_app(database_url) as app:
        agent = new_agent()
        body = manifest(agent)
        await registered(app, body)
        key = {"Idempotency-Key": "k", NAMESPACE: "home"}
        assert refusal(await register(app.http, body, **key))[:2] == (409, "NAMESPACE_FIXED")
        response = await register(app.http, body, **key, **{PROOF: await token_of(app, agent)})
        assert refusal(response)[:2] == (422, "IDEMPOTENCY_KEY_REUSED")
