"""An agent's signed self-description: what the SDK verifies, and what it leaves to the control plane."""

import hashlib
import ipaddress
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import aitp
import msgspec

from aitp_cp.clock import EPOCH
from aitp_cp.errors import ManifestExpired, ManifestInvalid
from aitp_cp.protocol import canonical_json, json_guard
from aitp_cp_client.wire import aid as aids
from aitp_cp_client.wire.aid import Aid, Suite

MAX_DISPLAY_NAME = 256
MAX_CAPABILITIES = 256
MAX_CAPABILITY = 128
MIN_TIME_LEFT = timedelta(minutes=5)
MAX_CLOCK_SKEW = timedelta(minutes=5)

_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z
_I64_MIN = -(2**63)
ED25519_TAG = "ed25519."
NULL_MEMBER = "a member of the manifest is null: leave it out"


class Manifest(msgspec.Struct, frozen=True):
    """A manifest that passed every check of contract section 8."""

    aid: Aid
    suite: Suite
    display_name: str
    handshake_endpoint: str
    offered_caps: tuple[str, ...]
    published_at: datetime
    expires_at: datetime
    namespace: str | None
    canonical_sha256: str
    signature: str
    raw: str


def needs_thread(body: bytes) -> bool:
    """Return whether verifying this takes a millisecond (P-256) rather than a tenth of one (Ed25519)."""
    return aids.P256_PREFIX.encode() in body


def verify(body: bytes, now: datetime, *, production: bool, time_left: timedelta = MIN_TIME_LEFT) -> Manifest:
    """Check a ManifestEnvelope as contract section 8 asks of enrolment; `time_left` is what must remain of it.

    Raises `BodyInvalid`, `ManifestInvalid` or `ManifestExpired`. Authenticity comes first: an expired manifest with
    a wrong signature is invalid, not expired.
    """
    envelope = json_guard.decode(body)
    fields = _fields(envelope)
    _refuse_nulls(fields)
    raw = body.decode()
    _authenticate(raw, fields, now)
    agent = _aid(fields)
    published, expires_at = _times(fields, now)
    manifest = Manifest(
        aid=agent,
        suite=aids.suite(agent),
        display_name=_display_name(fields, agent),
        handshake_endpoint=_endpoint(fields, production),
        offered_caps=_capabilities(fields),
        published_at=published,
        expires_at=expires_at,
        namespace=_namespace(fields),
        canonical_sha256=hashlib.sha256(canonical_json.encode(envelope)).hexdigest(),
        signature=canonical_signature(fields["signature"]),
        raw=raw,
    )
    _check_time_left(expires_at, now, time_left)
    return manifest


def _fields(envelope: object) -> dict[str, Any]:
    if not isinstance(envelope, dict) or not isinstance(envelope.get("manifest"), dict):
        raise ManifestInvalid('the body is not a manifest envelope: expected {"manifest": {...}}')
    fields: dict[str, Any] = envelope["manifest"]
    return fields


def _refuse_nulls(fields: dict[str, Any]) -> None:
    """Refuse null members: the SDK drops them before it verifies, so a stranger could add them to a signed manifest."""
    waiting: list[object] = [fields]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if None in value.values():
                raise ManifestInvalid(NULL_MEMBER, extra={"verifyCode": "malformed"})
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def canonical_signature(signature: str) -> str:
    """Return the signature without its optional suite tag: the SDK accepts Ed25519 signatures in both spellings."""
    return signature.removeprefix(ED25519_TAG)


def _authenticate(raw: str, fields: dict[str, Any], now: datetime) -> None:
    """Let the SDK judge the manifest at a time when it had not expired yet; expiry is judged later."""
    expires_at = fields.get("expires_at")
    at = int(now.timestamp())
    if isinstance(expires_at, int):
        at = max(min(at, expires_at), _I64_MIN)
    try:
        aitp.verify_manifest_json(raw, at)
    except aitp.ManifestVerificationError as refused:
        raise ManifestInvalid("the manifest does not verify", extra={"verifyCode": refused.code}) from refused
    except ValueError as refused:
        raise ManifestInvalid("the manifest is malformed", extra={"verifyCode": "malformed"}) from refused


def _aid(fields: dict[str, Any]) -> Aid:
    try:
        agent = aids.canonical(fields["aid"])
    except ValueError as refused:
        raise ManifestInvalid("manifest.aid is not an AID in its one canonical encoding") from refused
    hint = fields["identity_hint"]
    if hint["type"] == "pinned_key" and hint.get("public_key") != aids.public_key(agent):
        raise ManifestInvalid("manifest.identity_hint.public_key is not the key of manifest.aid")
    return agent


def _display_name(fields: dict[str, Any], agent: Aid) -> str:
    """Return the name; an agent without one is shown as its AID."""
    name: str | None = fields.get("display_name")
    if name is None:
        return agent
    if len(name) > MAX_DISPLAY_NAME:
        raise ManifestInvalid(f"manifest.display_name is longer than {MAX_DISPLAY_NAME} characters")
    return name


def _capabilities(fields: dict[str, Any]) -> tuple[str, ...]:
    offered: list[str] = fields["offered_capabilities"]
    if len(offered) > MAX_CAPABILITIES:
        raise ManifestInvalid(f"manifest.offered_capabilities has more than {MAX_CAPABILITIES} entries")
    if any(len(capability) > MAX_CAPABILITY for capability in offered):
        raise ManifestInvalid(f"an entry of manifest.offered_capabilities is longer than {MAX_CAPABILITY} characters")
    return tuple(offered)


def _times(fields: dict[str, Any], now: datetime) -> tuple[datetime, datetime]:
    published = _moment(fields, "published_at")
    expires_at = _moment(fields, "expires_at")
    if expires_at <= published:
        raise ManifestInvalid("manifest.expires_at is not after manifest.published_at")
    if published > now + MAX_CLOCK_SKEW:
        raise ManifestInvalid("manifest.published_at is more than 5 minutes in the future")
    return published, expires_at


def _moment(fields: dict[str, Any], name: str) -> datetime:
    seconds: int = fields[name]
    if not 0 <= seconds <= _LAST_SECOND:
        raise ManifestInvalid(f"manifest.{name} is outside the years 1970 to 9999")
    return EPOCH + timedelta(seconds=seconds)


def _check_time_left(expires_at: datetime, now: datetime, left: timedelta) -> None:
    if expires_at <= now:
        raise ManifestExpired("the manifest has expired", extra={"verifyCode": "expired"})
    if expires_at - now < left:
        raise ManifestExpired(f"the manifest expires in less than {left // timedelta(minutes=1)} minutes")


def _namespace(fields: dict[str, Any]) -> str | None:
    namespace = (fields.get("extensions") or {}).get("namespace")
    if namespace is not None and not isinstance(namespace, str):
        raise ManifestInvalid("manifest.extensions.namespace is not a string")
    return namespace


def _endpoint(fields: dict[str, Any], production: bool) -> str:
    endpoint: str = fields["handshake_endpoint"]
    scheme, host = _scheme_and_host(endpoint)
    if scheme not in {"http", "https"} or not host:
        raise ManifestInvalid("manifest.handshake_endpoint is not an absolute http or https URL")
    if production and scheme != "https" and not _is_loopback(host):
        raise ManifestInvalid("manifest.handshake_endpoint must be https, unless its host is loopback")
    return endpoint


def _scheme_and_host(url: str) -> tuple[str, str | None]:
    if any(char.isspace() or not char.isprintable() or char == "\\" for char in url):
        return "", None
    try:
        parts = urlsplit(url)
        _ = parts.port
        return parts.scheme, parts.hostname
    except ValueError:
        return "", None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
