"""Reported tokens: read without trust, named, and taken out of what is stored (contract, section 9)."""

import base64
import hashlib
import re
from typing import Any
from uuid import UUID

from aitp_cp.errors import BodyInvalid
from aitp_cp.protocol import json_guard

MAX_TOKEN = 64 * 1024

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")
# The base64url of a JSON object's first two bytes, `{"`.
_JWS = re.compile(r"eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")

# Objects that describe a token, and their members that hold one in compact form.
_DESCRIBING = frozenset({"tct", "tcts", "delegation", "claims"})
_HOLDING = frozenset({"token", "voucher", "chain"})
_NOTHING: frozenset[str] = frozenset()


def claims_of(token: object) -> dict[str, Any] | None:
    """The claims of a compact JWS, unverified; None for anything unreadable. Never raises."""
    if not isinstance(token, str) or len(token) > MAX_TOKEN:
        return None
    compact = _COMPACT.fullmatch(token)
    if compact is None:
        return None
    try:
        claims = json_guard.decode(base64.urlsafe_b64decode(compact[1] + "=" * (-len(compact[1]) % 4)))
    except (BodyInvalid, ValueError):
        return None
    return claims if isinstance(claims, dict) else None


def synthetic_delegation_jti(token: str) -> UUID:
    """The id of a single-hop delegation, which carries none: SHA-1 of its text under version 5."""
    digest = hashlib.sha1(f"aitp-delegation:{token}".encode(), usedforsecurity=False).digest()
    return UUID(bytes=digest[:16], version=5)


def redact(payload: Any) -> Any:
    """The payload with `{"sha256": hex}` in place of raw tokens; what does not change is shared, not copied.

    Replaced are `token`, `voucher` and the entries of `chain` inside `tct`, `tcts[]`, `delegation` and `claims`,
    whatever they look like, and every other string that is a compact JWS as a whole.
    """
    return _redacted(payload, _NOTHING)


def _redacted(value: Any, holding: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return _redacted_object(value, holding)
    if isinstance(value, list):
        return _replaced(value, [_redacted(item, holding) for item in value])
    if isinstance(value, str) and value.startswith("eyJ") and _JWS.fullmatch(value):
        return _fingerprint(value)
    return value


def _redacted_object(value: dict[str, Any], holding: frozenset[str]) -> dict[str, Any]:
    changed = {}
    for name, member in value.items():
        if name in holding:
            new = _redacted_token(member)
        elif isinstance(member, (str, dict, list)):
            new = _redacted(member, _HOLDING if name in _DESCRIBING else _NOTHING)
        else:
            continue
        if new is not member:
            changed[name] = new
    return {**value, **changed} if changed else value


def _redacted_token(member: Any) -> Any:
    if isinstance(member, str):
        return _fingerprint(member)
    if isinstance(member, list):
        return _replaced(member, [_redacted_token(item) for item in member])
    return _redacted(member, _HOLDING)


def _replaced(old: list[Any], new: list[Any]) -> list[Any]:
    return new if any(one is not other for one, other in zip(old, new, strict=True)) else old


def _fingerprint(token: str) -> dict[str, str]:
    return {"sha256": hashlib.sha256(token.encode()).hexdigest()}
