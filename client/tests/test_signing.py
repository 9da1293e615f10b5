"""Signed requests, as an independent implementation of RFC 9421 and our own control plane read them."""

import base64
import hashlib
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from http_message_signatures import HTTPMessageVerifier, HTTPSignatureComponentResolver, HTTPSignatureKeyResolver
from http_message_signatures.algorithms import ECDSA_P256_SHA256, ED25519, HTTPSignatureAlgorithm
from http_message_signatures.exceptions import InvalidSignature

from aitp_cp.protocol import http_signature
from aitp_cp_client.signing import Request, SigningKey, signed_headers
from aitp_cp_client.wire import aid as aids
from aitp_cp_client.wire.aid import Suite
from tests.support.agents import Agent, new_agent

SUITES: list[Suite] = ["ed25519", "p256"]
ALGORITHMS: dict[Suite, type[HTTPSignatureAlgorithm]] = {"ed25519": ED25519, "p256": ECDSA_P256_SHA256}
NOW = 1_750_000_000
BODY = b'[{"type":"capability.invoked"}]'
REQUEST = Request("/under/a%20path/api/events", BODY)
AUDIENCE = aids.canonical(new_agent().aid)


class Sent:
    """A request in the form that the library takes."""

    def __init__(self, headers: dict[str, str], body: bytes = BODY) -> None:
        self.method, self.url, self.body = "POST", f"https://cp.example{REQUEST.path}", body
        self.headers = {**headers, "Host": "cp.example"}


class Keys(HTTPSignatureKeyResolver):
    def resolve_public_key(self, key_id: str) -> Any:
        aid = aids.canonical(key_id)
        raw = base64.urlsafe_b64decode(aids.public_key(aid) + "=" * (-len(aids.public_key(aid)) % 4))
        if aids.suite(aid) == "ed25519":
            return Ed25519PublicKey.from_public_bytes(raw)
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw)


def key_of(agent: Agent) -> SigningKey:
    return SigningKey.from_seed(agent.seed, agent.suite)


def verified(sent: Sent, suite: Suite) -> Any:
    verifier = HTTPMessageVerifier(
        signature_algorithm=ALGORITHMS[suite],
        key_resolver=Keys(),
        component_resolver_class=HTTPSignatureComponentResolver,
    )
    [result] = verifier.verify(sent, max_age=timedelta(days=36500))
    return result


@pytest.mark.parametrize("suite", SUITES)
def test_the_key_of_a_seed_is_the_agents(suite: Suite) -> None:
    agent = new_agent(suite)
    assert key_of(agent).aid == agent.sdk.aid
    assert agent.seed.hex() not in repr(key_of(agent))


@pytest.mark.parametrize("suite", SUITES)
def test_an_independent_implementation_accepts_it(suite: Suite) -> None:
    agent = new_agent(suite)
    headers = signed_headers(key_of(agent), REQUEST, AUDIENCE)
    result = verified(Sent(headers), suite)
    assert set(result.covered_components) >= {'"@method"', '"@path"', '"@query"', '"content-digest"', '"aitp-audience"'}
    assert result.parameters["keyid"] == agent.aid
    assert result.parameters["tag"] == "aitp-telemetry"
    assert result.parameters["expires"] - result.parameters["created"] == 300
    assert headers["Content-Digest"] == f"sha-256=:{base64.b64encode(hashlib.sha256(BODY).digest()).decode()}:"


@pytest.mark.parametrize("member", ["Aitp-Audience", "Content-Type", "Content-Digest", "Signature-Input"])
def test_a_changed_header_breaks_it(member: str) -> None:
    headers = signed_headers(key_of(new_agent()), REQUEST, AUDIENCE)
    changed = {**headers, member: headers[member].replace("application", "text").replace("a", "b", 1)}
    if member == "Signature-Input":
        changed[member] = headers[member].replace("aitp-telemetry", "aitp-telemetri")
    assert changed != headers
    with pytest.raises(InvalidSignature):
        verified(Sent(changed), "ed25519")


@pytest.mark.parametrize("suite", SUITES)
def test_the_control_plane_accepts_it(suite: Suite) -> None:
    agent = new_agent(suite)
    headers = signed_headers(key_of(agent), REQUEST, AUDIENCE, NOW)
    fields = {name.lower(): [value] for name, value in headers.items()}
    request = http_signature.SignedRequest("POST", REQUEST.path, "", fields)
    result = http_signature.verify(request, AUDIENCE, NOW)
    assert result.aid == agent.aid
    http_signature.check_body(BODY, result.digests)


def test_what_is_no_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        SigningKey.from_seed(b"short")
    with pytest.raises(ValueError, match="P-256"):
        SigningKey(ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(ValueError):
        SigningKey.from_seed(bytes(32), "p256")
