"""Requests that an agent signed: by hand, and by an implementation of RFC 9421 that is not ours."""

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aitp
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver, algorithms

from tests.support.agents import Agent

COVERED = ("@method", "@path", "@query", "content-digest", "content-type", "aitp-audience")
URL = "http://testserver/api/events"


def private_key(agent: Agent) -> Ed25519PrivateKey | ec.EllipticCurvePrivateKey:
    if agent.suite == "ed25519":
        return Ed25519PrivateKey.from_private_bytes(agent.seed)
    return ec.derive_private_key(int.from_bytes(agent.seed, "big"), ec.SECP256R1())


def sign(agent: Agent, message: bytes) -> bytes:
    key = private_key(agent)
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(message)
    r, s = utils.decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def content_digest(body: bytes, algorithm: str = "sha-256") -> str:
    digest = hashlib.new(algorithm.replace("-", ""), body).digest()
    return f"{algorithm}=:{base64.b64encode(digest).decode()}:"


def signed_by_hand(
    agent: Agent,
    body: bytes,
    audience: str,
    *,
    covered: tuple[str, ...] = COVERED,
    parameters: Mapping[str, int | str] | None = None,
    changes: Mapping[str, int | str | None] | None = None,
    fields: Mapping[str, str] | None = None,
    query: str = "",
    label: str = "sig1",
) -> dict[str, str]:
    """The headers of a signed `POST /api/events`; `changes` replaces single parameters, and None leaves one out."""
    now = int(time.time())
    chosen = parameters or {"created": now, "expires": now + 300, "keyid": agent.aid, "tag": "aitp-telemetry"}
    chosen = {name: value for name, value in {**chosen, **(changes or {})}.items() if value is not None}
    headers = {
        "content-digest": content_digest(body),
        "content-type": "application/json",
        "aitp-audience": audience,
        **(fields or {}),
    }
    values = {"@method": "POST", "@path": "/api/events", "@query": f"?{query}", "@authority": "testserver", **headers}
    spelled = [
        f"{name}={value if isinstance(value, int) else chr(34) + value + chr(34)}" for name, value in chosen.items()
    ]
    inner = ";".join(["({})".format(" ".join(f'"{name}"' for name in covered)), *spelled])
    base = "\n".join([*(f'"{name}": {values[name]}' for name in covered), f'"@signature-params": {inner}'])
    signature = base64.b64encode(sign(agent, base.encode())).decode()
    return {**headers, "signature-input": f"{label}={inner}", "signature": f"{label}=:{signature}:"}


@dataclass
class _Request:
    """What the library signs."""

    url: str
    headers: dict[str, str]
    method: str = "POST"


@dataclass
class _Key(HTTPSignatureKeyResolver):
    agent: Agent
    keys: dict[str, object] = field(default_factory=dict)

    def resolve_private_key(self, key_id: str) -> Ed25519PrivateKey | ec.EllipticCurvePrivateKey:
        return private_key(self.agent)


def signed_by_library(
    agent: Agent, body: bytes, audience: str, *, url: str = URL, created: int | None = None
) -> dict[str, str]:
    """The same headers as PyPI `http-message-signatures` makes them."""
    ed25519 = agent.suite == "ed25519"
    algorithm = algorithms.ED25519 if ed25519 else algorithms.ECDSA_P256_SHA256
    request = _Request(url, {"Content-Type": "application/json", "Aitp-Audience": audience})
    moment = datetime.fromtimestamp(int(time.time()) if created is None else created, UTC)
    HTTPMessageSigner(signature_algorithm=algorithm, key_resolver=_Key(agent)).sign(
        request,
        key_id=agent.aid,
        created=moment,
        expires=datetime.fromtimestamp(moment.timestamp() + 300, UTC),
        tag="aitp-telemetry",
        covered_component_ids=COVERED,
        body=body,
    )
    return {name.lower(): value for name, value in request.headers.items()}


def pop_response(agent: aitp.AitpAgent, nonce: str, audience: str, *, timestamp: int | None = None) -> str:
    """An agent's signed answer to a challenge."""
    return agent.sign_envelope("pop_response", json.dumps({"nonce": nonce, "audience": audience}), timestamp=timestamp)
