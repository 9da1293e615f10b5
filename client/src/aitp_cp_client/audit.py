"""The admin audit: who changed what."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from aitp_cp_client.paging import Rows, rows
from aitp_cp_client.transport import Transport


class AuditEntry(msgspec.Struct, frozen=True, rename="camel"):
    """`actor_id` is `key:` and the key's family, `apikey:` and the first 16 hex digits of the SHA-256 of an
    environment key, or another caller; `actor_name` is the key's name, None for callers without one.
    """

    id: UUID
    action: str
    actor_id: str | None
    target_id: str | None
    details: Any
    request_id: str | None
    created_at: datetime
    actor_name: str | None = None


class _Page(msgspec.Struct, rename="camel"):
    entries: list[AuditEntry]
    next_before: str | None = None


class Audit:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def page(self, limit: int = 100, offset: int = 0, before: str | None = None) -> Rows[AuditEntry]:
        """Return at most 1000 entries, newest first."""
        params = {"limit": limit, "offset": offset, "before": before}
        page = await self._transport.ask(_Page, "/api/audit", params)
        return Rows(page.entries, page.next_before)

    def each(self) -> AsyncIterator[AuditEntry]:
        """Iterate over all entries, page by page."""
        return rows(self.page)
