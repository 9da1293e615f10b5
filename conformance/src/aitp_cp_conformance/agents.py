"""Agents that the kit enrols: valid manifests from the SDK, and signed manifests that the SDK refuses to build."""

import base64
import hashlib
import json
import time
from secrets import token_bytes
from typing import Any

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aitp_cp_conformance.agent import Agent

ENDPOINT = "https://agent.conformance.example/aitp/handshake/hello"
DAY = 86_400


def new_agent(*, p256: bool = False) -> Agent:
    return Agent(token_bytes(32), p256=p256)


def manifest_members(agent: Agent, **changes: Any) -> dict[str, Any]:
    """Return the unsigned members of a manifest published now, with `changes` applied."""
    now = int(time.time())
    challenge = token_bytes(16)
    key = agent.aid.rpartition(":")[2]
    fields = {
        "version": "aitp/0.3",
        "aid": agent.aid,
        "display_name": "Conformance agent",
        "identity_hint": {"type": "pinned_key", "subject": "Conformance agent", "public_key": key},
        "handshake_endpoint": ENDPOINT,
        "accepted_trust_anchors": [],
        "accepted_identity_types": ["pinned_key"],
        "offered_capabilities": ["conformance.echo"],
        "proof_of_possession": {"challenge": b64url(challenge), "signature": _sign(agent, challenge)},
        "published_at": now,
        "expires_at": now + DAY,
    }
    return fields | changes


def crafted(agent: Agent, **changes: Any) -> bytes:
    """Return an envelope with members changed before signing; Ed25519 only."""
    fields = manifest_members(agent, **changes)
    return compact({"manifest": {**fields, "signature": _sign(agent, rfc8785.dumps(fields))}})


def tampered(envelope: bytes, **changes: Any) -> bytes:
    """Return the envelope with members changed after signing."""
    document = json.loads(envelope)
    document["manifest"].update(changes)
    return compact(document)


def respelled(envelope: bytes) -> bytes:
    """Return the same document in other bytes: members in reverse order, indented."""
    document = json.loads(envelope)
    document["manifest"] = dict(reversed(document["manifest"].items()))
    return json.dumps(document, indent=2).encode()


def signed_token(issuer: Agent, holder: Agent, claim_set: dict[str, Any]) -> str:
    """Return a trust token of aitp/0.3; Ed25519 only."""
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": holder.aid.rpartition(":")[2]}
    bound = {"cnf": {"jkt": b64url(hashlib.sha256(compact(jwk)).digest())}, "ver": "aitp/0.3", "aud": holder.aid}
    text = ".".join(b64url(compact(part)) for part in ({"alg": "EdDSA", "typ": "aitp-tct+jwt"}, claim_set | bound))
    return f"{text}.{b64url(Ed25519PrivateKey.from_private_bytes(issuer.seed).sign(text.encode()))}"


def fingerprint(envelope: bytes) -> str:
    """Hex SHA-256 of the RFC 8785 canonical envelope."""
    return hashlib.sha256(rfc8785.dumps(json.loads(envelope))).hexdigest()


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _sign(agent: Agent, message: bytes) -> str:
    key = Ed25519PrivateKey.from_private_bytes(agent.seed)
    return b64url(key.sign(hashlib.sha256(message).digest()))
