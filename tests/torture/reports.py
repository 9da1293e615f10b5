"""The events that the reporters invent: several of them tell of the same sessions, tokens and delegations."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import aitp

from tests.support.agents import Agent, b64url, new_agent
from tests.torture.record import Token

ISSUED_AT = 1_900_000_000
FAR = 4_000_000_000  # so that no entry leaves the list because its token has expired
RECENT = 40
BIG_BYTES = 20_000


def token_id(dice: random.Random) -> str:
    return str(UUID(int=dice.getrandbits(128), version=4))


def signed_token(known: dict[str, Token], issuer: Agent, subject: str, jti: str, *, is_forged: bool = False) -> str:
    """A token with a true signature, or with a damaged one; noted in `known`."""
    claims = {
        "ver": "aitp/0.3",
        "jti": jti,
        "iss": issuer.aid,
        "sub": subject,
        "aud": subject,
        "grants": ["cap.read"],
        "iat": ISSUED_AT,
        "exp": FAR,
        "cnf": {"jkt": aitp.compute_aid_jkt(subject)},
    }
    token = issuer.sign_jws("aitp-tct+jwt", claims)
    if is_forged:
        token = f"{token.rpartition('.')[0]}.{b64url(bytes(64))}"
    known[_sha256(token)] = Token(jti, issuer.aid, subject, "forged" if is_forged else "verified")
    return token


def as_stored(event: dict[str, Any], known: dict[str, Token]) -> dict[str, Any]:
    """What the log shows of an event: of a token its digest and the verdict, of padding nothing is kept here."""
    payload = {name: value for name, value in event["payload"].items() if name != "padding"}
    if isinstance(token := payload.get("tct", {}).get("token"), str):
        digest = _sha256(token)
        payload["tct"] = {**payload["tct"], "token": {"sha256": digest, "verdict": known[digest].verdict}}
    return {**event, "payload": payload}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Session:
    id: str
    aid_a: str
    aid_b: str
    run_id: str
    jti: str


@dataclass
class Scene:
    """What all reporters know of: one talks about what another began, through another replica."""

    dice: random.Random
    known: dict[str, Token]
    sessions: list[Session] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    delegations: list[str] = field(default_factory=list)
    signed: list[str] = field(default_factory=list)

    def session(self) -> Session:
        if not self.sessions or self.dice.random() < 0.3:
            number = len(self.sessions)
            first, second = sorted(f"aid:pubkey:{self.dice.randrange(20):043d}" for _ in range(2))
            self.sessions.append(Session(f"s-{number}", first, second, f"r-{number % 3}", token_id(self.dice)))
        return self.dice.choice(self.sessions[-RECENT:])

    def event(self, key: str) -> dict[str, Any]:
        """One event that carries its key as its id and in its payload."""
        made = self.dice.choices(_MAKERS, _WEIGHTS)[0](self)
        return {**made, "id": key, "payload": {**made.get("payload", {}), "torture": key}}

    def a_token(self) -> str:
        if not self.tokens:
            self.tokens.append(token_id(self.dice))
        return self.dice.choice(self.tokens[-RECENT:])


def _small(scene: Scene) -> dict[str, Any]:
    return {"type": "demo.event", "run_id": f"r-{scene.dice.randrange(3)}"}


def _big(scene: Scene) -> dict[str, Any]:
    return {"type": "demo.big", "payload": {"padding": "x" * scene.dice.randrange(BIG_BYTES)}}


def _invoked(scene: Scene) -> dict[str, Any]:
    session = scene.session()
    return {"type": "capability.invoked", "aid_a": session.aid_a, "session_id": session.id}


def _handshake(kind: str) -> Callable[[Scene], dict[str, Any]]:
    def make(scene: Scene) -> dict[str, Any]:
        session = scene.session()
        return {"type": f"handshake.{kind}", **_sides(session), "payload": {"error": f"e-{session.id}"}}

    return make


def _complete(scene: Scene) -> dict[str, Any]:
    session = scene.session()
    scene.tokens.append(session.jti)
    return {
        "type": scene.dice.choice(["handshake.complete", "handshake.completed"]),
        **_sides(session),
        "grants": [scene.dice.choice("abc")],
        "payload": {"tct": _claims(session)},
    }


def _issued(scene: Scene) -> dict[str, Any]:
    session = scene.session()
    scene.tokens.append(session.jti)
    return {"type": "tct.issued", "payload": {"tct": _claims(session)}}


def _proven(scene: Scene) -> dict[str, Any]:
    """A signed token, told of for the first time or once more; some are forged."""
    if not scene.signed or scene.dice.random() < 0.7:
        jti, forged = token_id(scene.dice), scene.dice.random() < 0.3
        scene.signed.append(signed_token(scene.known, new_agent(), new_agent().aid, jti, is_forged=forged))
        if not forged:
            scene.tokens.append(jti)
    token = scene.dice.choice(scene.signed[-RECENT:])
    told = scene.known[_sha256(token)]
    if (
        told.verdict == "verified" and scene.dice.random() < 0.3
    ):  # by its claims alone, perhaps before anybody proves it
        return {"type": "tct.issued", "payload": {"tct": {"jti": told.jti, "iss": told.issuer, "sub": told.subject}}}
    return {"type": "tct.issued", "payload": {"tct": {"token": token}}}


def _token_revoked(scene: Scene) -> dict[str, Any]:
    return {"type": "tct.revoked", "payload": {"jti": scene.a_token()}}


def _delegated(scene: Scene) -> dict[str, Any]:
    parent = scene.dice.choice(scene.delegations[-RECENT:]) if scene.dice.random() < 0.5 and scene.delegations else None
    jti = token_id(scene.dice)
    scene.delegations.append(jti)
    sides = {"delegator_aid": "aid:delegator", "delegatee_aid": "aid:delegatee"}
    return {"type": "delegation.issued", "payload": {"jti": jti, "parent_jti": parent or scene.a_token(), **sides}}


def _delegation_revoked(scene: Scene) -> dict[str, Any]:
    if not scene.delegations:
        return _delegated(scene)
    return {"type": "delegation.revoked", "payload": {"jti": scene.dice.choice(scene.delegations[-RECENT:])}}


def _sides(session: Session) -> dict[str, Any]:
    return {"session_id": session.id, "run_id": session.run_id, "aid_a": session.aid_a, "aid_b": session.aid_b}


def _claims(session: Session) -> dict[str, Any]:
    sides = {"iss": session.aid_b, "sub": session.aid_a, "aud": session.aid_b}
    return {"jti": session.jti, **sides, "grants": ["x"], "iat": ISSUED_AT, "exp": ISSUED_AT + 3600}


_MAKERS = (
    _small,
    _big,
    _invoked,
    _handshake("started"),
    _handshake("failed"),
    _complete,
    _issued,
    _proven,
    _token_revoked,
    _delegated,
    _delegation_revoked,
)
_WEIGHTS = (8, 1, 4, 4, 1, 3, 2, 2, 1, 3, 0.5)
