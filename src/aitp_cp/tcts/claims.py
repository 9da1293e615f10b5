"""What a report says about a token, whatever its dialect; payloads are hostile, so nothing here raises."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from aitp_cp.protocol import aid as aids
from aitp_cp.protocol import moments, tokens

MAX_AID = 512

# An integer too large for a float would make date arithmetic raise, and no date is near it.
_BEYOND_DATES = 10**18
_UUID = re.compile(r"(?:urn:uuid:)?\{?([0-9a-f]{8}(-?)[0-9a-f]{4}(?:\2[0-9a-f]{4}){3}[0-9a-f]{8})\}?", re.IGNORECASE)

JTI = ("jti",)
ISSUER = ("iss", "issuer", "issuer_aid", "issuerAid")
SUBJECT = ("sub", "subject", "subject_aid", "subjectAid")
AUDIENCE = ("aud", "audience", "audience_aid", "audienceAid")
ISSUED_AT = ("iat", "issued_at", "issuedAt")
EXPIRES_AT = ("exp", "expires_at", "expiresAt")

Names = tuple[str, ...]
_NO_CLAIMS: Mapping[str, Any] = {}


class Token:
    """A reported token: `{token, claims}`, flat claims, or compact text; what comes first in that order is believed."""

    def __init__(self, given: object, around: Mapping[str, Any] = _NO_CLAIMS) -> None:
        members = given if isinstance(given, dict) else _NO_CLAIMS
        text = given if isinstance(given, str) else members.get("token")
        claims = members.get("claims")
        self.text: str | None = text if isinstance(text, str) and text else None
        self._layers = (claims if isinstance(claims, dict) else _NO_CLAIMS, members, around)
        self._decoded: Mapping[str, Any] | None = None

    def values(self, names: Names) -> Iterator[Any]:
        """Everything found under these names; the compact text is only read when the report does not suffice."""
        for layer in self._layers:
            yield from (layer[name] for name in names if layer.get(name) is not None)
        if self._decoded is None:
            self._decoded = tokens.claims_of(self.text) or _NO_CLAIMS
        yield from (self._decoded[name] for name in names if self._decoded.get(name) is not None)

    def uuid(self, names: Names) -> UUID | None:
        return next((found for value in self.values(names) if (found := as_uuid(value)) is not None), None)

    def aid(self, names: Names) -> str | None:
        """An AID in its canonical spelling, or another name of at most 512 characters."""
        return next((found for value in self.values(names) if (found := as_aid(value)) is not None), None)

    def moment(self, names: Names) -> datetime | None:
        return next((found for value in self.values(names) if (found := as_moment(value)) is not None), None)

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


def as_uuid(value: object) -> UUID | None:
    """A UUID in any usual spelling."""
    found = _UUID.fullmatch(value) if isinstance(value, str) else None
    return None if found is None else UUID(found[1])


def as_aid(value: object) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    return aids.recognise(value) or bounded(value, MAX_AID)


def as_moment(value: object) -> datetime | None:
    """A time within the years 1970 to 9999; absurd numbers are no time."""
    if isinstance(value, int) and abs(value) > _BEYOND_DATES:
        return None
    return moments.read(value)


def as_strings(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def bounded(value: object, limit: int) -> str | None:
    """Text that fits its column; an empty or oversize one is left out."""
    return value if isinstance(value, str) and 0 < len(value) <= limit else None
