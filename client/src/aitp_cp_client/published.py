"""The signed documents of the control plane, fetched and verified."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

import msgspec

from aitp_cp_client.errors import UNVERIFIED, ControlPlaneError
from aitp_cp_client.transport import Call, Response, Transport
from aitp_cp_client.wire import verification
from aitp_cp_client.wire.aid import canonical
from aitp_cp_client.wire.verification import Unverified

MANIFEST = "/.well-known/aitp-manifest"
REVOCATION_LIST = "/.well-known/aitp-revocation-list"

Verified = TypeVar("Verified")


class Manifest(msgspec.Struct, frozen=True):
    """The control plane's own manifest; `envelope` is the signed JSON text."""

    aid: str
    envelope: str


class Listed(msgspec.Struct, frozen=True):
    jti: UUID
    revoked_at: datetime
    reason: str | None = None


class RevocationList(msgspec.Struct, frozen=True):
    """`pinned` is true if the caller named the issuer; otherwise the issuer is what the same server claims."""

    issuer: str
    pinned: bool
    published_at: datetime
    expires_at: datetime
    entries: list[Listed]
    envelope: str
    etag: str | None = None

    @property
    def jtis(self) -> frozenset[str]:
        """The ids as the SDK's `verify_tct` expects them."""
        return frozenset(str(entry.jti) for entry in self.entries)


class _Body(msgspec.Struct):
    issuer: str
    published_at: datetime
    expires_at: datetime
    entries: list[Listed]


class _Envelope(msgspec.Struct):
    revocation_list: _Body


async def manifest(transport: Transport, pinned: str | None = None) -> Manifest:
    """Return the verified manifest; its AID must be `pinned` if that is set.

    Raise `ControlPlaneError` with the code `UNVERIFIED`, or `ValueError` if `pinned` is no AID.
    """
    issuer = None if pinned is None else canonical(pinned)
    response = await transport.send(Call(path=MANIFEST, gated=False))
    aid = _verified(response, lambda: verification.manifest_issuer(response.body, issuer))
    return Manifest(aid, response.body.decode())


async def revocation_list(
    transport: Transport,
    pinned: str | None = None,
    max_age: timedelta | None = None,
    *,
    held: RevocationList | None = None,
    proof: str | None = None,
) -> RevocationList:
    """Return the list, verified to be signed by `pinned`, not expired, and not older than `max_age`.

    Without `pinned` the issuer is the AID in the server's own manifest: that proves the signature, not the identity
    of the signer. `held` is fetched again only if it has changed; with `proof`, an agent token, that also shows the
    operator that this agent holds it. Raises like `manifest`.
    """
    issuer = canonical((await manifest(transport)).aid if pinned is None else pinned)
    offered = {"If-None-Match": None if held is None else held.etag, "X-Aitp-Agent-Token": proof}
    headers = {name: value for name, value in offered.items() if value is not None}
    response = await transport.send(Call(path=REVOCATION_LIST, headers=headers, gated=False, answers=(304,)))
    body = held.envelope.encode() if held is not None and response.status == 304 else response.body
    _verified(response, lambda: verification.verify_revocation_list(body, issuer))
    signed = msgspec.json.decode(body, type=_Envelope, strict=False).revocation_list
    if max_age is not None and datetime.now(UTC) - signed.published_at > max_age:
        raise _unverified(response, "the list is older than max_age")
    return RevocationList(
        issuer=signed.issuer,
        pinned=pinned is not None,
        published_at=signed.published_at,
        expires_at=signed.expires_at,
        entries=signed.entries,
        envelope=body.decode(),
        etag=response.headers.get("etag"),
    )


def _verified(response: Response, verify: Callable[[], Verified]) -> Verified:
    try:
        return verify()
    except Unverified as refused:
        failed = _unverified(response, str(refused))
    raise failed


def _unverified(response: Response, sentence: str) -> ControlPlaneError:
    request_id = response.headers.get("x-request-id")
    return ControlPlaneError(UNVERIFIED, sentence, status=response.status, request_id=request_id)
