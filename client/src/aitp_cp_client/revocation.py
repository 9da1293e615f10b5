"""The deny list: add entries, and list them."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from aitp_cp_client.paging import Rows, rows
from aitp_cp_client.transport import Transport
from aitp_cp_client.wire.times import iso_or_none

ENTRIES = "/api/revocation/entries"


class Revocation(msgspec.Struct, frozen=True, rename="camel"):
    jti: UUID
    revoked_at: datetime
    reason: str | None
    listed: bool = True  # whether it is in the signed list; older control planes do not send it


class BulkRevocation(msgspec.Struct, frozen=True, rename="camel"):
    """Entries in the order of the request; tokens revoked earlier keep their stored entry."""

    entries: list[Revocation]
    revoked: int
    already_revoked: int


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
        """Revoke a token and everything delegated from it; return the entry of its first revocation."""
        fields = {"jti": str(jti), "reason": reason, "revokedAt": iso_or_none(revoked_at)}
        return await self._transport.create(Revocation, ENTRIES, fields, idempotency_key)

    async def add_all(
        self,
        jtis: Sequence[UUID | str],
        reason: str | None = None,
        revoked_at: datetime | None = None,
        idempotency_key: str | None = None,
    ) -> BulkRevocation:
        """Revoke 1 to 1000 different tokens in one transaction."""
        fields = {
            "jtis": [str(jti) for jti in jtis],
            "reason": reason,
            "revokedAt": iso_or_none(revoked_at),
        }
        return await self._transport.create(BulkRevocation, ENTRIES, fields, idempotency_key)

    async def page(
        self, limit: int = 100, offset: int = 0, before: str | None = None, jti: UUID | str | None = None
    ) -> Rows[Revocation]:
        """Return at most 1000 entries, newest first."""
        params = {"jti": jti, "limit": limit, "offset": offset, "before": before}
        return await self._transport.page(Revocation, "entries", ENTRIES, params)

    def each(self) -> AsyncIterator[Revocation]:
        """Iterate over all entries, page by page."""
        return rows(self.page)
