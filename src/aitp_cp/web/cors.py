"""Which browser origins may read responses (contract, section 2)."""

from functools import lru_cache

RawHeaders = tuple[tuple[bytes, bytes], ...]

METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
REQUEST_HEADERS = "authorization, content-type, x-request-id, x-aitp-namespace, idempotency-key, last-event-id"
EXPOSED = (
    "x-request-id, retry-after, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, idempotency-replayed, etag"
)
PREFLIGHT_MAX_AGE_SECS = 600


def applies_to(path: str) -> bool:
    return path.startswith(("/api/", "/.well-known/"))


@lru_cache(maxsize=256)
def headers(origin: str | None, allowed: tuple[str, ...] | None, *, preflight: bool) -> RawHeaders:
    """Return the CORS headers of a response: only `Vary` for an origin that is not allowed."""
    anyone = allowed is None or "*" in allowed
    shown = {"vary": "Origin"}
    if anyone or origin in (allowed or ()):
        shown["access-control-allow-origin"] = "*" if anyone else str(origin)
        if preflight:
            shown["access-control-allow-methods"] = METHODS
            shown["access-control-allow-headers"] = REQUEST_HEADERS
            shown["access-control-max-age"] = str(PREFLIGHT_MAX_AGE_SECS)
        else:
            shown["access-control-expose-headers"] = EXPOSED
    return tuple((name.encode(), value.encode("latin-1")) for name, value in shown.items())
