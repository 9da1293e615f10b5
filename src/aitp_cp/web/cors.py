"""Which browser origins may read answers (contract, section 2)."""

from functools import lru_cache

from starlette.types import Scope

from aitp_cp.web import headers as raw
from aitp_cp.web.headers import RawHeaders

METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
REQUEST_HEADERS = "authorization, content-type, x-request-id, x-aitp-namespace, idempotency-key, last-event-id"
EXPOSED = (
    "x-request-id, retry-after, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, idempotency-replayed, etag"
)
PREFLIGHT_MAX_AGE_SECS = 600


def applies_to(path: str) -> bool:
    return path.startswith(("/api/", "/.well-known/"))


def allowed_origin(origin: str | None, allowed: tuple[str, ...] | None) -> str | None:
    """The value of Access-Control-Allow-Origin: `*`, the matching origin echoed, or none at all."""
    if allowed is None or "*" in allowed:
        return "*"
    return origin if origin in allowed else None


def raw_headers(scope: Scope, origin: str | None, allowed: tuple[str, ...] | None) -> RawHeaders:
    """What the answer to this request carries, as ASGI wants it; nothing outside the API."""
    if not applies_to(scope["path"]):
        return ()
    match = allowed_origin(origin, allowed)
    return _encoded(match, preflight=scope["method"] == "OPTIONS")


def lines(origin: str | None, allowed: tuple[str, ...] | None) -> bytes:
    """What the answer to a GET within the API carries, as it is written."""
    return _lines(allowed_origin(origin, allowed))


@lru_cache(maxsize=256)
def _lines(match: str | None) -> bytes:
    return raw.lines(_encoded(match, preflight=False))


@lru_cache(maxsize=256)
def _encoded(match: str | None, *, preflight: bool) -> RawHeaders:
    return tuple((name.lower().encode(), value.encode("latin-1")) for name, value in headers(match, preflight).items())


def headers(match: str | None, preflight: bool) -> dict[str, str]:
    """The headers for an allowed origin, or only `Vary` for one that is not."""
    shown = {"Vary": "Origin"}
    if match is None:
        return shown
    shown["Access-Control-Allow-Origin"] = match
    if preflight:
        shown["Access-Control-Allow-Methods"] = METHODS
        shown["Access-Control-Allow-Headers"] = REQUEST_HEADERS
        shown["Access-Control-Max-Age"] = str(PREFLIGHT_MAX_AGE_SECS)
    else:
        shown["Access-Control-Expose-Headers"] = EXPOSED
    return shown
