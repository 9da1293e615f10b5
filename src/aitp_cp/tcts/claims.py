"""What a report says about a token, whatever its dialect; payloads are hostile, so nothing here raises."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from aitp_cp.clock import truncate
from aitp_cp.protocol import tokens
from aitp_cp.protocol.verdicts import UNCHECKED, Checked, Evidence, Kind, Verdict
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
Layers = tuple[Mapping[str, Any], ...]
_NO_CLAIMS: Mapping[str, Any] = {}


class Token:
    """A reported token: `{token, claims}`, flat claims, or compact text.

    A verified text says everything, and a forged one nothing. Otherwise what comes first in that order is believed.
    """

    def __init__(self, source: object, around: Mapping[str, Any] = _NO_CLAIMS, checked: Checked = UNCHECKED) -> None:
        self.text = text_of(source)
        self.verdict = checked.verdict
        members = source if isinstance(source, dict) and not isinstance(source, tokens.Redacted) else _NO_CLAIMS
        claims = members.get("claims")
        self._beside: Layers = (claims if isinstance(claims, dict) else _NO_CLAIMS, members, around)
        self._layers: Layers = self._beside
        self._decoded: Mapping[str, Any] | None = None
        if checked.verdict in {Verdict.VERIFIED, Verdict.FORGED}:
            self._layers, self._decoded = (), checked.claims if self.is_verified else _NO_CLAIMS

    @property
    def is_verified(self) -> bool:
        return self.verdict is Verdict.VERIFIED

    def beside(self) -> "Token":
        """Return what the report says beside the text."""
        plain = Token(None)
        plain._layers, plain._decoded = self._beside, _NO_CLAIMS
        return plain

    def values(self, names: Names) -> Iterator[Any]:
        """Yield everything found under these names; the compact text is only read when the report does not suffice."""
        for layer in self._layers:
            yield from (layer[name] for name in names if layer.get(name) is not None)
        if self._decoded is None:
            self._decoded = tokens.redact(tokens.claims_of(self.text)) or _NO_CLAIMS
        yield from (self._decoded[name] for name in names if self._decoded.get(name) is not None)

    def first(self, read: Callable[[object], T | None], names: Names) -> T | None:
        """Return the first value under these names that `read` can use."""
        return next((result for value in self.values(names) if (result := read(value)) is not None), None)

    def issued_at(self) -> datetime | None:
        return self.first(as_numeric_date, ("iat",)) or self.first(moments.read, ("issued_at", "issuedAt"))

    def expires_at(self) -> datetime | None:
        return self.first(as_numeric_date, ("exp",)) or self.first(moments.read, ("expires_at", "expiresAt"))

    def strings(self, names: Names) -> list[str]:
        return next((as_strings(value) for value in self.values(names) if isinstance(value, list)), [])


def text_of(source: object) -> str | None:
    """Return the compact text of a reported token."""
    text = tokens.text_of(source)
    if text is None and isinstance(source, dict):
        text = tokens.text_of(source.get("token"))
    return text or None


def reported_token(payload: object, evidence: Evidence) -> Token | None:
    """Return the first token of a payload's `tct` or `tcts[]` that counts."""
    return next((token for token in reported_tokens(payload, evidence) if counts(token, evidence)), None)


def reported_tokens(payload: object, evidence: Evidence) -> Iterator[Token]:
    members = as_object(payload)
    several = members.get("tcts")
    for source in (members.get("tct"), *(several if isinstance(several, list) else ())):
        if isinstance(source, (dict, str)):
            yield Token(source, checked=evidence.of(text_of(source), Kind.TCT))


def counts(token: Token, evidence: Evidence) -> bool:
    """Return whether the token changes anything."""
    return token.is_verified if evidence.strict else token.verdict is not Verdict.FORGED


def as_object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else _NO_CLAIMS


def as_numeric_date(value: object) -> datetime | None:
    """Return a time as tokens have it (RFC 7519): seconds, never milliseconds; ISO-8601 does as well."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return moments.read(value)
    return truncate(datetime.fromtimestamp(value, UTC)) if 0 <= value < _YEAR_10000_SECS else None


def as_aid(value: object) -> str | None:
    """Return an AID in its canonical spelling, or another name of at most 512 characters."""
    if not isinstance(value, str) or not value:
        return None
    return aids.recognise(value) or bounded(value, MAX_AID)


def as_strings(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def bounded(value: object, limit: int) -> str | None:
    """Text that fits its column; an empty or oversize one is left out."""
    return value if isinstance(value, str) and 0 < len(value) <= limit else None
