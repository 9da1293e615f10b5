"""The deny list: adding to it, and reading it as the operator sees it."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from uuid import UUID, uuid4

import msgspec

from aitp_cp_client.paging import Rows, rows
from aitp_cp_client.transport import Call, Transport, encode

ENTRIES = "/api/revocation/entries"


class Revocation(msgspec.Struct, frozen=True, rename="camel"):
    jti: UUID
    revoked_at: datetime
    reason: str | None
    listed: bool = True  # whether the signed list holds it; older control planes do not say


class BulkRevocation(msgspec.Struct, frozen=True, rename="camel"):
    """Entries in the order they were given; those that were revoked before are shown as stored."""

    entries: list[Revocation]
    revoked: int
    already_revoked: int


class _Page(msgspec.Struct, rename="camel"):
    entries: list[Revocation]
    next_before: str | None = None


class Revocations:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def add(
        self,
        jti: UUID | str,
        reason: str | None = None,
        revoked_at: datetime | None = None,
        idempotency_key: str | None = None,
    ) -> Revocation:
        """Revoke a token and everything delegated from it; the first revocation of a token stands and is returned."""
        fields = {"jti": str(jti), "reason": reason, "revokedAt": revoked_at.isoformat() if revoked_at else None}
        headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
        call = Call(method="POST", path=ENTRIES, headers=headers, body=encode(fields))
        return (await self._transport.send(call)).read(Revocation)

    async def add_all(
        self,
        jtis: Sequence[UUID | str],
        reason: str | None = None,
        revoked_at: datetime | None = None,
        idempotency_key: str | None = None,
    ) -> BulkRevocation:
        """Revoke 1 to 1000 tokens at once, all of them or none; no token may be named twice."""
        fields = {
            "jtis": [str(jti) for jti in jtis],
            "reason": reason,
            "revokedAt": revoked_at.isoformat() if revoked_at else None,
        }
        headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
        call = Call(method="POST", path=ENTRIES, headers=headers, body=encode(fields))
        return (await self._transport.send(call)).read(BulkRevocation)

    async def page(
        self, limit: int = 100, offset: int = 0, before: str | None = None, jti: UUID | str | None = None
    ) -> Rows[Revocation]:
        """At most 1000 entries, newest first."""
        params = {"jti": jti, "limit": limit, "offset": offset, "before": before}
        page = await self._transport.ask(_Page, ENTRIES, params)
        return Rows(page.entries, page.next_before)

    def each(self) -> AsyncIterator[Revocation]:
        """All of them, fetched page by page."""
        return rows(self.page)
