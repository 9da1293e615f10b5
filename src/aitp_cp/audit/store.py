"""Statements on admin_audit_log."""

from datetime import datetime
from uuid import UUID

import msgspec

from aitp_cp.audit.model import AuditEntry
from aitp_cp.clock import iso
from aitp_cp.db import Connection, Record
from aitp_cp.db.pages import within_bytes

INSERT = """
INSERT INTO admin_audit_log (id, action, actor_id, target_id, details, request_id, created_at)
VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7)
"""

COLUMNS = "id, action, actor_id, target_id, details, request_id, created_at"

# 300 is for the names of members, id and time.
PAGE = within_bytes(
    f"SELECT {COLUMNS} FROM admin_audit_log ORDER BY created_at DESC, id DESC LIMIT $1 OFFSET $2",
    columns=COLUMNS,
    size="300 + octet_length(concat(action, actor_id, target_id, request_id, details::text))",
    order="created_at DESC, id DESC",
)


async def insert(conn: Connection, id: UUID, at: datetime, values: tuple[str, str, str, str, str | None]) -> None:
    """`values`: action, actor, target, details as JSON text, request id."""
    await conn.execute(INSERT, id, *values, at)


async def page(conn: Connection, limit: int, offset: int) -> list[AuditEntry]:
    return [_entry(row) for row in await conn.fetch(PAGE, limit, offset)]


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
