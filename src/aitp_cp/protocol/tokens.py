"""Reported tokens: read without trust, named, and taken out of what is stored (contract, section 9)."""

import hashlib
import re
from typing import Any
from uuid import UUID

from aitp_cp.errors import BodyInvalid
from aitp_cp.protocol import json_guard
from aitp_cp_client.wire import base64url

MAX_TOKEN = 64 * 1024

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")
# The base64url of a JSON object's first two bytes, `{"`.
_START = "eyJ"
_JWS = re.compile(_START + r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
# Inside other text, `eyJ` alone says little: the shortest header, `{"alg":""}`, has 14 characters.
_HEADER_CHARACTERS = 14
# A run of the characters of a token, read in one go: to search for the token itself is quadratic in "eyJeyJeyJ…".
_RUN = re.compile(r"[A-Za-z0-9_.-]++")

# Objects that describe a token, and their members that hold one in compact form.
_DESCRIBING = frozenset({"tct", "tcts", "delegation", "claims"})
_HOLDING = frozenset({"token", "voucher", "chain"})
_NOTHING: frozenset[str] = frozenset()


def claims_of(token: object) -> dict[str, Any] | None:
    """Return the claims of a compact JWS, unverified; None for anything unreadable. Never raises."""
    if not isinstance(token, str) or len(token) > MAX_TOKEN:
        return None
    compact = _COMPACT.fullmatch(token)
    if compact is None:
        return None
    try:
        claims = json_guard.decode(base64url.decode(compact[1]))
    except (BodyInvalid, ValueError):
        return None
    return claims if isinstance(claims, dict) else None


def synthetic_delegation_jti(token: str) -> UUID:
    """Return the id of a single-hop delegation, which carries none: SHA-1 of its text under version 5."""
    digest = hashlib.sha1(f"aitp-delegation:{token}".encode(), usedforsecurity=False).digest()
    return UUID(bytes=digest[:16], version=5)


class Redacted(dict[str, Any]):
    """`{"sha256": hex}` in place of a token, and `verdict` once it is judged.

    The token itself stays in memory, for projections, and is never encoded.
    """

    __slots__ = ("token",)

    def __init__(self, token: str) -> None:
        super().__init__(sha256=_sha256(token))
        self.token = token

    @property
    def text(self) -> str:
        """What stands for the token where only text can stand."""
        return _as_text(self["sha256"])


def text_of(value: object) -> str | None:
    """Return the text of a reported token, redacted or not."""
    if isinstance(value, Redacted):
        return value.token
    return value if isinstance(value, str) else None


def may_hold_token(text: bytes) -> bool:
    """Return whether `redact` could change the value of this JSON text; costs next to nothing."""
    return (
        b"eyJ" in text
        or b'"token"' in text
        or b'"voucher"' in text
        or b'"chain"' in text
        or b"\\u00" in text  # how any of these is spelled when a part of it is escaped
    )


def redact(value: Any, taken: list[Redacted] | None = None) -> Any:
    """Return a decoded JSON value without raw tokens; what does not change is shared, not copied.

    Each `Redacted` that it makes is added to `taken`.

    A string that is a compact JWS as a whole becomes a `Redacted`, and so do `token`, `voucher` and the entries of
    `chain` inside `tct`, `tcts[]`, `delegation` and `claims`, whatever they look like. A compact JWS inside a longer
    string or in a member's name becomes `sha256:<hex>`.
    """
    return _redacted(value, _NOTHING, [] if taken is None else taken)


def redact_text(text: str) -> str:
    """Return `text` with `sha256:<hex>` in place of each compact JWS in it."""
    if _START not in text:
        return text
    redacted = _RUN.sub(_redacted_run, text)
    return text if redacted == text else redacted


def _redacted_run(run: re.Match[str]) -> str:
    """From `eyJ` on, three parts of a run in a row are a token, unless the second is empty."""
    parts = run[0].split(".")
    done: list[str] = []
    at = 0
    while at < len(parts) - 2:
        start = parts[at].find(_START)
        if start < 0 or len(parts[at]) - start < _HEADER_CHARACTERS or not parts[at + 1]:
            done.append(parts[at])
            at += 1
            continue
        token = ".".join((parts[at][start:], parts[at + 1], parts[at + 2]))
        done.append(parts[at][:start] + _as_text(_sha256(token)))
        at += 3
    return ".".join((*done, *parts[at:]))


def _redacted(value: Any, holding: frozenset[str], taken: list[Redacted]) -> Any:
    if isinstance(value, str):
        if _START not in value:
            return value
        return _taken(value, taken) if _JWS.fullmatch(value) else redact_text(value)
    if isinstance(value, dict):
        return _redacted_object(value, holding, taken)
    if isinstance(value, list):
        return _replaced(value, [_redacted(item, holding, taken) for item in value])
    return value


def _redacted_object(value: dict[str, Any], holding: frozenset[str], taken: list[Redacted]) -> dict[str, Any]:
    new = {redact_text(name): _redacted_member(name, member, holding, taken) for name, member in value.items()}
    same = new.keys() == value.keys() and all(new[name] is member for name, member in value.items())
    return value if same else new


def _redacted_member(name: str, member: Any, holding: frozenset[str], taken: list[Redacted]) -> Any:
    if name in holding:
        return _redacted_token(member, taken)
    return _redacted(member, _HOLDING if name in _DESCRIBING else _NOTHING, taken)


def _redacted_token(member: Any, taken: list[Redacted]) -> Any:
    if isinstance(member, str):
        return _taken(member, taken)
    if isinstance(member, list):
        return _replaced(member, [_redacted_token(item, taken) for item in member])
    return _redacted(member, _HOLDING, taken)


def _taken(token: str, taken: list[Redacted]) -> Redacted:
    taken.append(redacted := Redacted(token))
    return redacted


def _replaced(old: list[Any], new: list[Any]) -> list[Any]:
    return new if any(before is not after for before, after in zip(old, new, strict=True)) else old


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _as_text(digest: str) -> str:
    return f"sha256:{digest}"
