"""Verification of a control plane's manifest and revocation list."""

import aitp
import msgspec

from aitp_cp_client.wire import aid as aids
from aitp_cp_client.wire.aid import Aid


class Unverified(Exception):
    """The document does not verify; the message has the SDK's code."""


class _Manifest(msgspec.Struct):
    aid: str


class _Envelope(msgspec.Struct):
    manifest: _Manifest


def manifest_issuer(envelope: bytes, expected: Aid | None = None) -> Aid:
    """Verify a manifest and return its AID; raise `Unverified`, also if it is not `expected`."""
    try:
        aitp.verify_manifest_json(envelope.decode())
        issuer = aids.canonical(msgspec.json.decode(envelope, type=_Envelope).manifest.aid)
    except aitp.ManifestVerificationError as refused:
        raise Unverified(f"the manifest does not verify: {refused.code}") from refused
    except (ValueError, msgspec.MsgspecError) as refused:
        raise Unverified("the manifest does not verify: malformed") from refused
    if expected is not None and issuer != expected:
        raise Unverified("the manifest is not the pinned identity's")
    return issuer


def verify_revocation_list(envelope: bytes, issuer: Aid) -> None:
    """Check that `issuer` signed the list and it has not expired; raise `Unverified`."""
    try:
        aitp.verify_revocation_list(envelope.decode(), issuer)
    except aitp.RevocationVerificationError as refused:
        raise Unverified(f"the revocation list does not verify: {refused.code}") from refused
    except ValueError as refused:
        raise Unverified("the revocation list does not verify: malformed") from refused
