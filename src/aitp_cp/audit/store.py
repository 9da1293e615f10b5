"""Statements on admin_audit_log."""

from collections.abc import Sequence
from datetime import datetime
from uuid import uuid4

import msgspec

from aitp_cp.audit.model import ORDER, AuditEntry, AuditPage, Change
from aitp_cp.clock import iso
from aitp_cp.db import Connection, Record, Where
from aitp_cp.db.keyset import Window
from aitp_cp.db.pages import within_bytes
from aitp_cp.db.sweep import OldRows

INSERT = """
INSERT INTO admin_audit_log (id, action, actor_id, target_id, details, request_id, created_at, actor_name)
SELECT id, $2, actor_id, target_id, details::jsonb, request_id, $7, actor_name
FROM unnest($1::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $8::text[])
    AS new (id, actor_id, target_id, details, request_id, actor_name)
"""

COLUMNS = "id, action, actor_id, actor_name, target_id, details, request_id, created_at"

# 300 is for the names of members, id and time.
PAGE = within_bytes(
    f"SELECT {COLUMNS} FROM admin_audit_log WHERE {{where}} ORDER BY {ORDER.sql} LIMIT {{limit}} OFFSET {{offset}}",
    columns=COLUMNS,
    size="300 + octet_length(concat(action, actor_id, actor_name, target_id, request_id, details::text))",
    order=ORDER.sql,
)

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


async def page(conn: Connection, window: Window) -> AuditPage:
    """Return one page, newest first; `count` is the number of rows on it."""
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
        actor_name=row["actor_name"],
        target_id=row["target_id"],
        details=msgspec.Raw((row["details"] or "{}").encode()),
        request_id=row["request_id"],
        created_at=iso(row["created_at"]),
    )
