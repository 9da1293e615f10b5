"""A real handshake and real delegations, reported as a scenario runner does: flat, with raw tokens."""

import hashlib
import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from aitp_cp.protocol.tokens import synthetic_delegation_jti
from tests.ingest.support import report
from tests.support.agents import Agent, Handshake, Issued, claims_in, delegation, handshake, new_agent, second_hop
from tests.support.app import App

pytestmark = pytest.mark.anyio


def flat(type: str, second: float, **more: Any) -> dict[str, Any]:
    return {"type": type, "run_id": "run-1", "agent_id": "researcher", "ts": 1_779_710_400 + second, **more}


def held(issued: Issued) -> dict[str, Any]:
    return {"tct": {"token": issued.token, "claims": issued.claims}, "grants": issued.claims["grants"]}


def handshake_events(done: Handshake, initiator: Agent, responder: Agent) -> list[dict[str, Any]]:
    session = {"session_id": done.session_id}
    return [
        flat("handshake.started", 0.1, **session, role="responder"),
        flat("handshake.complete", 0.456, **session, **held(done.initiator), peer_aid=responder.aid, role="initiator"),
        flat("handshake.complete", 0.789, **session, **held(done.responder), peer_aid=initiator.aid, role="responder"),
    ]


def delegation_event(token: str, delegatee: Agent) -> dict[str, Any]:
    claims = claims_in(token)
    tct = {"token": token, "claims": claims}
    return flat("delegation.issued", 2, tct=tct, delegatee_aid=delegatee.aid, scope=claims["scope"])


async def rows(app: App, path: str) -> list[dict[str, Any]]:
    response = await app.get(path)
    assert response.status_code == 200, response.text
    [found] = response.json().values()
    return list(found)


async def test_a_handshake_is_one_session_and_two_tokens(app: App) -> None:
    initiator, responder = new_agent(), new_agent("p256")
    done = handshake(initiator, responder)
    for event in reversed(handshake_events(done, initiator, responder)):
        await report(app, event)
    [session] = await rows(app, "/api/sessions?runId=run-1")
    assert session["sessionId"] == done.session_id
    assert (session["aidA"], session["aidB"]) == (initiator.aid, responder.aid)
    assert (session["status"], session["grants"]) == ("complete", ["cap.read", "cap.write"])
    assert session["startedAt"] == "2026-05-25T12:00:00.100Z"
    assert session["completedAt"] == "2026-05-25T12:00:00.456Z"

    shown = {tct["jti"]: tct for tct in await rows(app, f"/api/tcts?sessionId={done.session_id}&active=true")}
    for issued, holder in ((done.initiator, initiator), (done.responder, responder)):
        tct = shown.pop(issued.claims["jti"])
        assert (tct["issuer"], tct["subject"], tct["audience"]) == tuple(
            issued.claims[n] for n in ("iss", "sub", "aud")
        )
        assert tct["subject"] == holder.aid
        assert (tct["grants"], tct["bindingCnf"]) == (issued.claims["grants"], issued.claims["cnf"]["jkt"])
    assert shown == {}


async def test_delegations_hang_from_their_token_hop_by_hop_and_fall_with_it(app: App) -> None:
    issuer, holder, helper, last = (new_agent() for _ in range(4))
    done = handshake(holder, issuer)
    root = done.initiator
    first = delegation(holder, root.voucher, helper)
    second, chained = second_hop(first, helper, last, holder)
    await report(
        app, delegation_event(second, last), delegation_event(chained, helper), delegation_event(first, helper)
    )
    await report(app, *handshake_events(done, holder, issuer))

    tree = {found["jti"]: found for found in await rows(app, f"/api/delegations?rootJti={root.claims['jti']}")}
    own, hop, leaf = str(synthetic_delegation_jti(first)), claims_in(chained)["jti"], claims_in(second)["jti"]
    assert {jti: found["parentJti"] for jti, found in tree.items()} == {
        own: root.claims["jti"],
        hop: root.claims["jti"],
        leaf: hop,
    }
    assert UUID(own).version == 5
    assert (tree[leaf]["delegator"], tree[leaf]["delegatee"]) == (helper.aid, last.aid)
    assert tree[own]["scope"] == ["cap.read"]

    await report(app, flat("tct.revoked", 9, jti=root.claims["jti"]))
    found = {row["jti"]: row["revokedReason"] for row in await rows(app, "/api/delegations")}
    assert found == dict.fromkeys((own, hop, leaf), "parent_revoked")
    [spared] = await rows(app, f"/api/tcts?sessionId={done.session_id}&active=true")
    assert spared["jti"] == done.responder.claims["jti"]
    assert (await app.get("/api/revocation/entries")).json()["entries"] == []


async def test_tokens_are_projected_before_they_are_taken_out(app: App) -> None:
    initiator, responder = new_agent(), new_agent()
    done = handshake(initiator, responder)
    await report(app, *handshake_events(done, initiator, responder))
    [event, *_] = (await app.get("/api/events/history?type=handshake.complete")).json()["events"]
    digest = hashlib.sha256(done.responder.token.encode()).hexdigest()
    assert event["payload"]["tct"] == {
        "token": {"sha256": digest, "verdict": "verified"},
        "claims": done.responder.claims,
    }
    assert done.initiator.token not in json.dumps((await app.get(f"/api/sessions/{done.session_id}/export")).json())


async def test_a_handshake_that_fails_says_why(app: App) -> None:
    session = str(uuid4())
    await report(app, flat("handshake.failed", 1, session_id=session, error="peer is not pinned", role="initiator"))
    [found] = await rows(app, "/api/sessions?status=failed")
    assert (found["sessionId"], found["error"], found["aidA"]) == (session, "peer is not pinned", None)
