"""Rows of given ages in every table, written past the code under test."""

from datetime import datetime
from typing import Any

Conn = Any

# One statement per table and kind of row; `$1` is when the row came to be.
INSERT = {
    "audit_events": """
        INSERT INTO audit_events (id, type, ts, created_at) VALUES (gen_random_uuid(), 'demo.event', now(), $1)
    """,
    "webhook_deliveries": """
        INSERT INTO webhook_deliveries (id, webhook_id, event_type, payload, body, signature, status, created_at)
        SELECT gen_random_uuid(), id, 'agent.expired', '{}', '', '', 'delivered', $1 FROM webhooks LIMIT 1
    """,
    "admin_audit_log": """
        INSERT INTO admin_audit_log (id, action, actor_id, created_at)
        VALUES (gen_random_uuid(), 'agent.register', 'a', $1)
    """,
    "idempotency_keys": """
        INSERT INTO idempotency_keys (scope, key, response_status, response_body, created_at)
        VALUES ('events.ingest', gen_random_uuid()::text, 200, '{}', $1)
    """,
    "enrollment_jtis": "INSERT INTO enrollment_jtis (jti, expires_at) VALUES (gen_random_uuid()::text, $1)",
    "agent_nonces": "INSERT INTO agent_nonces (id, expires_at) VALUES (gen_random_uuid(), $1)",
    "console_sessions": """
        INSERT INTO console_sessions (id, digest, subject, scopes, method, created_at, seen_at, auth_at, expires_at,
                                      ip, agent)
        VALUES (gen_random_uuid(), gen_random_uuid()::text::bytea, 'user:x', '[]', 'key', $1, $1, $1, $1, '', '')
    """,
    "agents": """
        INSERT INTO agents (aid, display_name, handshake_endpoint, manifest_json, manifest_expires_at, status,
                            registered_at, deregistered_at)
        VALUES (gen_random_uuid()::text, 'x', 'https://x.example', '{}', $1, 'deregistered', $1, $1)
    """,
    "revoked_reports": """
        INSERT INTO revoked_reports (jti, kind, revoked_at, created_at) VALUES (gen_random_uuid(), 'tct', $1, $1)
    """,
    "signed_revocations": """
        INSERT INTO signed_revocations (jti, signer, kind, revoked_at, created_at)
        VALUES (gen_random_uuid(), 'x', 'tct', $1, $1)
    """,
}

# What must outlive every sweep, as old as it may be.
KEPT = {
    "revocation_entries": """
        INSERT INTO revocation_entries (jti, revoked_at, created_at) VALUES (gen_random_uuid(), $1, $1)
    """,
    "issued_tcts": """
        INSERT INTO issued_tcts (jti, issuer_aid, subject_aid, audience_aid, grants, issued_at, expires_at, created_at)
        VALUES (gen_random_uuid(), 'a', 'b', 'b', '[]', $1, $1, $1)
    """,
    "delegations": """
        INSERT INTO delegations (jti, parent_jti, delegator_aid, delegatee_aid, scope, issued_at, expires_at)
        VALUES (gen_random_uuid(), gen_random_uuid(), 'a', 'b', '[]', $1, $1)
    """,
    "trust_anchors": """
        INSERT INTO trust_anchors (id, namespace, issuer_url, created_at, updated_at)
        VALUES (gen_random_uuid(), 'default', gen_random_uuid()::text, $1, $1)
    """,
    "pinned_keys": """
        INSERT INTO pinned_keys (namespace, aid, pubkey, expires_at, created_at, updated_at)
        VALUES ('default', gen_random_uuid()::text, 'k', $1, $1, $1)
    """,
    "handshake_sessions": """
        INSERT INTO handshake_sessions (session_id, status, started_at, created_at, updated_at)
        VALUES (gen_random_uuid()::text, 'complete', $1, $1, $1)
    """,
    "webhooks": """
        INSERT INTO webhooks (id, url, events, secret, created_at)
        VALUES (gen_random_uuid(), 'https://x', '[]', 's', $1)
    """,
}

UNFINISHED = INSERT["webhook_deliveries"].replace("'delivered'", "'pending'")
EXPIRED_AGENT = INSERT["agents"].replace("'deregistered'", "'expired'")
UNDATED_AGENT = INSERT["agents"].replace("$1, $1)", "$1, NULL)")


async def add(conn: Conn, statement: str, at: datetime, count: int = 1) -> None:
    await conn.executemany(statement, [(at,)] * count)


async def count(conn: Conn, table: str, where: str = "true") -> int:
    found: int = await conn.fetchval(f"SELECT count(*) FROM {table} WHERE {where}")
    return found


async def fill(conn: Conn, size: int) -> None:
    """Many rows of each swept table, spread over 400 days, with statistics."""
    await conn.execute(KEPT["webhooks"].replace("$1", "now()"))
    for statement in INSERT.values():
        spread = (
            f"FROM (SELECT now() - (n % 400) * interval '1 day' AS at FROM generate_series(1, {size}) AS n) AS made"
        )
        if "VALUES" in statement:
            head, _, values = statement.rpartition("VALUES")
            await conn.execute(f"{head} SELECT {values.strip()[1:-1].replace('$1', 'at')} {spread}")
        else:
            head, _, _ = statement.partition("FROM webhooks")
            await conn.execute(f"{head.replace('$1', 'at').replace(' id,', ' hook.id,')} {spread}, webhooks AS hook")
    await conn.execute("UPDATE audit_events SET seq = nextval('audit_events_seq')")
    await conn.execute("UPDATE webhook_outbox SET enqueued_through = (SELECT max(seq) FROM audit_events)")
    for table in INSERT:
        await conn.execute(f"ANALYZE {table}")
