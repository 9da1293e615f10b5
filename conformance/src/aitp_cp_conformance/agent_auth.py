"""Contract, section 20: agents report for themselves."""

import json
from urllib.parse import urlsplit

from aitp_cp_client.signing import Request, SigningKey, signed_headers
from aitp_cp_client.wire.aid import Aid
from aitp_cp_conformance import expect
from aitp_cp_conformance.agent import Agent
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment, event
from aitp_cp_conformance.proving import TOKEN, answered, challenge, token_of
from aitp_cp_conformance.registered import main_agent, other_agent
from aitp_cp_conformance.wire import Response

EVENTS = "/api/events"
KIND = "conformance.agent"


async def main_token(cp: Deployment) -> str:
    return await token_of(cp, (await cp.shared(main_agent)).agent)


async def send_signed(cp: Deployment, agent: Agent, body: bytes, *, sent: bytes | None = None) -> Response:
    """Report `body` in a request that the agent signs; with `sent` another body goes out under that signature."""
    health: dict[str, str] = (await cp.public.get("/api/health")).ok()
    path = urlsplit(cp.options.url).path.rstrip("/") + EVENTS
    key = SigningKey.from_seed(agent.seed, "p256" if agent.p256 else "ed25519")
    headers = signed_headers(key, Request(path, body), Aid(health["aid"]))
    return await cp.public.post(EVENTS, body if sent is None else sent, headers)


async def expect_reporter(cp: Deployment, kind: str, agent: Agent, proof: str) -> None:
    [stored] = await cp.history(type=kind)
    shown = {name: stored.get(name) for name in ("reportedBy", "proof", "aidA")}
    expect.equal(shown, {"reportedBy": agent.aid, "proof": proof, "aidA": agent.aid}, "the event's reporter")


@check("20", "a challenge answers {nonce, audience: <the CP's AID>, expiresIn: 60}", extension=True)
async def challenge_answer(cp: Deployment) -> None:
    asked = await challenge(cp, (await cp.shared(main_agent)).agent)
    expect.members(asked, ("nonce", "audience", "expiresIn"), "the challenge")
    health = (await cp.public.get("/api/health")).ok()
    expect.equal((asked["audience"], asked["expiresIn"]), (health["aid"], 60), "audience and expiresIn")


@check("20", 'a signed challenge answers {token: "aca_…", expiresIn: 900, aid}', extension=True)
async def token_answer(cp: Deployment) -> None:
    agent = (await cp.shared(other_agent)).agent
    body = (await cp.public.post(TOKEN, await answered(cp, agent))).ok()
    expect.members(body, ("token", "expiresIn", "aid"), "the response")
    expect.equal((body["expiresIn"], body["aid"]), (900, agent.aid), "expiresIn and aid")
    expect.that(str(body["token"]).startswith("aca_"), "the token does not begin with aca_")


@check("20", "nonces are single-use", extension=True)
async def used_nonce(cp: Deployment) -> None:
    proof = await answered(cp, (await cp.shared(main_agent)).agent)
    (await cp.public.post(TOKEN, proof)).ok()
    expect.status(await cp.public.post(TOKEN, proof), 401)


@check("20", "an agent token reports, and the event names its agent", extension=True)
async def token_reports(cp: Deployment) -> None:
    agent, kind = (await cp.shared(main_agent)).agent, cp.name(KIND)
    bearer = {"Authorization": f"Bearer {await cp.shared(main_token)}"}
    body = (await cp.public.post(EVENTS, [event(kind, id=cp.name("event"))], bearer)).ok()
    expect.equal(body["inserted"], 1, "`inserted` after one event")
    await expect_reporter(cp, kind, agent, "agent-token")


@check("20", "an agent token opens nothing but reports", extension=True)
async def token_scope(cp: Deployment) -> None:
    cp.require_key()
    bearer = {"Authorization": f"Bearer {await cp.shared(main_token)}"}
    expect.error(await cp.public.get("/api/events/history", bearer), 403, "SCOPE_MISSING")


@check("20", "a signed request reports, and the event names its agent", extension=True)
async def signature_reports(cp: Deployment) -> None:
    for make in (main_agent, other_agent):
        agent, kind = (await cp.shared(make)).agent, cp.name(KIND)
        body = (await send_signed(cp, agent, json.dumps([event(kind, id=cp.name("event"))]).encode())).ok()
        expect.equal(body["inserted"], 1, "`inserted` after one event")
        await expect_reporter(cp, kind, agent, "signature")


@check("20", "another body than the signed one is 401 `SIGNATURE_INVALID`, `reason` digest", extension=True)
async def altered_body(cp: Deployment) -> None:
    body = json.dumps([event(cp.name(KIND), id=cp.name("event"))]).encode()
    response = await send_signed(cp, (await cp.shared(main_agent)).agent, body, sent=body + b" ")
    expect.equal(expect.error(response, 401, "SIGNATURE_INVALID").get("reason"), "digest", "`reason`")


@check("20", "who is no party of a session changes nothing in it", extension=True)
async def no_party(cp: Deployment) -> None:
    agent, session = (await cp.shared(main_agent)).agent, cp.name("session")
    other = (await cp.shared(other_agent)).agent
    sides = {"session_id": session, "aid_a": other.aid, "aid_b": other.aid}
    await cp.report(event("handshake.started", id=cp.name("event"), **sides))
    lie = event("handshake.failed", id=cp.name("event"), session_id=session)
    body = (await send_signed(cp, agent, json.dumps([lie]).encode())).ok()
    expect.equal(body["errors"], [{"index": 0, "field": "aid_a", "reason": "not a party"}], "`errors`")
    shown = (await cp.admin.get(f"/api/sessions/{session}")).ok()["session"]
    expect.equal(shown["status"], "started", "the session's status")
