"""Statements on admin_audit_log."""

from datetime import datetime
from uuid import UUID

import msgspec

from aitp_cp.audit.model import ORDER, AuditEntry, AuditPage
from aitp_cp.clock import iso
from aitp_cp.db import Connection, Record, Where
from aitp_cp.db.keyset import Window
from aitp_cp.db.pages import within_bytes

INSERT = """
INSERT INTO admin_audit_log (id, action, actor_id, target_id, details, request_id, created_at)
VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7)
"""

COLUMNS = "id, action, actor_id, target_id, details, request_id, created_at"

# 300 is for the names of members, id and time.
PAGE = within_bytes(
    f"SELECT {COLUMNS} FROM admin_audit_log WHERE {{where}} ORDER BY {ORDER.sql} LIMIT {{limit}} OFFSET {{offset}}",
    columns=COLUMNS,
    size="300 + octet_length(concat(action, actor_id, target_id, request_id, details::text))",
    order=ORDER.sql,
)


async def insert(conn: Connection, id: UUID, at: datetime, values: tuple[str, str, str, str, str | None]) -> None:
    """`values`: action, actor, target, details as JSON text, request id."""
    await conn.execute(INSERT, id, *values, at)


async def page(conn: Connection, window: Window) -> AuditPage:
    where = Where()
    ORDER.restrict(where, window.before)
    statement = PAGE.format(where=where.sql(), limit=where.bind(window.rows), offset=where.bind(window.offset))
    page = ORDER.page(await conn.fetch(statement, *where.args), window)
    return AuditPage([_entry(row) for row in page.rows], len(page.rows), page.next_before)


def _entry(row: Record) -> AuditEntry:
    return AuditEntry(
        id=row["id"],
        action=row["action"],
        actor_id=row["actor_id"],
        target_id=row["target_id"],
        details=msgspec.Raw((row["details"] or "{}").encode()),
        request_id=row["request_id"],
        created_at=iso(row["created_at"]),
    )
