"""The admin audit as a file. Each export is a row of the audit itself."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import msgspec
from starlette.responses import StreamingResponse

from aitp_cp.audit import service, store
from aitp_cp.audit.model import ORDER, Actor, AuditExportQuery, AuditFormat
from aitp_cp.clock import iso
from aitp_cp.db import Connection
from aitp_cp.db.keyset import Place, Window
from aitp_cp.runtime import Runtime
from aitp_cp.web import csv
from aitp_cp.web.export import Format, Many, One, Page, Pages, pages, stream, stream_bytes

MAX_ROWS = 100_000  # some 40 MB as JSON

COLUMNS = {
    "time": lambda entry: entry.created_at,
    "action": lambda entry: entry.action,
    "actor": lambda entry: entry.actor_id,
    "name": lambda entry: entry.actor_name,
    "target": lambda entry: entry.target_id,
    "details": lambda entry: bytes(entry.details).decode(),
    "request": lambda entry: entry.request_id,
    "id": lambda entry: str(entry.id),
}


async def export(rt: Runtime, query: AuditExportQuery, actor: Actor, now: datetime) -> StreamingResponse:
    """Stream the entries that match, newest first, at most `MAX_ROWS`; the file tells whether older ones match."""
    # It ends before its own row.
    last = now - timedelta(microseconds=1)
    filter = msgspec.structs.replace(query, until=last if query.until is None else min(query.until, last))
    async with rt.db.transaction() as conn:
        truncated = await store.has_more_than(conn, filter, MAX_ROWS)
        entries = pages(rt, lambda conn, place, limit: _page(conn, filter, place, limit), at_most=MAX_ROWS)
        await service.record(conn, "audit.export", actor, "audit", _details(query, truncated), now)
    name = f"audit-{now:%Y%m%dT%H%M%SZ}"
    if query.format is AuditFormat.CSV:
        return await stream_bytes(_table(entries, truncated), csv.MEDIA_TYPE, f"{name}.csv")
    facts = {"exportedAt": iso(now), "truncated": truncated}
    members = [One(name, fact) for name, fact in facts.items()]
    head = members if query.format is AuditFormat.JSON else [One("export", facts, "export")]
    return await stream([*head, Many("entries", "entry", entries, "count")], Format(query.format), name)


async def _page(conn: Connection, filter: AuditExportQuery, place: Place | None, limit: int) -> Page[Place]:
    page = await store.page(conn, filter, Window(limit, before=place))
    next = page.next_before
    return page.entries, None if next is msgspec.UNSET else ORDER.read(next)


async def _table(entries: Pages, truncated: bool) -> AsyncIterator[bytes]:
    async for line in csv.rows(COLUMNS, entries):
        yield line
    if truncated:
        yield csv.line([f"truncated after {MAX_ROWS} entries: older ones match"])


def _details(query: AuditExportQuery, truncated: bool) -> dict[str, object]:
    members = msgspec.to_builtins(query, str_keys=True)
    return {**{name: value for name, value in members.items() if value is not None}, "truncated": truncated}
