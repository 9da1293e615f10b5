"""Events as agents report them, and shared fixtures: a session, and a chain of delegations."""

import base64
import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import msgspec

from aitp_cp_conformance import expect
from aitp_cp_conformance.deployment import Deployment, Event, event
from aitp_cp_conformance.model import Broken

HOUR = 3600


@dataclass(frozen=True, slots=True)
class Session:
    """A complete handshake with one token."""

    id: str
    run: str
    initiator: str
    responder: str
    jti: str
    capability: str


@dataclass(frozen=True, slots=True)
class Family:
    """A token, a delegation of it, and a delegation of that delegation."""

    root: str
    child: str
    grandchild: str
    names: tuple[str, str, str, str]  # issuer, holder, first and second delegatee


def new_jti() -> str:
    return str(uuid4())


def claims(issuer: str, holder: str, jti: str, **more: Any) -> dict[str, Any]:
    """Return the claims of a token that is valid for an hour."""
    now = int(time.time())
    return {"jti": jti, "iss": issuer, "sub": holder, "grants": [], "iat": now, "exp": now + HOUR, **more}


def compact_token(claim_set: dict[str, Any]) -> str:
    """Return an unsigned token in compact form; unless its issuer is an AID, nobody can tell that it is forged."""
    parts = ({"alg": "EdDSA", "typ": "aitp-tct+jwt"}, claim_set)
    encoded = [base64.urlsafe_b64encode(msgspec.json.encode(part)).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


def issued(tct: dict[str, Any], **more: Any) -> Event:
    return event("tct.issued", payload={"tct": {"claims": tct}}, **more)


def delegated(jti: str, parent: str, delegator: str, delegatee: str, **more: Any) -> Event:
    now = int(time.time())
    payload = {"jti": jti, "parent_jti": parent, "delegator": delegator, "delegatee": delegatee, "iat": now} | more
    return event("delegation.issued", payload=payload)


async def session(cp: Deployment) -> Session:
    """Report the start and the end of a handshake."""
    handshake = Session(
        id=cp.name("session"),
        run=cp.name("run"),
        initiator=cp.name("initiator"),
        responder=cp.name("responder"),
        jti=new_jti(),
        capability=cp.name("capability"),
    )
    about = {
        "session_id": handshake.id,
        "run_id": handshake.run,
        "aid_a": handshake.initiator,
        "aid_b": handshake.responder,
    }
    tct = claims(
        handshake.responder,
        handshake.initiator,
        handshake.jti,
        grants=[handshake.capability],
        cnf={"jkt": "thumbprint"},
    )
    payload = {"boundary": "conformance", "tct": {"claims": tct}}
    response = await cp.report(
        event("handshake.started", **about, payload={"boundary": "conformance"}),
        event("handshake.complete", **about, grants=[handshake.capability], payload=payload),
    )
    expect.equal(response.get("inserted"), 2, "`inserted` after a handshake's two events")
    return handshake


async def family(cp: Deployment) -> Family:
    """Report a token and its delegations, parents first."""
    names = (cp.name("issuer"), cp.name("holder"), cp.name("second"), cp.name("third"))
    tree = Family(new_jti(), new_jti(), new_jti(), names)
    now = int(time.time())
    response = await cp.report(
        issued(claims(names[0], names[1], tree.root)),
        delegated(tree.child, tree.root, names[1], names[2], scope=["read"], iat=now - 20, exp=now + HOUR),
        delegated(tree.grandchild, tree.child, names[2], names[3], scope=["read"], iat=now - 10),
    )
    expect.equal(response.get("inserted"), 3, "`inserted` after a token and two delegations")
    return tree


async def find_session(cp: Deployment, id: str) -> dict[str, Any]:
    """Return the session row; raise `Broken` if there is none."""
    body: dict[str, Any] = (await cp.admin.get(f"/api/sessions/{id}")).ok()
    expect.members(body, ("session", "events"), "a session's answer")
    row: dict[str, Any] = body["session"]
    return row


async def find_tct(cp: Deployment, jti: str, **filters: object) -> dict[str, Any]:
    """Return the token row; `filters` must select fewer than 1000 rows."""
    return _with_jti(expect.rows(await cp.admin.get("/api/tcts", limit=1000, **filters), "tcts"), jti)


async def find_delegation(cp: Deployment, jti: str, **filters: object) -> dict[str, Any]:
    """Return the delegation row; `filters` must select fewer than 1000 rows."""
    return _with_jti(expect.rows(await cp.admin.get("/api/delegations", limit=1000, **filters), "delegations"), jti)


def _with_jti(rows: list[dict[str, Any]], jti: str) -> dict[str, Any]:
    match = next((row for row in rows if row.get("jti") == jti), None)
    if match is None:
        raise Broken(f"{jti} is not among the rows of its issuer or delegator")
    return match
