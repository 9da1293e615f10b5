"""API keys, which show by themselves whether they were typed or cut wrongly (contract, part II, section 18).

A prefix of four characters, 33 base62 characters of 24 random bytes, and 6 of the CRC-32 of everything before: 43 in
all. A scanner finds one by its prefix and its checksum, and a mistyped one is refused without a look-up.
"""

import hashlib
import secrets
import zlib

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
API_KEY_PREFIX = "acp_"
LENGTH = 43
SHOWN_CHARACTERS = 8  # of a key, in lists: four random ones tell keys apart and help nobody to guess

_RANDOM_BYTES = 24
_RANDOM_CHARACTERS = 33
_CHECK_CHARACTERS = 6
_DIGITS = frozenset(ALPHABET)


def new_token() -> str:
    """Return a fresh key with 192 bits from the system's generator."""
    body = API_KEY_PREFIX + _base62(int.from_bytes(secrets.token_bytes(_RANDOM_BYTES), "big"), _RANDOM_CHARACTERS)
    return body + _checksum(body)


def is_token(text: str) -> bool:
    """Return whether the text has the form and the checksum of a key."""
    digits = text.removeprefix(API_KEY_PREFIX)
    if len(text) != LENGTH or digits == text or not _DIGITS.issuperset(digits):
        return False
    return text[-_CHECK_CHARACTERS:] == _checksum(text[:-_CHECK_CHARACTERS])


def digest_of(token: str) -> bytes:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode()).digest()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_CHARACTERS)


def _base62(number: int, characters: int) -> str:
    digits = []
    for _ in range(characters):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
