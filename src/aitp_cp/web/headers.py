"""Headers that every answer carries, whichever way it goes out (contract, section 2)."""

import math
from collections.abc import Iterable

RawHeaders = tuple[tuple[bytes, bytes], ...]

NOSNIFF = (b"x-content-type-options", b"nosniff")
NO_STORE = (b"cache-control", b"no-store")


def completed(present: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What a handler gave, and what it left to the edge."""
    headers = [*present, NOSNIFF]
    if not any(name == b"cache-control" for name, _ in present):
        headers.append(NO_STORE)
    return headers


def lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """As they are written."""
    return b"".join(b"%b: %b\r\n" % header for header in headers)


def max_age(most_secs: int, left_secs: float = math.inf) -> str:
    """A `Cache-Control` of at most `most_secs`, and never longer than what it caches is valid: `left_secs` from now."""
    secs = math.floor(min(most_secs, left_secs))
    return f"max-age={secs}" if secs > 0 else "no-store"
