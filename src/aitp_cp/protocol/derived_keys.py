"""Keys for one purpose each, derived from a secret (RFC 5869)."""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32


def derive(secret: bytes, purpose: str) -> bytes:
    """Return the 32-byte key of a purpose: what leaks of one key says nothing about the secret or the others."""
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=f"aitp-cp {purpose}".encode()).derive(secret)
