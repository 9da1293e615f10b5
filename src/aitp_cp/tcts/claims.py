"""What a report says about a token, whatever its dialect; payloads are hostile, so nothing here raises."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from aitp_cp.clock import truncate
from aitp_cp.protocol import tokens
from aitp_cp_client.wire import aid as aids
from aitp_cp_client.wire import moments

MAX_AID = 512

_YEAR_10000_SECS = 253_402_300_800

JTI = ("jti",)
ISSUER = ("iss", "issuer", "issuer_aid", "issuerAid")
SUBJECT = ("sub", "subject", "subject_aid", "subjectAid")
AUDIENCE = ("aud", "audience", "audience_aid", "audienceAid")

T = TypeVar("T")
Names = tuple[str, ...]
_NO_CLAIMS: Mapping[str, Any] = {}


class Token:
    """A reported token: `{token, claims}`, flat claims, or compact text; what comes first in that order is believed."""

    def __init__(self, given: object, around: Mapping[str, Any] = _NO_CLAIMS) -> None:
        text = tokens.text_of(given)
        members = given if text is None and isinstance(given, dict) else _NO_CLAIMS
        claims = members.get("claims")
        self.text: str | None = text or tokens.text_of(members.get("token")) or None
        self._layers = (claims if isinstance(claims, dict) else _NO_CLAIMS, members, around)
        self._decoded: Mapping[str, Any] | None = None

    def values(self, names: Names) -> Iterator[Any]:
        """Everything found under these names; the compact text is only read when the report does not suffice."""
        for layer in self._layers:
            yield from (layer[name] for name in names if layer.get(name) is not None)
        if self._decoded is None:
            self._decoded = tokens.redact(tokens.claims_of(self.text)) or _NO_CLAIMS
        yield from (self._decoded[name] for name in names if self._decoded.get(name) is not None)

    def first(self, read: Callable[[object], T | None], names: Names) -> T | None:
        """The first value under these names that `read` can use."""
        return next((found for value in self.values(names) if (found := read(value)) is not None), None)

    def issued_at(self) -> datetime | None:
        return self.first(as_numeric_date, ("iat",)) or self.first(moments.read, ("issued_at", "issuedAt"))

    def expires_at(self) -> datetime | None:
        return self.first(as_numeric_date, ("exp",)) or self.first(moments.read, ("expires_at", "expiresAt"))

    def strings(self, names: Names) -> list[str]:
        return next((as_strings(value) for value in self.values(names) if isinstance(value, list)), [])


def reported_token(payload: object) -> Token | None:
    """The first token of a payload's `tct` or `tcts[]`."""
    return next(reported_tokens(payload), None)


def reported_tokens(payload: object) -> Iterator[Token]:
    members = as_object(payload)
    several = members.get("tcts")
    for given in (members.get("tct"), *(several if isinstance(several, list) else ())):
        if isinstance(given, (dict, str)):
            yield Token(given)


def as_object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else _NO_CLAIMS


def as_numeric_date(value: object) -> datetime | None:
    """A time as tokens have it (RFC 7519): seconds, never milliseconds; ISO-8601 does as well."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return moments.read(value)
    return truncate(datetime.fromtimestamp(value, UTC)) if 0 <= value < _YEAR_10000_SECS else None


def as_aid(value: object) -> str | None:
    """An AID in its canonical spelling, or another name of at most 512 characters."""
    if not isinstance(value, str) or not value:
        return None
    return aids.recognise(value) or bounded(value, MAX_AID)


def as_strings(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def bounded(value: object, limit: int) -> str | None:
    """Text that fits its column; an empty or oversize one is left out."""
    return value if isinstance(value, str) and 0 < len(value) <= limit else None
