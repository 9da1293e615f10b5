"""The public keys in AIDs, and the signatures made under them: 64 bytes, of ECDSA r and s."""

from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from aitp_cp_client.wire import aid as aids
from aitp_cp_client.wire import base64url
from aitp_cp_client.wire.aid import Aid

SIGNATURE_BYTES = 64  # of either algorithm
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_ES256 = ec.ECDSA(hashes.SHA256())
_KNOWN_KEYS = 4096  # agents whose decoded keys are kept, about 1 KiB each

Key = Ed25519PublicKey | ec.EllipticCurvePublicKey


@lru_cache(maxsize=_KNOWN_KEYS)
def key_of(aid: Aid) -> Key | None:
    """Return the public key in an AID, None where its text stands for no key."""
    data = base64url.decode(aids.public_key(aid))
    try:
        if aids.suite(aid) == "p256":
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data)
        return Ed25519PublicKey.from_public_bytes(data)
    except ValueError:
        return None


def verifies(key: Key, signature: bytes, message: bytes, *, low_s: bool = False) -> bool:
    """Return whether the holder of `key` signed exactly this message.

    With `low_s` only the one with the lower s passes, of the two ECDSA signatures with the same meaning.
    """
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, message)
        else:
            r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
            if low_s and s > _P256_ORDER // 2:
                return False
            key.verify(encode_dss_signature(r, s), message, _ES256)
    except (InvalidSignature, ValueError):
        return False
    return True
