"""The one-time token between enrolment and registration (contract, section 8)."""

import hashlib
import hmac
import re
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from aitp_cp.errors import TokenInvalid
from aitp_cp_client.wire import base64url
from aitp_cp_client.wire.aid import Aid

LIFETIME_SECS = 300
SCOPE = "register"
MAX_TOKEN = 2048
MAX_JTI = 64

Seconds = Annotated[int, Meta(ge=0, le=253_402_300_799)]  # of the epoch, to the end of the year 9999

_SHAPE = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{43})")


class Minted(msgspec.Struct, frozen=True):
    """A fresh token; `exp` is in epoch seconds."""

    token: str
    jti: str
    exp: int


class Claims(msgspec.Struct, frozen=True):
    """What a token says: `msh` is the hex SHA-256 of the canonical envelope."""

    sub: str
    scope: str
    iat: Seconds
    exp: Seconds
    jti: str
    msh: str


_DECODER = msgspec.json.Decoder(Claims)


def mint(secret: bytes, aid: Aid, manifest_sha256: str, now: datetime, jti: str) -> Minted:
    """Return a token that lets `aid` register exactly this manifest, once, within five minutes."""
    issued_at = int(now.timestamp())
    claims = Claims(aid, SCOPE, issued_at, issued_at + LIFETIME_SECS, jti, manifest_sha256)
    body = base64url.encode(msgspec.json.encode(claims))
    return Minted(f"{body}.{_signature(secret, body)}", jti, claims.exp)


def verify(secret: bytes, token: str, now: datetime) -> Claims:
    """Return the claims of a token this secret signed; raises `TokenInvalid`.

    The caller still compares `sub` and `msh` with the manifest, and spends `jti`.
    """
    shape = _SHAPE.fullmatch(token) if len(token) <= MAX_TOKEN else None
    if shape is None:
        raise TokenInvalid("the enrollment token is malformed")
    body, signature = shape.groups()
    if not hmac.compare_digest(signature, _signature(secret, body)):
        raise TokenInvalid("the enrollment token's signature does not verify")
    claims = _decode(body)
    if claims.scope != SCOPE:
        raise TokenInvalid("the enrollment token is not for registration")
    if claims.exp <= now.timestamp():
        raise TokenInvalid("the enrollment token has expired")
    return claims


def _decode(body: str) -> Claims:
    try:
        claims = _DECODER.decode(base64url.decode(body))
    except (ValueError, msgspec.DecodeError) as refused:
        raise TokenInvalid("the enrollment token is malformed") from refused
    if not 0 < len(claims.jti) <= MAX_JTI:
        raise TokenInvalid("the enrollment token is malformed")
    return claims


def _signature(secret: bytes, body: str) -> str:
    return base64url.encode(hmac.new(secret, body.encode(), hashlib.sha256).digest())
