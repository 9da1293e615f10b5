"""What the control plane signs, verified here as a peer would."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

import msgspec

from aitp_cp_client.errors import UNVERIFIED, ControlPlaneError
from aitp_cp_client.transport import Answer, Call, Transport
from aitp_cp_client.wire import verification
from aitp_cp_client.wire.aid import canonical
from aitp_cp_client.wire.verification import Unverified

MANIFEST = "/.well-known/aitp-manifest"
REVOCATION_LIST = "/.well-known/aitp-revocation-list"

Verified = TypeVar("Verified")


class Manifest(msgspec.Struct, frozen=True):
    """The control plane's own; `envelope` is the JSON text as it was signed."""

    aid: str
    envelope: str


class Listed(msgspec.Struct, frozen=True):
    jti: UUID
    revoked_at: datetime
    reason: str | None = None


class RevocationList(msgspec.Struct, frozen=True):
    """`pinned`: the issuer was known beforehand; else it is only the one that the same server claims to be."""

    issuer: str
    pinned: bool
    published_at: datetime
    expires_at: datetime
    entries: list[Listed]
    envelope: str

    @property
    def jtis(self) -> frozenset[str]:
        """In the form that the SDK's `verify_tct` takes them."""
        return frozenset(str(entry.jti) for entry in self.entries)


class _Body(msgspec.Struct):
    issuer: str
    published_at: datetime
    expires_at: datetime
    entries: list[Listed]


class _Envelope(msgspec.Struct):
    revocation_list: _Body


async def manifest(transport: Transport, pinned: str | None = None) -> Manifest:
    """The verified manifest, of exactly the pinned AID if one is given.

    Raises `ControlPlaneError` with the code `UNVERIFIED`, or `ValueError` when `pinned` is not an AID.
    """
    issuer = None if pinned is None else canonical(pinned)
    answer = await transport.send(Call(path=MANIFEST, gated=False))
    aid = _verified(answer, lambda: verification.manifest_issuer(answer.body, issuer))
    return Manifest(aid, answer.body.decode())


async def revocation_list(
    transport: Transport, pinned: str | None = None, max_age: timedelta | None = None
) -> RevocationList:
    """The list, verified to be the pinned issuer's and neither expired nor older than `max_age`.

    Without a pinned AID the issuer is the one of the manifest that the same server shows: that proves the signature
    and not who signed. Raises like `manifest`.
    """
    issuer = canonical((await manifest(transport)).aid if pinned is None else pinned)
    answer = await transport.send(Call(path=REVOCATION_LIST, gated=False))
    _verified(answer, lambda: verification.verify_revocation_list(answer.body, issuer))
    said = msgspec.json.decode(answer.body, type=_Envelope, strict=False).revocation_list
    if max_age is not None and datetime.now(UTC) - said.published_at > max_age:
        raise _unverified(answer, "the list is older than it may be")
    return RevocationList(
        issuer=said.issuer,
        pinned=pinned is not None,
        published_at=said.published_at,
        expires_at=said.expires_at,
        entries=said.entries,
        envelope=answer.body.decode(),
    )


def _verified(answer: Answer, verify: Callable[[], Verified]) -> Verified:
    try:
        return verify()
    except Unverified as refused:
        failed = _unverified(answer, str(refused))
    raise failed


def _unverified(answer: Answer, sentence: str) -> ControlPlaneError:
    return ControlPlaneError(UNVERIFIED, sentence, status=answer.status, request_id=answer.headers.get("x-request-id"))
