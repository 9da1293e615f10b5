"""Statements on admin_audit_log."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID, uuid4

import msgspec

from aitp_cp.audit.model import ORDER, AuditEntry, AuditExportQuery, AuditFilter, AuditPage, Change
from aitp_cp.clock import iso
from aitp_cp.db import Connection, Record, Where
from aitp_cp.db.keyset import Window
from aitp_cp.db.pages import within_bytes
from aitp_cp.db.sweep import OldRows

Filter = AuditFilter | AuditExportQuery

RECORDED_CHANNEL = "aitp_cp_audit"

# The notification, at commit, is for whoever looks at what was changed; a payload is the action.
INSERT = f"""
WITH recorded AS (
    INSERT INTO admin_audit_log (id, action, actor_id, target_id, details, request_id, created_at, actor_name)
    SELECT id, $2, actor_id, target_id, details::jsonb, request_id, $7, actor_name
    FROM unnest($1::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $8::text[])
        AS new (id, actor_id, target_id, details, request_id, actor_name)
)
SELECT pg_notify('{RECORDED_CHANNEL}', $2)
"""

COLUMNS = "id, action, actor_id, actor_name, target_id, details, request_id, created_at"

# 300 is for the names of members, id and time.
PAGE = within_bytes(
    f"SELECT {COLUMNS} FROM admin_audit_log WHERE {{where}} ORDER BY {ORDER.sql} LIMIT {{limit}} OFFSET {{offset}}",
    columns=COLUMNS,
    size="300 + octet_length(concat(action, actor_id, actor_name, target_id, request_id, details::text))",
    order=ORDER.sql,
)

HAS_MORE = """
SELECT EXISTS (
    SELECT 1 FROM admin_audit_log WHERE {where} ORDER BY created_at DESC, id DESC OFFSET {count} LIMIT 1
)
"""

FIND = f"SELECT {COLUMNS} FROM admin_audit_log WHERE id = $1"

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
    where = _narrowed(filter)
    ORDER.restrict(where, window.before)
    statement = PAGE.format(where=where.sql(), limit=where.bind(window.rows), offset=where.bind(window.offset))
    page = ORDER.page(await conn.fetch(statement, *where.args), window)
    return AuditPage([_entry(row) for row in page.rows], len(page.rows), page.next_before)


async def has_more_than(conn: Connection, filter: Filter, count: int) -> bool:
    """Tell whether more than `count` entries match."""
    where = _narrowed(filter)
    return bool(await conn.fetchval(HAS_MORE.format(where=where.sql(), count=where.bind(count)), *where.args))


async def find(conn: Connection, id: UUID) -> AuditEntry | None:
    row = await conn.fetchrow(FIND, id)
    return None if row is None else _entry(row)


def _narrowed(filter: Filter) -> Where:
    where = Where()
    where.add("actor_id = {}", filter.actor)
    where.add("action = {}", filter.action)
    where.add("target_id = {}", filter.target)
    where.add("request_id = {}", filter.request_id)
    where.add("created_at >= {}", filter.since)
    where.add("created_at <= {}", filter.until)
    return where


def _entry(row: Record) -> AuditEntry:
    return AuditEntry(
        id=row["id"],
        action=row["action"],
        actor_id=row["actor_id"],
        actor_name=row["actor_name"],
        target_id=row["target_id"],
        details=msgspec.Raw((row["details"] or "{}").encode()),
        request_id=row["request_id"],
        created_at=iso(row["created_at"]),
    )
