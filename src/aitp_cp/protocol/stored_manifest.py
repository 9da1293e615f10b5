"""What an envelope stored by an older deployment says, where its row does not."""

import hashlib
from datetime import UTC, datetime

import msgspec

from aitp_cp.protocol import canonical_json


class _Dated(msgspec.Struct):
    published_at: int


class _Envelope(msgspec.Struct):
    manifest: _Dated


def published_at(text: str) -> datetime | None:
    """When the stored manifest was published; None when it cannot be told."""
    try:
        return datetime.fromtimestamp(msgspec.json.decode(text, type=_Envelope).manifest.published_at, UTC)
    except (msgspec.MsgspecError, ValueError, OverflowError, OSError):
        return None


def fingerprint(text: str) -> str | None:
    """Hex SHA-256 of the canonical stored envelope; None when it is not JSON."""
    try:
        return hashlib.sha256(canonical_json.encode(msgspec.json.decode(text))).hexdigest()
    except (msgspec.MsgspecError, ValueError):
        return None
