"""What an envelope stored by an older deployment says, where its row does not."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from aitp_cp.protocol.manifest import canonical_signature


class _Envelope(msgspec.Struct):
    manifest: dict[str, Any]


def published_at(text: str) -> datetime | None:
    """Return when the stored manifest was published; None when it cannot be told."""
    try:
        return datetime.fromtimestamp(_members(text)["published_at"], UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


def signature(text: str) -> str | None:
    """Return the stored manifest's signature as `Manifest.signature` spells it; None when it cannot be told."""
    signature = _members(text).get("signature")
    return canonical_signature(signature) if isinstance(signature, str) else None


def _members(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=_Envelope).manifest
    except (msgspec.MsgspecError, ValueError):
        return {}
