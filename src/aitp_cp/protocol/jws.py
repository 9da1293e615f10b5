"""Compact JWS as aitp/0.3 profiles it (RFC 7515, RFC-AITP-0001 section 5.4.5), checked under the key in `iss`.

The SDK verifies tokens for a party: under its own clock, and a delegation only beside its issuers' manifests. Tokens in
reports come late and without manifests, so their signatures are checked here. Nothing in a header chooses a key or an
algorithm: both follow from the AID in `iss`.
"""

import json
import re
from typing import Any

import msgspec

from aitp_cp.errors import BodyInvalid
from aitp_cp.protocol import aid_keys, json_guard
from aitp_cp.protocol.aid_keys import Key
from aitp_cp.protocol.tokens import MAX_TOKEN
from aitp_cp_client.wire import aid as aids
from aitp_cp_client.wire import base64url

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")


class Jws(msgspec.Struct, frozen=True):
    """A token that can be read; `claims` is what it says, signed or not, and `header` None where it is no JSON object.

    `signed` is the text that the signature covers, `payload` the JSON of the claims.
    """

    signed: bytes
    signature: str
    header: dict[str, Any] | None
    payload: bytes
    claims: dict[str, Any]
    issuer: str


def parse(token: str) -> Jws | None:
    """Return the parts of a token; None for what is no compact JWS, or has no object with an issuer in it."""
    compact = _COMPACT.fullmatch(token) if len(token) <= MAX_TOKEN else None
    if compact is None:
        return None
    payload = decoded(compact[2])
    try:
        claims = None if payload is None else json_guard.decode(payload)
    except BodyInvalid:
        return None
    if payload is None or not isinstance(claims, dict) or not isinstance(claims.get("iss"), str):
        return None
    header = decoded(compact[1])
    return Jws(
        signed=token[: compact.end(2)].encode(),
        signature=compact[3],
        header=None if header is None else _object(header),
        payload=payload,
        claims=claims,
        issuer=claims["iss"],
    )


def decoded(part: str) -> bytes | None:
    """Return the bytes of unpadded base64url; None where these bytes have another spelling, which is the right one."""
    try:
        data = base64url.decode(part)
    except ValueError:
        return None
    return data if base64url.encode(data) == part else None


def key_of(issuer: str) -> Key | None:
    """Return the public key in an AID, None where there is none."""
    aid = aids.recognise(issuer)
    return None if aid is None else aid_keys.key_of(aid)


def is_signed(jws: Jws, key: Key) -> bool:
    """Return whether the holder of `key` signed exactly this text."""
    signature = decoded(jws.signature)
    return signature is not None and aid_keys.verifies(key, signature, jws.signed, low_s=True)


def has_plain_header(jws: Jws, typ: str) -> bool:
    """Return whether the header is `alg` and `typ`, each once and as the issuer's key and the kind demand."""
    alg = "ES256" if jws.issuer.startswith(aids.P256_PREFIX) else "EdDSA"
    return jws.header == {"alg": alg, "typ": typ}


def names_members_once(jws: Jws) -> bool:
    """Return whether no object among the claims has two members of one name."""
    # The SDK writes compact JSON; only other text is read a second time, by a slower reader.
    return msgspec.json.encode(jws.claims) == jws.payload or _object(jws.payload) is not None


def _object(text: bytes) -> dict[str, Any] | None:
    """Return a JSON object in which every name occurs once."""
    try:
        value = json.loads(text.decode(), object_pairs_hook=_once, parse_constant=json_guard.refuse_constant)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("two members have one name")
    return members
