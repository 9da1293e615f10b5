"""Headers that every answer carries, whichever way it goes out (contract, section 2)."""

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
