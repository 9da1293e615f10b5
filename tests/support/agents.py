"""Real agents: their keys, manifests (also such as the SDK would not build), handshakes and delegations."""

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from secrets import token_bytes
from time import time
from typing import Any, Literal
from uuid import uuid4

import aitp
import rfc8785
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ENDPOINT = "https://agent.example/aitp/handshake/hello"
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
Suite = Literal["ed25519", "p256"]


@dataclass(frozen=True)
class Agent:
    """An agent whose seed the test knows, so that it can sign by hand what the SDK refuses to build."""

    seed: bytes
    suite: Suite = "ed25519"

    @cached_property
    def sdk(self) -> aitp.AitpAgent:
        return aitp.AitpAgent.from_seed(self.seed, self.suite)

    @property
    def aid(self) -> str:
        return self.sdk.aid

    @property
    def key(self) -> str:
        """The public key as base64url."""
        return self.aid.rpartition(":")[2]

    def sign_digest(self, digest: bytes) -> str:
        """The wire form of a signature over a SHA-256 digest, as manifests use it."""
        if self.suite == "ed25519":
            return b64url(Ed25519PrivateKey.from_private_bytes(self.seed).sign(digest))
        private = ec.derive_private_key(int.from_bytes(self.seed, "big"), ec.SECP256R1())
        r, s = utils.decode_dss_signature(private.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256()))))
        low_s = min(s, P256_ORDER - s)  # the SDK takes only this one of the two equivalent signatures
        return "p256." + b64url(r.to_bytes(32, "big") + low_s.to_bytes(32, "big"))

    def sign_jws(self, typ: str, claims: dict[str, Any]) -> str:
        """A compact JWS as agents write it."""
        alg = "EdDSA" if self.suite == "ed25519" else "ES256"
        return self.sign_parts(compact({"alg": alg, "typ": typ}), compact(claims))

    def sign_parts(self, header: bytes, payload: bytes) -> str:
        """A compact JWS of any header and payload, signed as this agent's key demands."""
        text = f"{b64url(header)}.{b64url(payload)}"
        if self.suite == "ed25519":
            return f"{text}.{b64url(Ed25519PrivateKey.from_private_bytes(self.seed).sign(text.encode()))}"
        return f"{text}.{self.sign_digest(hashlib.sha256(text.encode()).digest()).removeprefix('p256.')}"


def new_agent(suite: Suite = "ed25519") -> Agent:
    return Agent(token_bytes(32), suite)


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def claims_in(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


def sdk_manifest(
    agent: Agent,
    *,
    name: str = "Test agent",
    endpoint: str = ENDPOINT,
    caps: Iterable[str] = ("cap.read",),
    ttl_secs: int = 86_400,
    **options: Any,
) -> bytes:
    """The envelope exactly as the SDK builds it, published now."""
    return agent.sdk.build_manifest(name, endpoint, list(caps), ttl_secs=ttl_secs, **options).encode()


def members(agent: Agent, *, published_at: int | None = None, ttl_secs: int = 86_400) -> dict[str, Any]:
    """A sound manifest's members without its signature."""
    published_at = int(time()) if published_at is None else published_at
    challenge = token_bytes(16)
    return {
        "version": "aitp/0.3",
        "aid": agent.aid,
        "display_name": "Test agent",
        "identity_hint": {"type": "pinned_key", "subject": "Test agent", "public_key": agent.key},
        "handshake_endpoint": ENDPOINT,
        "accepted_trust_anchors": [],
        "accepted_identity_types": ["pinned_key"],
        "offered_capabilities": ["cap.read"],
        "proof_of_possession": {
            "challenge": b64url(challenge),
            "signature": agent.sign_digest(hashlib.sha256(challenge).digest()),
        },
        "published_at": published_at,
        "expires_at": published_at + ttl_secs,
    }


def signed(agent: Agent, fields: dict[str, Any]) -> dict[str, Any]:
    """The envelope around `fields`, signed over the digest of their canonical JSON."""
    digest = hashlib.sha256(_canonical(fields)).digest()
    return {"manifest": {**fields, "signature": agent.sign_digest(digest)}}


def manifest(
    agent: Agent, *, published_at: int | None = None, ttl_secs: int = 86_400, drop: str = "", **changes: Any
) -> bytes:
    """An authentic envelope published at any time, with any members changed or one dropped."""
    fields = {**members(agent, published_at=published_at, ttl_secs=ttl_secs), **changes}
    fields.pop(drop, None)
    return compact(signed(agent, fields))


def tampered(envelope: bytes, **changes: Any) -> bytes:
    """The envelope with members changed after signing."""
    document = json.loads(envelope)
    document["manifest"].update(changes or {"display_name": "Someone else"})
    return compact(document)


def _canonical(fields: dict[str, Any]) -> bytes:
    try:
        return rfc8785.dumps(fields)
    except rfc8785.IntegerDomainError:
        return json.dumps(fields, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


@dataclass(frozen=True)
class Issued:
    """A token one side received, with its claims and the grant voucher that came along."""

    token: str
    claims: dict[str, Any]
    voucher: str


@dataclass(frozen=True)
class Handshake:
    """What each side holds after the four messages: the token the other one issued to it."""

    session_id: str
    initiator: Issued
    responder: Issued


def handshake(
    initiator: Agent, responder: Agent, *, asked: Iterable[str] = ("cap.read",), offered: Iterable[str] = ("cap.write",)
) -> Handshake:
    """All four messages between two SDK sessions; `asked` goes to the initiator, `offered` to the responder."""
    initiator.sdk.build_manifest("Initiator", ENDPOINT, list(offered))
    peer = responder.sdk.build_manifest("Responder", ENDPOINT, list(asked))
    ours = initiator.sdk.new_session(pinned_keys=[responder.aid])
    theirs = responder.sdk.new_responder(pinned_keys=[initiator.aid])
    hello_ack, session_id = theirs.process_hello(ours.build_hello(peer, list(asked)))
    commit = ours.process_hello_ack(hello_ack, session_id)
    commit_ack, received = theirs.process_commit(commit, revoked_jtis=set())
    return Handshake(session_id, _issued(ours.complete(commit_ack, revoked_jtis=set())), _issued(received))


def delegation(holder: Agent, voucher: str, delegatee: Agent, scope: Iterable[str] = ("cap.read",)) -> str:
    """A single-hop delegation token, as the SDK builds it: it carries no jti."""
    return holder.sdk.build_delegation(voucher, delegatee.aid, list(scope))


def second_hop(first: str, delegator: Agent, delegatee: Agent, root: Agent) -> tuple[str, str]:
    """A two-hop delegation token (RFC-AITP-0011) and the first hop as its chain holds it.

    `first` is a single-hop token for `delegator`, whose issuer is given by `root`; hops of a chain carry a jti, so it
    is signed again.
    """
    earlier = root.sign_jws("aitp-delegation+jwt", {**claims_in(first), "jti": str(uuid4())})
    digest = b64url(hashlib.sha256(earlier.encode()).digest())
    said = claims_in(first)
    claims = {
        "ver": said["ver"],
        "iss": delegator.aid,
        "sub": delegatee.aid,
        "aud": said["aud"],
        "scope": said["scope"],
        "exp": said["exp"],
        "cnf": {"jkt": aitp.compute_aid_jkt(delegatee.aid)},
        "jti": str(uuid4()),
        "chain": [earlier],
        "chain_hash": b64url(hashlib.sha256(rfc8785.dumps([digest])).digest()),
    }
    return delegator.sign_jws("aitp-delegation+jwt", claims), earlier


def _issued(completed: str) -> Issued:
    held = json.loads(completed)
    return Issued(held["tct"], claims_in(held["tct"]), held["grant_voucher"])
