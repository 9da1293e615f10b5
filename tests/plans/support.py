"""Tables large enough that a plan matters, and a connection that explains statements instead of running them."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from tests.support.postgres import migrated_database

EVENTS, SESSIONS, TCTS, DELEGATIONS, AGENTS, DELIVERIES, AUDITS = (
    200_000,
    50_000,
    50_000,
    50_000,
    20_000,
    50_000,
    50_000,
)
# Agent 7 takes part in much, agent 19999 in little; run 3 and session 5 are ordinary.
BUSY, RARE, RUN, SESSION = "aid-7", "aid-19999", "run-3", "session-5"

FILL = f"""
INSERT INTO agents (aid, display_name, handshake_endpoint, offered_caps, manifest_json, manifest_expires_at, status,
                    registered_at, namespace, name_skeleton)
SELECT 'aid-' || n, 'name ' || n, 'https://agent.example/', '["cap.read"]', repeat('m', 1000),
       now() + (n % 90) * interval '1 day',
       CASE n % 50 WHEN 0 THEN 'expired' WHEN 1 THEN 'deregistered' ELSE 'active' END,
       now() - n * interval '1 minute', 'ns-' || n % 20, 'narne ' || n
FROM generate_series(1, {AGENTS}) AS n;

INSERT INTO handshake_sessions (session_id, aid_a, aid_b, status, run_id, created_at, boundary, error)
SELECT 'session-' || n, 'aid-' || CASE WHEN n % 10 = 0 THEN 7 ELSE n % {AGENTS} END, 'aid-' || (n * 7) % {AGENTS},
       CASE n % 20 WHEN 0 THEN 'failed' WHEN 1 THEN 'started' ELSE 'complete' END, 'run-' || n % 500,
       now() - n * interval '10 seconds', CASE n % 3 WHEN 0 THEN 'org' WHEN 1 THEN 'public' END,
       CASE n % 20 WHEN 0 THEN 'key_mismatch' END
FROM generate_series(1, {SESSIONS}) AS n;

INSERT INTO audit_events (id, type, ts, aid_a, aid_b, session_id, run_id, payload, source, seq, reported_by, proof)
SELECT gen_random_uuid(), 'type-' || n % 20, now() - n * interval '3 seconds',
       'aid-' || CASE WHEN n % 10 = 0 THEN 7 ELSE n % {AGENTS} END, 'aid-' || (n * 7) % {AGENTS},
       'session-' || n % {SESSIONS}, 'run-' || n % 500, jsonb_build_object('text', repeat('p', 200)), 'playground',
       {EVENTS} + 1 - n, CASE WHEN n % 20 = 0 THEN 'aid-' || n % {AGENTS} END,
       CASE WHEN n % 1000 = 0 THEN 'agent-token' WHEN n % 20 = 0 THEN 'signature' ELSE 'shared-key' END
FROM generate_series(1, {EVENTS}) AS n;

INSERT INTO issued_tcts
    (jti, issuer_aid, subject_aid, audience_aid, grants, issued_at, expires_at, session_id, revoked, verdict)
SELECT md5('tct' || n)::uuid, 'aid-' || CASE WHEN n % 10 = 0 THEN 7 ELSE n % {AGENTS} END, 'aid-' || (n * 7) % {AGENTS},
       'aid-' || (n * 7) % {AGENTS}, jsonb_build_array('cap-' || n % 30), now() - n * interval '10 seconds',
       now() + interval '1 hour' - n * interval '10 seconds', 'session-' || n % {SESSIONS}, n % 100 = 0,
       CASE WHEN n % 1000 = 0 THEN 'invalid' WHEN n % 3 <> 0 THEN 'verified' END
FROM generate_series(1, {TCTS}) AS n;

INSERT INTO hidden_tcts
    (jti, issuer_aid, subject_aid, reported_by, audience_aid, grants, issued_at, expires_at, mismatch)
SELECT jti, 'aid-' || CASE WHEN n % 10 = 0 THEN 7 ELSE n % {AGENTS} END, 'aid-' || n, 'key', 'aid-' || n, grants,
       issued_at, expires_at, false
FROM (SELECT *, row_number() OVER (ORDER BY jti) AS n FROM issued_tcts LIMIT 20000) AS shown;

INSERT INTO delegations (jti, parent_jti, delegator_aid, delegatee_aid, issued_at, expires_at, revoked, verdict)
SELECT md5('hop' || n)::uuid, CASE WHEN n % 3 = 0 THEN md5('tct' || n)::uuid ELSE md5('hop' || n / 3)::uuid END,
       'aid-' || CASE WHEN n % 10 = 0 THEN 7 ELSE n % {AGENTS} END, 'aid-' || (n * 7) % {AGENTS},
       now() - n * interval '10 seconds', now() + interval '1 hour' - n * interval '10 seconds', n % 100 = 0,
       CASE WHEN n % 1000 = 0 THEN 'invalid' WHEN n % 3 <> 0 THEN 'verified' END
FROM generate_series(1, {DELEGATIONS}) AS n;

INSERT INTO revocation_entries (jti, revoked_at)
SELECT md5('entry' || n)::uuid, now() - n * interval '1 minute' FROM generate_series(1, 20000) AS n;
INSERT INTO revoked_reports (jti, kind, revoked_at)
SELECT md5('report' || n)::uuid, 'tct', now() - n * interval '1 minute' FROM generate_series(1, 20000) AS n;

INSERT INTO webhooks (id, url, secret, active) SELECT md5('hook' || n)::uuid, 'https://hook.example/', 's', true
FROM generate_series(1, 10) AS n;
INSERT INTO webhook_deliveries (id, webhook_id, event_type, payload, body, status, next_retry_at, created_at)
SELECT gen_random_uuid(), md5('hook' || 1 + n % 10)::uuid, 'tct.revoked', '{{}}', '{{}}',
       CASE n % 50 WHEN 0 THEN 'pending' WHEN 1 THEN 'failed' ELSE 'delivered' END, now(),
       now() - n * interval '1 second'
FROM generate_series(1, {DELIVERIES}) AS n;

INSERT INTO webhook_attempts (delivery_id, n, at, ms, status, cut)
SELECT id, n, created_at, n * 10, 204, false FROM webhook_deliveries, generate_series(1, 2) AS n;

INSERT INTO admin_audit_log (id, action, actor_id, target_id, request_id, created_at)
SELECT gen_random_uuid(), 'agent.register', 'apikey:' || n % 5, 'aid-' || n, 'request-' || n,
       now() - n * interval '1 second'
FROM generate_series(1, {AUDITS}) AS n;

INSERT INTO trust_anchors (id, namespace, issuer_url, created_at)
SELECT gen_random_uuid(), 'ns-' || n % 20, 'https://idp.example/' || n, now() - n * interval '1 second'
FROM generate_series(1, 20000) AS n;
INSERT INTO api_keys (id, family, name, shown, digest, scopes, created_at, revoked_at)
SELECT md5('key' || n)::uuid, md5('key' || n)::uuid, 'key ' || n, 'acp_abcd',
       sha256(n::text::bytea), '["events:write"]', now() - n * interval '1 second', CASE n % 10 WHEN 0 THEN now() END
FROM generate_series(1, 20000) AS n;
INSERT INTO agent_notes (aid, owner, labels, updated_by, updated_at)
SELECT 'aid-' || n, 'team ' || n % 200, jsonb_build_array('label ' || n % 100), 'b', now() - n * interval '1 second'
FROM generate_series(1, 20000) AS n;
INSERT INTO agent_manifests (aid, sha256, seq, received_at, raw)
SELECT 'aid-' || n % 5000 + 1, md5(n::text), n / 5000 + 1, now(), 'raw' FROM generate_series(1, 20000) AS n;
INSERT INTO console_sessions
    (id, digest, subject, scopes, method, created_at, seen_at, auth_at, expires_at, ip, agent, ended_at)
SELECT md5('session' || n)::uuid, sha256(n::text::bytea), 'user:' || n % 5000, '[]', 'oidc',
       now() - n * interval '1 second', now(), now(), now() + interval '1 hour', '', '',
       CASE n % 3 WHEN 0 THEN now() END
FROM generate_series(1, 20000) AS n;
INSERT INTO pinned_keys (namespace, aid, pubkey)
SELECT 'ns-' || n % 20, 'aid-' || n, 'k' FROM generate_series(1, 20000) AS n;
"""

READING_INDEXES = """
SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition
FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
WHERE relnamespace = 'public'::regnamespace AND NOT indisunique AND NOT indisprimary
"""

BIG = frozenset(
    {
        "agents",
        "handshake_sessions",
        "audit_events",
        "hidden_tcts",
        "issued_tcts",
        "delegations",
        "revocation_entries",
        "revoked_reports",
        "webhook_attempts",
        "webhook_deliveries",
        "admin_audit_log",
        "trust_anchors",
        "pinned_keys",
        "agent_notes",
        "agent_manifests",
        "api_keys",
        "console_sessions",
    }
)


@pytest.fixture(scope="session")
def filled_database_url() -> Iterator[str]:
    with migrated_database() as dsn:
        asyncio.run(_fill(dsn))
        yield dsn


async def _fill(dsn: str) -> None:
    """Without the indexes that only reads need: built afterwards they cost a third."""
    conn = await asyncpg.connect(dsn, server_settings={"synchronous_commit": "off", "maintenance_work_mem": "256MB"})
    indexes = await conn.fetch(READING_INDEXES)
    await conn.execute("; ".join(f"DROP INDEX {index['name']}" for index in indexes))
    await conn.execute(FILL, timeout=120)
    await conn.execute("; ".join(index["definition"] for index in indexes), timeout=120)
    await conn.execute("VACUUM ANALYZE", timeout=120)
    await conn.close()


class Explained:
    """Takes statements like a connection, keeps their plans, and answers that there is nothing."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self.plans: list[dict[str, Any]] = []

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        await self._explain(query, args)
        return ""

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Any]:
        await self._explain(query, args)
        return []

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> None:
        await self._explain(query, args)

    async def fetchval(self, query: str, *args: Any, column: int = 0, timeout: float | None = None) -> None:
        await self._explain(query, args)

    def transaction(self) -> Any:
        return self._conn.transaction()

    def nodes(self) -> Iterator[dict[str, Any]]:
        for plan in self.plans:
            yield from _nodes(plan)

    def whole_table_reads(self) -> list[str]:
        """The large tables that some statement would read from end to end."""
        return [node["Relation Name"] for node in self.nodes() if _reads_all(node)]

    async def _explain(self, query: str, args: Sequence[Any]) -> None:
        [explained] = json.loads(await self._conn.fetchval(f"EXPLAIN (FORMAT JSON) {query}", *args))
        self.plans.append(explained["Plan"])


@asynccontextmanager
async def explained(dsn: str) -> AsyncIterator[Explained]:
    conn = await asyncpg.connect(dsn)
    try:
        yield Explained(conn)
    finally:
        await conn.close()


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _reads_all(node: dict[str, Any]) -> bool:
    return node.get("Relation Name") in BIG and "Seq Scan" in node["Node Type"]
