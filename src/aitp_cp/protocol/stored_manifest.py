"""What an envelope stored by an older deployment says, where its row does not."""

from datetime import UTC, datetime

import msgspec

from aitp_cp.protocol.manifest import canonical_signature


class _Dated(msgspec.Struct):
    published_at: int


class _Envelope(msgspec.Struct):
    manifest: _Dated


class _Signed(msgspec.Struct):
    signature: str


class _SignedEnvelope(msgspec.Struct):
    manifest: _Signed


def published_at(text: str) -> datetime | None:
    """Return when the stored manifest was published; None when it cannot be told."""
    try:
        return datetime.fromtimestamp(msgspec.json.decode(text, type=_Envelope).manifest.published_at, UTC)
    except (msgspec.MsgspecError, ValueError, OverflowError, OSError):
        return None


def signature(text: str) -> str | None:
    """Return the stored manifest's signature as `Manifest.signature` spells it; None when it cannot be told."""
    try:
        return canonical_signature(msgspec.json.decode(text, type=_SignedEnvelope).manifest.signature)
    except (msgspec.MsgspecError, ValueError):
        return None
