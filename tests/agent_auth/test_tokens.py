"""Challenge and token: an agent proves its key, and reports with the token (contract, section 20)."""

import asyncio
import json
from datetime import timedelta

import pytest

from aitp_cp.retention import service as retention
from tests.agent_auth.support import (
    CHALLENGE,
    EVENTS,
    TOKEN,
    bearer,
    nonce_for,
    refusal,
    registered_agent,
    send_signed,
    token_of,
)
from tests.support.agents import Agent, Suite, new_agent
from tests.support.app import App, running_app
from tests.support.enrolment import events_of
from tests.support.rows import value
from tests.support.signed import pop_response

pytestmark = pytest.mark.anyio

EVENT = {"type": "demo.event", "id": "1"}


async def report(app: App, token: str, event: object = EVENT) -> tuple[int, str | None]:
    response = await app.http.post(EVENTS, json=[event], headers=bearer(token))
    return response.status_code, response.json().get("code")


@pytest.mark.parametrize("suite", ["ed25519", "p256"])
async def test_an_agent_reports_with_a_token_that_its_key_got(database_url: str, suite: Suite) -> None:
    async with running_app(database_url) as app:
        agent = await registered_agent(app, suite)
        challenge = (await app.http.post(CHALLENGE, json={"aid": agent.aid})).json()
        assert challenge == {"nonce": challenge["nonce"], "audience": app.rt.signer.aid, "expiresIn": 60}
        proof = pop_response(agent.sdk, challenge["nonce"], challenge["audience"])
        response = await app.http.post(TOKEN, content=proof)
        said = response.json()
        assert said == {"token": said["token"], "expiresIn": 900, "aid": agent.aid}
        assert said["token"].startswith("aca_")
        assert await report(app, said["token"]) == (200, None)
        event = (await events_of(app))[-1]
        assert (event["aidA"], event["reportedBy"], event["proof"]) == (agent.aid, agent.aid, "agent-token")
        app.clock.ahead = timedelta(seconds=901)
        assert await report(app, said["token"]) == (401, "AGENT_TOKEN_INVALID")


async def test_the_token_opens_reports_alone(database_url: str) -> None:
    async with running_app(database_url) as app:
        agent = await registered_agent(app)
        token = bearer(await token_of(app, agent))
        said = (await app.http.get("/api/whoami", headers=token)).json()
        assert (said["actor"], said["kind"], said["scopes"]) == (f"agent:{agent.aid}", "agent", ["events:write"])
        for method, path in (("GET", "/api/events/history"), ("GET", "/api/sessions"), ("POST", "/api/webhooks")):
            response = await app.http.request(method, path, headers=token)
            assert refusal(response)[:2] == (403, "SCOPE_MISSING"), path


async def test_a_nonce_is_used_once_whatever_comes_at_the_same_time(database_url: str) -> None:
    async with running_app(database_url) as app:
        agent = new_agent()
        proof = pop_response(agent.sdk, await nonce_for(app, agent), app.rt.signer.aid)
        responses = await asyncio.gather(*(app.http.post(TOKEN, content=proof) for _ in range(5)))
        assert sorted(response.status_code for response in responses) == [200, 401, 401, 401, 401]
        assert {refusal(response)[1:] for response in responses if response.status_code == 401} == {
            ("PROOF_INVALID", "replayed")
        }
        assert await value(app, "SELECT count(*) FROM agent_nonces") == 1
        app.clock.ahead = timedelta(seconds=61)
        assert refusal(await app.http.post(TOKEN, content=proof)) == (401, "PROOF_INVALID", "nonce")


async def test_a_used_nonce_is_swept_once_it_has_expired(database_url: str) -> None:
    async with running_app(database_url) as app:
        await token_of(app, new_agent())
        async with app.rt.db.transaction() as conn:
            assert await retention.sweep(conn, app.rt.settings, app.clock()) is not None
            assert await conn.fetchval("SELECT count(*) FROM agent_nonces") == 1
            await conn.execute("UPDATE agent_nonces SET expires_at = now() - interval '1 second'")
            assert await retention.sweep(conn, app.rt.settings, app.clock()) is not None
            assert await conn.fetchval("SELECT count(*) FROM agent_nonces") == 0


async def test_what_another_key_signed_is_refused_and_leaves_the_nonce(database_url: str) -> None:
    async with running_app(database_url) as app:
        agent, other, audience = new_agent(), new_agent(), app.rt.signer.aid
        nonce = await nonce_for(app, agent)
        stolen = json.loads(pop_response(other.sdk, nonce, audience))
        for proof, reason in (
            (stolen, "nonce"),
            ({**stolen, "sender": {"agent_id": agent.aid}}, "signature"),
            (json.loads(pop_response(agent.sdk, nonce, other.aid)), "audience"),
        ):
            response = await app.http.post(TOKEN, json=proof)
            assert refusal(response) == (401, "PROOF_INVALID", reason)
        response = await app.http.post(TOKEN, content=pop_response(agent.sdk, nonce, audience))
        assert response.status_code == 200


@pytest.mark.parametrize("body", ["{}", '{"aid":"x"}', '{"aid":1}', "[]", ""])
async def test_a_challenge_is_for_an_aid(database_url: str, body: str) -> None:
    async with running_app(database_url) as app:
        response = await app.http.post(CHALLENGE, content=body)
        assert refusal(response)[:2] == (400, "BODY_INVALID")


async def test_only_an_active_agent_reports(database_url: str) -> None:
    """Whoever has a key gets a token, and its status is looked at with each request."""
    async with running_app(database_url) as app:
        stranger = new_agent()
        token = await token_of(app, stranger)
        assert await report(app, token) == (403, "AGENT_NOT_ACTIVE")
        response = await app.http.get("/api/whoami", headers=bearer(token))
        assert refusal(response)[:2] == (403, "AGENT_NOT_ACTIVE")
        agent = await registered_agent(app)
        token = await token_of(app, agent)
        assert await report(app, token) == (200, None)
        app.clock.ahead = timedelta(days=2)
        token = await token_of_at(app, agent)
        assert await report(app, token) == (403, "AGENT_NOT_ACTIVE")
        app.clock.ahead = timedelta(0)
        token = await token_of(app, agent)
        await app.delete(f"/api/registry/agents/{agent.aid}")
        assert await report(app, token) == (403, "AGENT_NOT_ACTIVE")


async def token_of_at(app: App, agent: Agent) -> str:
    """A token while the application's clock is moved, which the SDK's is not."""
    now = int(app.clock().timestamp())
    proof = pop_response(agent.sdk, await nonce_for(app, agent), app.rt.signer.aid, timestamp=now)
    token: str = (await app.http.post(TOKEN, content=proof)).json()["token"]
    return token


async def test_an_open_gate_knows_agents_all_the_same(database_url: str) -> None:
    async with running_app(database_url, API_KEYS="") as app:
        agent = await registered_agent(app)
        assert await report(app, await token_of(app, agent)) == (200, None)
        assert (await events_of(app))[-1]["reportedBy"] == agent.aid
        assert await report(app, "aca_nonsense") == (401, "AGENT_TOKEN_INVALID")


async def test_buckets(database_url: str) -> None:
    limits = {"RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_PUBLIC_PER_IP_MIN": "3", "RATE_LIMIT_AGENT_PER_MIN": "2"}
    async with running_app(database_url, RATE_LIMIT_AGENT_AUTH_PER_IP_MIN="4", **limits) as app:
        agent = await registered_agent(app)
        token = await token_of(app, agent)
        assert [(await report(app, token))[0] for _ in range(3)] == [200, 200, 429]
        response = await app.http.post(EVENTS, json=[EVENT], headers=bearer(token))
        assert response.json()["bucket"] == "agent"
        for _ in range(2):
            assert (await app.http.post(CHALLENGE, json={"aid": agent.aid})).status_code == 200
        response = await app.http.post(CHALLENGE, json={"aid": agent.aid})
        assert (response.status_code, response.json()["bucket"]) == (429, "agent-auth-ip")
        guesses = [await report(app, "aca_" + "x" * 20 + "." + "y" * 43) for _ in range(4)]
        assert [code for _, code in guesses][-1] == "RATE_LIMITED"


@pytest.mark.parametrize("known", [True, False])
async def test_a_contained_agent_gets_nothing_and_reports_nothing(database_url: str, known: bool) -> None:
    async with running_app(database_url) as app:
        agent = await registered_agent(app) if known else new_agent()
        token = await token_of(app, agent)
        proof = pop_response(agent.sdk, await nonce_for(app, agent), app.rt.signer.aid)
        response = await app.post(f"/api/registry/agents/{agent.aid}/contain", {"reason": "key lost"})
        assert response.status_code == 201, response.text
        contained = (403, "AGENT_CONTAINED")
        assert await report(app, token) == contained
        assert refusal(await send_signed(app, agent, EVENT))[:2] == contained
        assert refusal(await app.http.post(CHALLENGE, json={"aid": agent.aid}))[:2] == contained
        assert refusal(await app.http.post(TOKEN, content=proof))[:2] == contained
        assert await value(app, "SELECT count(*) FROM audit_events WHERE source <> 'cp'") == 0
