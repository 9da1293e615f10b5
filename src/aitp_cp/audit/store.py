"""Statements on admin_audit_log."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID, uuid4

import msgspec

from aitp_cp.audit.model import ORDER, AuditEntry, AuditExportQuery, AuditFilter, AuditPage, Change
from aitp_cp.db import Connection, Where
from aitp_cp.db.keyset import Window
from aitp_cp.db.sweep import OldRows
from aitp_cp.db.views import View

Filter = AuditFilter | AuditExportQuery

RECORDED_CHANNEL = "aitp_cp_audit"

# The notification, at commit, lets open pages reload; its payload is the action.
INSERT = f"""
WITH recorded AS (
    INSERT INTO admin_audit_log (id, action, actor_id, target_id, details, request_id, created_at, actor_name)
    SELECT id, $2, actor_id, target_id, details::jsonb, request_id, $7, actor_name
    FROM unnest($1::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $8::text[])
        AS new (id, actor_id, target_id, details, request_id, actor_name)
)
SELECT pg_notify('{RECORDED_CHANNEL}', $2)
"""

ENTRY = View(AuditEntry, convert={"details": lambda text: msgspec.Raw((text or "{}").encode())})

# 300 is for the names of members, id and time.
PAGE = ORDER.list(
    ENTRY.sql,
    "admin_audit_log",
    size="300 + octet_length(concat(action, actor_id, actor_name, target_id, request_id, details::text))",
)

HAS_MORE = """
SELECT EXISTS (
    SELECT 1 FROM admin_audit_log WHERE {where} ORDER BY created_at DESC, id DESC OFFSET {count} LIMIT 1
)
"""

FIND = f"SELECT {ENTRY.sql} FROM admin_audit_log WHERE id = $1"

OLD = OldRows("admin_audit_log", "created_at")


async def insert(conn: Connection, action: str, changes: Sequence[Change], now: datetime) -> None:
    await conn.execute(
        INSERT,
        [uuid4() for _ in changes],
        action,
        [change.actor.id for change in changes],
        [change.target[:512] for change in changes],
        [msgspec.json.encode({**change.details, **change.actor.via}).decode() for change in changes],
        [change.actor.request_id for change in changes],
        now,
        [change.actor.name for change in changes],
    )


async def page(conn: Connection, filter: Filter, window: Window) -> AuditPage:
    """Return one page, newest first; `count` is the number of rows on it."""
    page = await ORDER.fetch(conn, PAGE, _narrowed(filter), window)
    return AuditPage([ENTRY.read(row) for row in page.rows], len(page.rows), page.next_before)


async def has_more_than(conn: Connection, filter: Filter, count: int) -> bool:
    """Tell whether more than `count` entries match."""
    where = _narrowed(filter)
    return bool(await conn.fetchval(HAS_MORE.format(where=where.sql(), count=where.bind(count)), *where.args))


async def find(conn: Connection, id: UUID) -> AuditEntry | None:
    return ENTRY.find(await conn.fetchrow(FIND, id))


def _narrowed(filter: Filter) -> Where:
    where = Where()
    where.add("actor_id = {}", filter.actor)
    where.add("action = {}", filter.action)
    where.add("target_id = {}", filter.target)
    where.add("request_id = {}", filter.request_id)
    where.add("created_at >= {}", filter.since)
    where.add("created_at <= {}", filter.until)
    return where
