"""The tables and their owners, and the revision of a database."""

from collections.abc import Mapping
from contextlib import suppress

import asyncpg

from aitp_cp.db.migrations import REVISIONS
from aitp_cp.db.pool import Connection

# Every table and the room that owns it: only the owner's statements name it (tests/shape/test_tables.py). A role needs
# the right to read and write them all.
TABLES: Mapping[str, str] = {
    "activity_changes": "dashboard",
    "activity_counts": "dashboard",
    "admin_audit_log": "audit",
    "agent_manifests": "registry",
    "agent_nonces": "agent_auth",
    "agent_notes": "notes",
    "agents": "registry",
    "api_keys": "keys",
    "audit_events": "events",
    "capability_counts": "events",
    "cascade_work": "tcts",
    "console_sessions": "accounts",
    "console_views": "console",
    "containments": "containment",
    "delegation_children": "tcts",
    "delegation_parents": "tcts",
    "delegations": "tcts",
    "enrollment_jtis": "registry",
    "handshake_sessions": "sessions",
    "hidden_tcts": "tcts",
    "idempotency_keys": "idempotency",
    "invocation_counts": "events",
    "invocation_progress": "events",
    "issued_tcts": "tcts",
    "job_runs": "ops",
    "list_holders": "revocation",
    "log_horizon": "events",
    "pinned_keys": "truststore",
    "replicas": "ops",
    "revocation_entries": "revocation",
    "revocation_version": "revocation",
    "revoked_reports": "tcts",
    "signed_revocations": "tcts",
    "trust_anchors": "truststore",
    "webhook_attempts": "deliveries",
    "webhook_deliveries": "deliveries",
    "webhook_outbox": "deliveries",
    "webhooks": "webhooks",
}
# The exceptions: another room whose statements name a table, and why two statements would not do.
SHARED: Mapping[tuple[str, str], str] = {
    ("revocation_entries", "tcts"): "a walk asks for what revokes a thousand rows, and tcts lies below revocation",
    ("agent_notes", "registry"): "the list of agents is filtered by their owner",
    ("containments", "registry"): "every status that is shown or filtered depends on it, and registry lies below",
    ("containments", "tcts"): "each reported token is compared with it in a statement that runs anyway",
    ("webhooks", "deliveries"): "a claim picks deliveries by the breaker of their webhook, and locks both",
    ("audit_events", "db"): "positions are given and repaired before any room runs",
    ("log_horizon", "db"): "the log's sequence must lie beyond what retention has deleted",
}
SEQUENCES = ("audit_events_seq",)

# Of our own name: `alembic_version` may belong to another application in the same schema.
VERSION_TABLE = "aitp_cp_version"
# The version table of older versions. They still read it, so a migration updates it too.
OLD_VERSION_TABLE = "alembic_version"

# A table in a later schema of the search path belongs to another application.
_IN_THIS_SCHEMA = "to_regclass('{0}') = to_regclass(quote_ident(current_schema()) || '.{0}')"
_CURRENT_REVISION = f"SELECT version_num FROM {VERSION_TABLE} WHERE {_IN_THIS_SCHEMA.format(VERSION_TABLE)}"
_OLD_REVISION = f"""
SELECT max(version_num) FROM {OLD_VERSION_TABLE}
WHERE version_num = ANY($1) AND {_IN_THIS_SCHEMA.format(OLD_VERSION_TABLE)}
"""


async def current_revision(conn: Connection) -> str | None:
    """Return the revision of `current_schema()`, None before the first. Call it outside a transaction."""
    for question, *args in ((_CURRENT_REVISION,), (_OLD_REVISION, list(REVISIONS))):
        with suppress(asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
            if revision := await conn.fetchval(question, *args):
                return str(revision)
    return None
