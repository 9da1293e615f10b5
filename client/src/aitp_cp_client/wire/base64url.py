"""base64url without padding, as AIDs, tokens and signatures use it (RFC 7515, section 2)."""

import base64


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Decode leniently: other spellings of the same bytes pass. Raises `ValueError`."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
