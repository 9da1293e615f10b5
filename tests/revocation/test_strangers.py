"""What is published convinces somebody who knows nothing but the control plane's AID."""

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import aitp
import pytest
import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.revocation.support import LIST, get_list, revoke
from tests.support.agents import handshake, new_agent
from tests.support.app import App

pytestmark = pytest.mark.anyio

MANIFEST = "/.well-known/aitp-manifest"


async def test_the_sdk_verifies_manifest_and_list(app: App) -> None:
    await revoke(app, reason="compromised")
    manifest = (await app.http.get(MANIFEST)).text
    aitp.verify_manifest_json(manifest)
    aid = json.loads(manifest)["manifest"]["aid"]
    listed = (await app.http.get(LIST)).text
    aitp.verify_revocation_list(listed, aid)
    with pytest.raises(aitp.RevocationVerificationError):
        aitp.verify_revocation_list(listed, new_agent().aid)
    with pytest.raises(aitp.RevocationVerificationError):
        aitp.verify_revocation_list(listed.replace("compromised", "fine"), aid)


@pytest.mark.parametrize(("path", "member"), [(MANIFEST, "manifest"), (LIST, "revocation_list")])
async def test_the_signature_is_plain_ed25519_over_canonical_json(app: App, path: str, member: str) -> None:
    await revoke(app, reason="caf\u00e9 \U0001f512")
    document = (await app.http.get(path)).json()
    signed: dict[str, Any] = document[member]
    signature = decoded(document.get("signature") or signed.pop("signature"))
    key = Ed25519PublicKey.from_public_bytes(decoded(app.rt.signer.aid.rpartition(":")[2]))
    digest = hashlib.sha256(rfc8785.dumps(signed)).digest()
    key.verify(signature, digest)
    with pytest.raises(InvalidSignature):
        key.verify(signature, hashlib.sha256(rfc8785.dumps({**signed, "version": "aitp/0.4"})).digest())


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("spell", [str, str.upper, lambda jti: UUID(jti).urn])
async def test_a_peer_refuses_a_revoked_token_with_the_list(app: App, spell: Callable[[str], str]) -> None:
    holder, issuer = new_agent(), new_agent()
    held = handshake(holder, issuer).initiator
    other = handshake(holder, issuer).initiator

    def verify(token: str, revoked: set[str]) -> aitp.TctIdentity:
        return holder.sdk.verify_tct(token, "cap.read", revoked_jtis=revoked)

    assert verify(held.token, set(await get_list(app))).jti == held.claims["jti"]
    await revoke(app, spell(held.claims["jti"]))
    revoked = set(await get_list(app))
    with pytest.raises(RuntimeError) as refused:
        verify(held.token, revoked)
    assert refused.value.code == "TCT_REVOKED"  # type: ignore[attr-defined]
    assert verify(other.token, revoked).jti == other.claims["jti"]
