"""POST /api/registry/enroll (contract, section 8)."""

import base64
import hashlib
import hmac
import json
import time
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import rfc8785

from tests.support.agents import manifest, new_agent, sdk_manifest, tampered
from tests.support.app import SECRET, App, running_app
from tests.support.rows import counts

pytestmark = pytest.mark.anyio

ENROLL = "/api/registry/enroll"
AGENT = new_agent()


async def refused(app: App, body: bytes) -> tuple[int, str, str | None]:
    response = await app.http.post(ENROLL, content=body)
    said = response.json()
    assert isinstance(said["error"], str)
    assert set(said) <= {"error", "code", "verifyCode"}
    return response.status_code, said["code"], said.get("verifyCode")


@pytest.mark.parametrize("suite", ["ed25519", "p256"])
async def test_a_manifest_is_exchanged_for_a_token(database_url: str, suite: Any) -> None:
    agent = new_agent(suite)
    body = sdk_manifest(agent)
    async with running_app(database_url) as app:
        response = await app.http.post(ENROLL, content=body)
        assert await counts(app) == {}
    said = response.json()
    assert response.status_code == 200
    assert set(said) == {"token", "expiresIn", "aid", "jti", "exp"}
    assert (said["expiresIn"], said["aid"]) == (300, agent.aid)
    assert said["exp"] == pytest.approx(time.time() + 300, abs=3)
    assert UUID(said["jti"])

    payload, signature = said["token"].split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert claims == {
        "sub": agent.aid,
        "scope": "register",
        "iat": said["exp"] - 300,
        "exp": said["exp"],
        "jti": said["jti"],
        "msh": hashlib.sha256(rfc8785.dumps(json.loads(body))).hexdigest(),
    }
    expected = hmac.digest(SECRET.encode(), payload.encode(), "sha256")
    assert base64.urlsafe_b64decode(signature + "=") == expected


async def test_what_is_refused_and_how(database_url: str) -> None:
    """Each refusal in every detail is the manifest's own test; here is what reaches the client."""
    now = int(time.time())
    cases: list[tuple[bytes, tuple[int, str, str | None]]] = [
        (b"", (400, "BODY_INVALID", None)),
        (b"not json", (400, "BODY_INVALID", None)),
        (manifest(AGENT, display_name="a\0b"), (400, "BODY_INVALID", None)),
        (b"[]", (400, "MANIFEST_INVALID", None)),
        (b'{"manifest": 5}', (400, "MANIFEST_INVALID", None)),
        (b'{"manifest": {}}', (400, "MANIFEST_INVALID", "malformed")),
        (tampered(manifest(AGENT)), (400, "MANIFEST_INVALID", "signature_invalid")),
        (manifest(AGENT, version="aitp/0.1"), (400, "MANIFEST_INVALID", "version_unknown")),
        (manifest(AGENT, published_at=now - 7200, ttl_secs=3600), (400, "MANIFEST_EXPIRED", "expired")),
        (manifest(AGENT, ttl_secs=290), (400, "MANIFEST_EXPIRED", None)),
        (manifest(AGENT, display_name="n" * 257), (400, "MANIFEST_INVALID", None)),
        (manifest(AGENT, offered_capabilities=["c"] * 257), (400, "MANIFEST_INVALID", None)),
        (manifest(AGENT, offered_capabilities=["c" * 129]), (400, "MANIFEST_INVALID", None)),
        (manifest(AGENT, handshake_endpoint="agent.example/h"), (400, "MANIFEST_INVALID", None)),
        (manifest(AGENT, expires_at=253_402_300_800), (400, "MANIFEST_INVALID", None)),
        (manifest(AGENT, published_at=now + 400), (400, "MANIFEST_INVALID", None)),
        (
            manifest(AGENT, identity_hint={"type": "pinned_key", "subject": "a", "public_key": new_agent().key}),
            (400, "MANIFEST_INVALID", None),
        ),
        (b" " * 65_537, (413, "PAYLOAD_TOO_LARGE", None)),
    ]
    async with running_app(database_url) as app:
        for body, expected in cases:
            assert await refused(app, body) == expected, body[:80]
        assert await counts(app) == {}
        scraped = (await app.http.get("/api/metrics")).text
        assert 'aitp_control_plane_enroll_verification_failures{code="signature_invalid"} 1.0' in scraped
        assert 'aitp_control_plane_enroll_verification_failures{code="MANIFEST_EXPIRED"} 1.0' in scraped


async def test_an_endpoint_without_tls_is_for_development_and_loopback(database_url: str) -> None:
    plain = manifest(AGENT, handshake_endpoint="http://agent.example/h")
    local = manifest(AGENT, handshake_endpoint="http://127.0.0.1:9000/h")

    async def statuses(**environment: str) -> list[int]:
        async with running_app(database_url, **environment) as app:
            return [(await app.http.post(ENROLL, content=body)).status_code for body in (plain, local)]

    assert await statuses() == [200, 200]
    assert await statuses(CP_ENV="production") == [400, 200]
    assert await statuses(NODE_ENV="production") == [400, 200]


async def test_five_minutes_must_be_left(database_url: str) -> None:
    body = manifest(AGENT, ttl_secs=3600)
    async with running_app(database_url) as app:
        app.clock.ahead = timedelta(minutes=54, seconds=50)
        assert (await app.http.post(ENROLL, content=body)).status_code == 200
        app.clock.ahead = timedelta(minutes=55, seconds=5)
        assert await refused(app, body) == (400, "MANIFEST_EXPIRED", None)
        app.clock.ahead = timedelta(minutes=61)
        assert await refused(app, body) == (400, "MANIFEST_EXPIRED", "expired")


async def test_the_tagged_spelling_is_the_same_agent(database_url: str) -> None:
    tagged = AGENT.aid.replace("aid:pubkey:", "aid:pubkey:ed25519:")
    async with running_app(database_url) as app:
        response: httpx.Response = await app.http.post(ENROLL, content=manifest(AGENT, aid=tagged))
    assert response.json()["aid"] == AGENT.aid
