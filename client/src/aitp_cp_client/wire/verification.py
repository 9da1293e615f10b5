"""What a peer checks of a control plane: that its manifest and its revocation list are its own and still good."""

import aitp
import msgspec

from aitp_cp_client.wire import aid as aids
from aitp_cp_client.wire.aid import Aid


class Unverified(Exception):
    """Says what did not verify, with the SDK's code."""


class _Manifest(msgspec.Struct):
    aid: str


class _Envelope(msgspec.Struct):
    manifest: _Manifest


def manifest_issuer(envelope: bytes, expected: Aid | None = None) -> Aid:
    """The AID that signed this manifest, which is not expired; raises `Unverified`, also for another than expected."""
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
    """That `issuer` signed this list and it has not expired; raises `Unverified`."""
    try:
        aitp.verify_revocation_list(envelope.decode(), issuer)
    except aitp.RevocationVerificationError as refused:
        raise Unverified(f"the revocation list does not verify: {refused.code}") from refused
    except ValueError as refused:
        raise Unverified("the revocation list does not verify: malformed") from refused
