"""Requests that an agent has signed: one profile of RFC 9421 and RFC 9530 (contract, section 20).

Whatever the RFCs leave open is closed here: one signature, one list of components, four parameters, plain spellings.
An inner list in its canonical spelling is its own serialization, so the signature base uses it as it was sent.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from aitp_cp.errors import SignatureInvalid
from aitp_cp.protocol import aid_keys
from aitp_cp.protocol.aid_keys import SIGNATURE_BYTES
from aitp_cp_client.wire import aid as aids
from aitp_cp_client.wire.aid import Aid, Suite

TAG = "aitp-telemetry"
COMPONENTS = ("@method", "@path", "@query", "content-digest", "content-type", "aitp-audience")
MAX_SKEW_SECS = 300
MAX_LIFETIME_SECS = 300
MAX_FIELD = 2048  # characters of a field that takes part; ours need 330

ALGORITHMS: Mapping[Suite, str] = {"ed25519": "ed25519", "p256": "ecdsa-p256-sha256"}
_PARAMETERS = frozenset({"created", "expires", "keyid", "tag", "alg"})
_HASHES = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}

_LABEL = r"[a-z*][a-z0-9_.*-]*"
_NAME = r'"[!#-\[\]-~]*"'
_VALUE = r'(?:-?[0-9]{1,15}|"[ !#-\[\]-~]*")'  # an integer, or a string without escapes: no AID and no tag needs one
_INPUT = re.compile(rf"({_LABEL})=(\(((?:{_NAME}(?: {_NAME})*)?)\)((?:;{_LABEL}={_VALUE})*))")
_PARAMETER = re.compile(rf";({_LABEL})=({_VALUE})")
_BYTES = re.compile(rf"({_LABEL})=:([A-Za-z0-9+/]*={{0,2}}):")  # a member of Signature or Content-Digest
_DIGEST_SEPARATOR = re.compile(r"[ \t]*,[ \t]*")

Reason = Literal["components", "digest", "time", "audience", "key", "algorithm"]
Fields = Mapping[str, list[str]]


class SignedRequest(msgspec.Struct, frozen=True):
    """What a signature can cover: path and query as they were sent, and every line of each header field."""

    method: str
    path: str
    query: str
    fields: Fields


class Digest(msgspec.Struct, frozen=True):
    """What the signed `content-digest` says of the body."""

    algorithm: str
    value: bytes


class VerifiedRequest(msgspec.Struct, frozen=True):
    """The signer of a request. Its body is the signer's only if `check_body` says so."""

    aid: Aid
    digests: tuple[Digest, ...]


class _Input(msgspec.Struct, frozen=True):
    """The one member of Signature-Input; `text` is its inner list with the parameters, as it was sent."""

    label: str
    text: str
    covered: list[str]
    created: int
    expires: int
    aid: Aid


def fields_of(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    """Return the lines of each field that a signature covers or consists of, from raw headers in lower case."""
    relevant = {"signature-input", "signature", *COMPONENTS}
    fields: dict[str, list[str]] = {}
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1")
        if name in relevant:
            fields.setdefault(name, []).append(raw_value.decode("latin-1").strip(" \t"))
    return fields


def is_signed(fields: Fields) -> bool:
    return "signature-input" in fields or "signature" in fields


def verify(request: SignedRequest, audience: Aid, now: int) -> VerifiedRequest:
    """Return who signed this request for `audience`; `now` is in epoch seconds.

    Raises `SignatureInvalid`, the cheap reasons first. The signature covers the digest of the body, so this needs
    none of the body; `check_body` compares it later.
    """
    signature_input = _read_input(_only(request.fields, "signature-input"))
    signature = _read_signature(_only(request.fields, "signature"), signature_input.label)
    _check_times(signature_input, now)
    if aids.recognise(_only(request.fields, "aitp-audience", "audience")) != audience:
        raise _invalid("audience", "Aitp-Audience is not the AID of this control plane")
    digests = _read_digests(_only(request.fields, "content-digest", "digest"))
    if not verifies(signature_input.aid, signature, _signature_base(request, signature_input)):
        raise _invalid("key", "the signature does not verify under the key of keyid")
    return VerifiedRequest(signature_input.aid, digests)


def check_body(body: bytes, digests: Iterable[Digest]) -> None:
    """Compare a body with each digest that was signed for it; raises `SignatureInvalid`."""
    for digest in digests:
        if not hmac.compare_digest(_HASHES[digest.algorithm](body).digest(), digest.value):
            raise _invalid("digest", f"the body does not have the {digest.algorithm} digest that was signed")


def _only(fields: Fields, name: str, reason: Reason = "components") -> str:
    """Return the single line of a field: where several could be meant, two readers may take different ones."""
    lines = fields.get(name, [])
    if len(lines) != 1:
        raise _invalid(reason, f"the request must have exactly one {name} header")
    if len(lines[0]) > MAX_FIELD:
        raise _invalid(reason, f"{name} is longer than {MAX_FIELD} characters")
    return lines[0]


def _read_input(text: str) -> _Input:
    shape = _INPUT.fullmatch(text)
    if shape is None:
        raise _invalid("components", "Signature-Input must be one signature, in its canonical spelling")
    label, inner, names, parameters = shape.groups()
    covered = names.replace('"', "").split(" ")
    if sorted(covered) != sorted(COMPONENTS):
        raise _invalid("components", f"the signature must cover exactly {' '.join(COMPONENTS)}")
    values: dict[str, str] = {}
    for name, value in _PARAMETER.findall(parameters):
        if name not in _PARAMETERS or name in values:
            raise _invalid("components", "the parameters must be created, expires, keyid and tag, each once")
        values[name] = value
    if values.get("tag") != f'"{TAG}"':
        raise _invalid("components", f'the parameter tag must be "{TAG}"')
    aid = _signer(values.get("keyid"))
    if values.get("alg") not in (None, f'"{ALGORITHMS[aids.suite(aid)]}"'):
        raise _invalid("algorithm", f"alg must be {ALGORITHMS[aids.suite(aid)]} for this key")
    return _Input(label, inner, covered, _seconds(values, "created"), _seconds(values, "expires"), aid)


def _signer(keyid: str | None) -> Aid:
    aid = None if keyid is None else aids.recognise(keyid.strip('"'))
    if aid is None:
        raise _invalid("key", "the parameter keyid must be the AID of the agent")
    return aid


def _seconds(values: Mapping[str, str], name: str) -> int:
    value = values.get(name, '"')
    if value.startswith('"'):
        raise _invalid("time", f"the parameter {name} must be given, in epoch seconds")
    return int(value)


def _check_times(signature_input: _Input, now: int) -> None:
    if abs(signature_input.created - now) > MAX_SKEW_SECS:
        raise _invalid("time", f"created is more than {MAX_SKEW_SECS} s away from this control plane's clock")
    if not 0 <= signature_input.expires - signature_input.created <= MAX_LIFETIME_SECS:
        raise _invalid("time", f"expires must lie within {MAX_LIFETIME_SECS} s after created")
    if signature_input.expires < now:
        raise _invalid("time", "the signature has expired")


def _read_signature(text: str, label: str) -> bytes:
    shape = _BYTES.fullmatch(text)
    if shape is None or shape[1] != label:
        raise _invalid("components", "Signature must hold the one signature that Signature-Input describes")
    signature = _decode(shape[2])
    if signature is None or len(signature) != SIGNATURE_BYTES:
        raise _invalid("key", f"the signature is not {SIGNATURE_BYTES} bytes in canonical base64")
    return signature


def _read_digests(text: str) -> tuple[Digest, ...]:
    """Return every digest of the field; one under an unknown algorithm is refused, for nobody would compare it."""
    digests: dict[str, Digest] = {}
    for member in _DIGEST_SEPARATOR.split(text):
        shape = _BYTES.fullmatch(member)
        value = _decode(shape[2]) if shape else None
        if shape is None or value is None or shape[1] not in _HASHES or shape[1] in digests:
            raise _invalid("digest", "Content-Digest must be sha-256=:…: or sha-512=:…:, each at most once")
        digests[shape[1]] = Digest(shape[1], value)
    return tuple(digests.values())


def _decode(text: str) -> bytes | None:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    return data if base64.b64encode(data).decode() == text else None


def _signature_base(request: SignedRequest, signature_input: _Input) -> bytes:
    """Return what was signed (RFC 9421, section 2.5), with the components in the signer's order."""
    derived = {"@method": request.method, "@path": request.path or "/", "@query": f"?{request.query}"}
    lines = [f'"{name}": {derived.get(name) or _only(request.fields, name)}' for name in signature_input.covered]
    return "\n".join((*lines, f'"@signature-params": {signature_input.text}')).encode("latin-1")


def verifies(aid: Aid, signature: bytes, message: bytes) -> bool:
    """Return whether the key in an AID made this 64-byte signature of a message."""
    key = aid_keys.key_of(aid)
    return key is not None and aid_keys.verifies(key, signature, message)


def _invalid(reason: Reason, message: str) -> SignatureInvalid:
    return SignatureInvalid(message, extra={"reason": reason})
