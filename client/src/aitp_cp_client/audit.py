"""The admin audit: who changed what."""

from collections.abc import AsyncGenerator, AsyncIterator
from datetime import datetime
from functools import partial
from typing import Any, Literal, TypedDict, Unpack
from uuid import UUID

import msgspec

from aitp_cp_client.paging import Rows, rows
from aitp_cp_client.transport import Call, Transport
from aitp_cp_client.wire.times import written

MEDIA = {"json": "application/json", "jsonl": "application/x-ndjson", "csv": "text/csv"}


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


class AuditFilter(TypedDict, total=False):
    """Every member must match exactly; times are inclusive."""

    actor: str | None
    action: str | None
    target: str | None
    request_id: str | None
    since: datetime | None
    until: datetime | None


class Audit:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def page(
        self, limit: int = 100, offset: int = 0, before: str | None = None, **filters: Unpack[AuditFilter]
    ) -> Rows[AuditEntry]:
        """Return at most 1000 entries, newest first."""
        params = {"limit": limit, "offset": offset, "before": before, **_params(filters)}
        return await self._transport.page(AuditEntry, "entries", "/api/audit", params)

    def each(self, **filters: Unpack[AuditFilter]) -> AsyncIterator[AuditEntry]:
        """Iterate over all entries, page by page."""
        return rows(partial(self.page, **filters))

    def export(
        self, format: Literal["json", "jsonl", "csv"] = "json", **filters: Unpack[AuditFilter]
    ) -> AsyncGenerator[bytes, None]:
        """Export the entries that match, at most 100,000; the file says whether older ones match."""
        params = {"format": format, **_params(filters)}
        return self._transport.chunks(Call(path="/api/audit/export", params=params, media=MEDIA[format]))


def _params(filters: AuditFilter) -> dict[str, object]:
    params = written(filters)
    if "request_id" in params:
        params["requestId"] = params.pop("request_id")
    return params
