"""Agents that report for themselves, over HTTP."""

import json
from typing import Any

import httpx

from tests.support.agents import Agent, new_agent, sdk_manifest
from tests.support.app import App
from tests.support.enrolment import registered
from tests.support.signed import pop_response, signed_by_library

CHALLENGE = "/api/agent-auth/challenge"
TOKEN = "/api/agent-auth/token"
EVENTS = "/api/events"


async def registered_agent(app: App, suite: Any = "ed25519") -> Agent:
    agent = new_agent(suite)
    await registered(app, sdk_manifest(agent))
    return agent


async def nonce_for(app: App, agent: Agent) -> str:
    response = await app.http.post(CHALLENGE, json={"aid": agent.aid})
    assert response.status_code == 200, response.text
    nonce: str = response.json()["nonce"]
    return nonce


async def token_of(app: App, agent: Agent) -> str:
    """An agent token, got the way an agent gets it."""
    proof = pop_response(agent.sdk, await nonce_for(app, agent), app.rt.signer.aid)
    response = await app.http.post(TOKEN, content=proof)
    assert response.status_code == 200, response.text
    token: str = response.json()["token"]
    return token


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def send_signed(app: App, agent: Agent, *events: Any, **changed: str) -> httpx.Response:
    """Report events in a request that the agent signed, with some headers replaced afterwards."""
    body = json.dumps(events).encode()
    headers = signed_by_library(agent, body, app.rt.signer.aid, url=f"http://cp.test{EVENTS}")
    return await app.http.post(EVENTS, content=body, headers={**headers, **changed})


async def reported(app: App, agent: Agent, *events: Any) -> dict[str, Any]:
    """The same, accepted; what was answered."""
    response = await send_signed(app, agent, *events)
    assert response.status_code == 200, response.text
    said: dict[str, Any] = response.json()
    return said


def refusal(response: httpx.Response) -> tuple[int, str, str | None]:
    said = response.json()
    return response.status_code, said["code"], said.get("reason")
