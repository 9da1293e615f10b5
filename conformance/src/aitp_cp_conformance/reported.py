"""What agents would report, and what checks share of it: sessions, tokens, families of delegations."""

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
    """A token, the delegation made from it, and one made from that."""

    root: str
    child: str
    grandchild: str
    names: tuple[str, str, str, str]  # the issuer, the holder, and the two that it was delegated to


def new_jti() -> str:
    return str(uuid4())


def claims(issuer: str, holder: str, jti: str, **more: Any) -> dict[str, Any]:
    """What a token says of itself, good for an hour."""
    now = int(time.time())
    return {"jti": jti, "iss": issuer, "sub": holder, "grants": [], "iat": now, "exp": now + HOUR, **more}


def compact_token(said: dict[str, Any]) -> str:
    """A token in compact form that nobody signed: the control plane reads reports, it does not judge them."""
    parts = ({"alg": "EdDSA", "typ": "aitp-tct+jwt"}, said)
    encoded = [base64.urlsafe_b64encode(msgspec.json.encode(part)).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


def issued(said: dict[str, Any], **more: Any) -> Event:
    return event("tct.issued", payload={"tct": {"claims": said}}, **more)


def delegated(jti: str, parent: str, delegator: str, delegatee: str, **more: Any) -> Event:
    now = int(time.time())
    payload = {"jti": jti, "parent_jti": parent, "delegator": delegator, "delegatee": delegatee, "iat": now} | more
    return event("delegation.issued", payload=payload)


async def session(cp: Deployment) -> Session:
    """A handshake that both sides reported, start and end."""
    one = Session(
        id=cp.name("session"),
        run=cp.name("run"),
        initiator=cp.name("initiator"),
        responder=cp.name("responder"),
        jti=new_jti(),
        capability=cp.name("capability"),
    )
    about = {"session_id": one.id, "run_id": one.run, "aid_a": one.initiator, "aid_b": one.responder}
    said = claims(one.responder, one.initiator, one.jti, grants=[one.capability], cnf={"jkt": "thumbprint"})
    payload = {"boundary": "conformance", "tct": {"claims": said}}
    answer = await cp.report(
        event("handshake.started", **about, payload={"boundary": "conformance"}),
        event("handshake.complete", **about, grants=[one.capability], payload=payload),
    )
    expect.equal(answer.get("inserted"), 2, "`inserted` after a handshake's two events")
    return one


async def family(cp: Deployment) -> Family:
    """Reported parent first."""
    names = (cp.name("issuer"), cp.name("holder"), cp.name("second"), cp.name("third"))
    tree = Family(new_jti(), new_jti(), new_jti(), names)
    now = int(time.time())
    answer = await cp.report(
        issued(claims(names[0], names[1], tree.root)),
        delegated(tree.child, tree.root, names[1], names[2], scope=["read"], iat=now - 20, exp=now + HOUR),
        delegated(tree.grandchild, tree.child, names[2], names[3], scope=["read"], iat=now - 10),
    )
    expect.equal(answer.get("inserted"), 3, "`inserted` after a token and two delegations")
    return tree


async def find_session(cp: Deployment, id: str) -> dict[str, Any]:
    """The session row; raises `Broken` when there is none."""
    said: dict[str, Any] = (await cp.admin.get(f"/api/sessions/{id}")).ok()
    expect.members(said, ("session", "events"), "a session's answer")
    row: dict[str, Any] = said["session"]
    return row


async def find_tct(cp: Deployment, jti: str, **filters: object) -> dict[str, Any]:
    """The token row, found by filters that leave few."""
    return _with_jti(expect.rows(await cp.admin.get("/api/tcts", limit=1000, **filters), "tcts"), jti)


async def find_delegation(cp: Deployment, jti: str, **filters: object) -> dict[str, Any]:
    """The delegation row, found by filters that leave few."""
    return _with_jti(expect.rows(await cp.admin.get("/api/delegations", limit=1000, **filters), "delegations"), jti)


def _with_jti(rows: list[dict[str, Any]], jti: str) -> dict[str, Any]:
    found = next((row for row in rows if row.get("jti") == jti), None)
    if found is None:
        raise Broken(f"{jti} is not among the rows that its issuer or delegator has")
    return found
