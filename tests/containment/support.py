"""Agents with tokens, and their containment."""

from time import time
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import aitp
import httpx

from tests.support.agents import Agent, claims_in
from tests.support.app import App

REASON = {"reason": "its key was found in a public repository"}


def path(aid: str, act: str = "") -> str:
    return f"/api/registry/agents/{quote(aid, safe='')}{act and '/' + act}"


async def contain(app: App, agent: Agent, *, dry: bool = False, **body: Any) -> httpx.Response:
    query = "?dryRun=true" if dry else ""
    return await app.post(path(agent.aid, "contain") + query, {**REASON, **body})


async def contained(app: App, agent: Agent, **body: Any) -> dict[str, Any]:
    """Contain an agent; what was answered."""
    response = await contain(app, agent, **body)
    assert response.status_code == 201, response.text
    said: dict[str, Any] = response.json()
    return said


async def release(app: App, agent: Agent) -> httpx.Response:
    return await app.post(path(agent.aid, "release"), {"reason": "a new key"})


def claimed(issuer: str, subject: str, **more: Any) -> dict[str, Any]:
    """A report of a token by its claims alone."""
    claims = {"jti": str(uuid4()), "iss": issuer, "sub": subject, "exp": 4_000_000_000, **more}
    return {"type": "tct.issued", "ts": "2026-01-01T00:00:00Z", "id": str(uuid4()), "payload": {"tct": claims}}


def delegated(delegator: str, delegatee: str, parent: str, **more: Any) -> dict[str, Any]:
    claims = {"delegator": delegator, "delegatee": delegatee, "parent_jti": parent, "jti": str(uuid4()), **more}
    return {"type": "delegation.issued", "ts": "2026-01-01T00:00:00Z", "id": str(uuid4()), "payload": claims}


async def report(app: App, *events: dict[str, Any]) -> list[str]:
    """Report events; the ids of their tokens."""
    response = await app.post("/api/events", list(events))
    assert response.status_code == 200, response.text
    assert response.json()["dropped"] == 0
    return [event["payload"].get("tct", event["payload"])["jti"] for event in events]


async def tokens(app: App, **query: str) -> list[dict[str, Any]]:
    response = await app.get("/api/tcts", params={"limit": "1000", **query})
    found: list[dict[str, Any]] = response.json()["tcts"]
    return found


async def live(app: App, agent: Agent) -> list[str]:
    """The ids of the agent's live tokens, as issuer or holder."""
    found = [await tokens(app, **{side: agent.aid, "active": "true"}) for side in ("issuer", "subject")]
    return sorted({token["jti"] for side in found for token in side})


def signed(issuer: Agent, subject: Agent, **changes: Any) -> str:
    """A token that the issuer has signed."""
    now = int(time())
    claims = {
        "ver": "aitp/0.3",
        "jti": str(uuid4()),
        "iss": issuer.aid,
        "sub": subject.aid,
        "aud": subject.aid,
        "grants": ["cap.read"],
        "iat": now,
        "exp": now + 3600,
        "cnf": {"jkt": aitp.compute_aid_jkt(subject.aid)},
        **changes,
    }
    return issuer.sign_jws("aitp-tct+jwt", claims)


def proven(token: str) -> dict[str, Any]:
    """A report of a signed token."""
    claims = {"token": token, "jti": claims_in(token)["jti"]}
    return {"type": "tct.issued", "ts": "2026-01-01T00:00:00Z", "id": str(uuid4()), "payload": {"tct": claims}}
