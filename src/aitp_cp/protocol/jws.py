"""Compact JWS as aitp/0.3 profiles it (RFC 7515, RFC-AITP-0001 section 5.4.5), checked under the key in `iss`.

The SDK verifies tokens for a party: under its own clock, and a delegation only beside its issuers' manifests. Tokens in
reports come late and without manifests, so their signatures are checked here. Nothing in a header chooses a key or an
algorithm: both follow from the AID in `iss`.
"""

import base64
import json
import re
from functools import lru_cache
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from aitp_cp.errors import BodyInvalid
from aitp_cp.protocol import json_guard
from aitp_cp.protocol.tokens import MAX_TOKEN
from aitp_cp_client.wire import aid as aids

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")
_SIGNATURE_BYTES = 64  # of both algorithms
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_ES256 = ec.ECDSA(hashes.SHA256())
_KNOWN_KEYS = 4096  # agents whose decoded keys are kept, about 1 KiB each

Key = Ed25519PublicKey | ec.EllipticCurvePublicKey


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
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        return None
    return data if encoded(data) == part else None


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def key_of(issuer: str) -> Key | None:
    """Return the public key in an AID, None where there is none."""
    aid = aids.recognise(issuer)
    return None if aid is None else _key(aid)


def is_signed(jws: Jws, key: Key) -> bool:
    """Return whether the holder of `key` signed exactly this text."""
    signature = decoded(jws.signature)
    if signature is None or len(signature) != _SIGNATURE_BYTES:
        return False
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, jws.signed)
        else:
            _verify_es256(key, signature, jws.signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def has_plain_header(jws: Jws, typ: str) -> bool:
    """Return whether the header is `alg` and `typ`, each once and as the issuer's key and the kind demand."""
    alg = "ES256" if jws.issuer.startswith(aids.P256_PREFIX) else "EdDSA"
    return jws.header == {"alg": alg, "typ": typ}


def names_members_once(jws: Jws) -> bool:
    """Return whether no object among the claims has two members of one name."""
    # The SDK writes compact JSON; only other text is read a second time, by a slower reader.
    return msgspec.json.encode(jws.claims) == jws.payload or _object(jws.payload) is not None


@lru_cache(maxsize=_KNOWN_KEYS)
def _key(aid: aids.Aid) -> Key | None:
    data = base64.urlsafe_b64decode(aids.public_key(aid) + "=")
    try:
        if aids.suite(aid) == "p256":
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data)
        return Ed25519PublicKey.from_public_bytes(data)
    except ValueError:
        return None


def _verify_es256(key: ec.EllipticCurvePublicKey, signature: bytes, text: bytes) -> None:
    """Of the two signatures with the same meaning, only the one with the lower S is valid."""
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if not (0 < r < _P256_ORDER and 0 < s <= _P256_ORDER // 2):
        raise InvalidSignature
    key.verify(encode_dss_signature(r, s), text, _ES256)


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
