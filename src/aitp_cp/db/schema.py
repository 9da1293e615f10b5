"""What the code must know about the schema itself: its revision, and the numbering of the log."""

from contextlib import suppress

import asyncpg

from aitp_cp.db.locks import LOG, lock
from aitp_cp.db.migrations import REVISIONS
from aitp_cp.db.pool import Connection

# What a role must be allowed to read and write.
TABLES = (
    "activity_changes",
    "activity_counts",
    "admin_audit_log",
    "agents",
    "audit_events",
    "cascade_work",
    "delegation_children",
    "delegation_parents",
    "delegations",
    "enrollment_jtis",
    "handshake_sessions",
    "idempotency_keys",
    "invocation_counts",
    "invocation_progress",
    "issued_tcts",
    "log_horizon",
    "pinned_keys",
    "revocation_entries",
    "revocation_version",
    "revoked_reports",
    "trust_anchors",
    "webhook_deliveries",
    "webhook_outbox",
    "webhooks",
)
SEQUENCES = ("audit_events_seq",)

# Of our own name: `alembic_version` may belong to another application in the same schema.
VERSION_TABLE = "aitp_cp_version"
# Where older versions of the control plane keep their revision. They still read it, so a migration updates it too.
OLD_VERSION_TABLE = "alembic_version"

# A table further down the search path is somebody else's.
_IN_THIS_SCHEMA = "to_regclass('{0}') = to_regclass(quote_ident(current_schema()) || '.{0}')"
_CURRENT_REVISION = f"SELECT version_num FROM {VERSION_TABLE} WHERE {_IN_THIS_SCHEMA.format(VERSION_TABLE)}"
_OLD_REVISION = f"""
SELECT max(version_num) FROM {OLD_VERSION_TABLE}
WHERE version_num = ANY($1) AND {_IN_THIS_SCHEMA.format(OLD_VERSION_TABLE)}
"""
# SKIP LOCKED: whoever holds the log lock must not wait for a row, which retention may be deleting.
_NUMBER_UNSEQUENCED = """
WITH oldest AS MATERIALIZED (
    SELECT id FROM audit_events WHERE seq IS NULL ORDER BY ts, id LIMIT $1 FOR UPDATE SKIP LOCKED
), numbered AS MATERIALIZED (
    SELECT id, nextval('audit_events_seq') AS seq FROM oldest
), adopted AS (
    UPDATE audit_events SET seq = numbered.seq{mark} FROM numbered WHERE audit_events.id = numbered.id RETURNING 1
)
SELECT count(*) FROM adopted
"""


async def current_revision(conn: Connection) -> str | None:
    """Return the revision of `current_schema()`, None before the first; not for use inside a transaction."""
    for question, *args in ((_CURRENT_REVISION,), (_OLD_REVISION, list(REVISIONS))):
        with suppress(asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
            if revision := await conn.fetchval(question, *args):
                return str(revision)
    return None


async def number_unsequenced(conn: Connection, limit: int) -> int:
    """Give the next log positions to at most `limit` events that have none, oldest first; returns how many."""
    return await _number(conn, limit, "")


async def adopt_unsequenced(conn: Connection, limit: int) -> int:
    """The same on the current schema, where what an older control plane wrote is marked: it has its deliveries."""
    return await _number(conn, limit, ", adopted = true")


async def _number(conn: Connection, limit: int, mark: str) -> int:
    async with conn.transaction():
        await lock(conn, LOG)
        return int(await conn.fetchval(_NUMBER_UNSEQUENCED.format(mark=mark), limit))
