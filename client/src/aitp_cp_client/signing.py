"""Signed requests as an agent makes them: one profile of RFC 9421 and RFC 9530 (contract, section 20)."""

import base64
import hashlib
import time
from dataclasses import dataclass
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from aitp_cp_client.wire import aid as aids
from aitp_cp_client.wire import base64url
from aitp_cp_client.wire.aid import Aid, Suite

TAG = "aitp-telemetry"
LABEL = "sig1"
COMPONENTS = ("@method", "@path", "@query", "content-digest", "content-type", "aitp-audience")
LIFETIME_SECS = 300  # the longest that the control plane accepts
ALGORITHMS: dict[Suite, str] = {"ed25519": "ed25519", "p256": "ecdsa-p256-sha256"}
SEED_BYTES = 32

PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey


class SigningKey:
    """An agent's private key: the SDK's agents sign only the protocol's own messages, never a request."""

    def __init__(self, key: PrivateKey) -> None:
        """Take an Ed25519 or P-256 key of `cryptography`; raises `ValueError` for another curve."""
        if isinstance(key, ec.EllipticCurvePrivateKey) and not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("the key must be an Ed25519 or a P-256 key")
        self._key = key
        self.aid = _aid_of(key)

    @classmethod
    def from_seed(cls, seed: bytes, suite: Suite = "ed25519") -> Self:
        """Return the key that `aitp.AitpAgent.from_seed` makes of this seed; raises `ValueError`."""
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes")
        if suite == "p256":
            return cls(ec.derive_private_key(int.from_bytes(seed, "big"), ec.SECP256R1()))
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    def __repr__(self) -> str:  # without the key
        return f"SigningKey({self.aid})"

    def sign(self, message: bytes) -> bytes:
        """Return 64 bytes; of ECDSA they are r and s (RFC 9421, section 3.3.4)."""
        if isinstance(self._key, Ed25519PrivateKey):
            return self._key.sign(message)
        r, s = decode_dss_signature(self._key.sign(message, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@dataclass(frozen=True, slots=True)
class Request:
    """What is signed: `path` as it is sent, escapes included."""

    path: str
    body: bytes
    query: str = ""
    method: str = "POST"
    content_type: str = "application/json"


def signed_headers(key: SigningKey, request: Request, audience: Aid, now: int | None = None) -> dict[str, str]:
    """Return the headers that prove who sends this request to the control plane with the AID `audience`.

    Good for 300 s from `now`, in epoch seconds.
    """
    created = int(time.time()) if now is None else now
    headers = {
        "Content-Digest": f"sha-256=:{_base64(hashlib.sha256(request.body).digest())}:",
        "Content-Type": request.content_type,
        "Aitp-Audience": audience,
    }
    parameters = _parameters(key.aid, created)
    signature = key.sign(_signature_base(request, headers, parameters))
    return {
        **headers,
        "Signature-Input": f"{LABEL}={parameters}",
        "Signature": f"{LABEL}=:{_base64(signature)}:",
    }


def _parameters(aid: Aid, created: int) -> str:
    names = " ".join(f'"{name}"' for name in COMPONENTS)
    algorithm = ALGORITHMS[aids.suite(aid)]
    return f'({names});created={created};expires={created + LIFETIME_SECS};keyid="{aid}";alg="{algorithm}";tag="{TAG}"'


def _signature_base(request: Request, headers: dict[str, str], parameters: str) -> bytes:
    """Return the lines that are signed (RFC 9421, section 2.5)."""
    derived = {"@method": request.method, "@path": request.path, "@query": f"?{request.query}"}
    values = {**derived, **{name.lower(): value for name, value in headers.items()}}
    lines = [f'"{name}": {values[name]}' for name in COMPONENTS]
    return "\n".join((*lines, f'"@signature-params": {parameters}')).encode("ascii")


def _aid_of(key: PrivateKey) -> Aid:
    if isinstance(key, Ed25519PrivateKey):
        return aids.canonical(f"aid:pubkey:{base64url.encode(key.public_key().public_bytes_raw())}")
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return aids.canonical(f"{aids.P256_PREFIX}{base64url.encode(point)}")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
