"""RFC 8785 canonical JSON, at a speed that suits every event."""

import re

import msgspec
import rfc8785

_ENCODER = msgspec.json.Encoder(order="sorted")

# Where msgspec and RFC 8785 part: whole floats and exponents, and the order of names that hold U+E000 or beyond
# (code points against UTF-16 units). A match inside a string costs time, never correctness.
_WHOLE_FLOAT = re.compile(rb"\.0[,}\]]")
_EXPONENT = re.compile(rb"e-?[0-9]+[,}\]]")
_HIGH_CHARACTER = re.compile(rb'[\xee-\xf4](?:[^"\\]|\\.)*+"(:?)', re.DOTALL)


def encode(value: object) -> bytes:
    """Return the canonical bytes of a decoded JSON value.

    Where RFC 8785 refuses (an integer beyond 2**53, which it would have to round), names are sorted by code point and
    every digit is kept. Raises `UnicodeEncodeError` for a lone surrogate and `RecursionError` for absurd nesting.
    """
    text = _ENCODER.encode(value)
    if isinstance(value, (dict, list)) and not _may_differ(text):
        return text
    try:
        return rfc8785.dumps(value)  # type: ignore[arg-type]
    except rfc8785.CanonicalizationError:
        return text


def _may_differ(text: bytes) -> bool:
    if _WHOLE_FLOAT.search(text) is not None or _EXPONENT.search(text) is not None:
        return True
    return not text.isascii() and any(match[1] for match in _HIGH_CHARACTER.finditer(text))
