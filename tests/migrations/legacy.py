"""A TypeScript deployment after a long life: thousands of rows of every kind, and what it goes on writing."""

from uuid import UUID

import asyncpg

from tests.support.agents import new_agent, sdk_manifest

EVENTS, AGENTS, SESSIONS, TOKENS, REVOKED, DELIVERIES = 3000, 600, 900, 900, 300, 1500
SECRET = "an old secret"
ALL, FAILURES, INACTIVE, SLOW = (UUID(int=number) for number in range(1, 5))

# Text with an offset, as a client wrote it, jumping back and forth in time.
_MOMENT = """
(to_char(now() AT TIME ZONE 'Asia/Kolkata' - (n * 7919 % 20000) * interval '13.7 seconds', 'YYYY-MM-DD"T"HH24:MI:SS.US')
 || '+05:30')::timestamptz
"""

_WEBHOOKS = """
INSERT INTO webhooks (id, url, events, secret, active) VALUES
    ($1, $5 || '/all', '[]', $6, true),
    ($2, $5 || '/failures', '["handshake.failed"]', $6, true),
    ($3, $5 || '/inactive', '[]', $6, false),
    ($4, $5 || '/slow', '["no.such.type"]', $6, true)
"""

_FILL = (
    f"""
    INSERT INTO agents (aid, display_name, handshake_endpoint, offered_caps, manifest_json, manifest_expires_at, status,
                        registered_at, last_seen_at, org, metadata, last_enrolled_at, namespace)
    SELECT 'aid:pubkey:' || lpad(n::text, 43, 'A'), 'Agent ' || n, 'https://agent.example/' || n, '["cap.read"]',
           '{{"manifest": {{}}}}', CASE WHEN n % 7 > 0 THEN now() + interval '30 days' END,
           (ARRAY['active', 'inactive', 'expired', 'deregistered', 'paused'])[1 + n % 5], {_MOMENT},
           CASE WHEN n % 2 = 0 THEN {_MOMENT} END, 'org', '{{"a": null}}', NULL, 'tenant-' || n % 3
    FROM generate_series(1, {AGENTS}) AS n
    """,
    f"""
    INSERT INTO audit_events (id, type, ts, aid_a, aid_b, session_id, run_id, grants, payload, source)
    SELECT gen_random_uuid(),
           (ARRAY['handshake.started', 'handshake.complete', 'tct.revoked', 'agent.expired', 'odd'])[1 + n % 5],
           {_MOMENT}, 'aid-' || n % 40, CASE WHEN n % 3 = 0 THEN 'aid-' || n % 7 END, 's-' || n % {SESSIONS},
           'r-' || n % 9, (ARRAY[NULL, 'null', '[]', '["cap.read"]']::jsonb[])[1 + n % 4],
           (ARRAY['{{}}', 'null', '"text"', '[1]', '{{"jti": 1}}']::jsonb[])[1 + n / 5 % 5],
           CASE WHEN n % 4 > 0 THEN 'playground' END
    FROM generate_series(1, {EVENTS}) AS n
    """,
    f"""
    INSERT INTO handshake_sessions (session_id, aid_a, aid_b, status, grants, run_id, started_at, created_at)
    SELECT 's-' || n, CASE WHEN n % 3 > 0 THEN 'aid-' || n % 40 END, NULL,
           (ARRAY['started', 'complete', 'failed', 'completed', 'odd'])[1 + n % 5],
           (ARRAY['null', '[]', '["cap.read"]']::jsonb[])[1 + n % 3], 'r-' || n % 9, {_MOMENT}, {_MOMENT}
    FROM generate_series(0, {SESSIONS} - 1) AS n
    """,
    f"""
    INSERT INTO issued_tcts (jti, issuer_aid, subject_aid, audience_aid, grants, issued_at, expires_at, session_id,
                             revoked)
    SELECT md5('tct-' || n)::uuid, 'aid-1', 'aid-2', 'aid-1', (ARRAY['null', '[]', '["x"]']::jsonb[])[1 + n % 3],
           {_MOMENT}, {_MOMENT} + interval '1 hour', 's-' || n, n % 10 = 0
    FROM generate_series(1, {TOKENS}) AS n
    """,
    f"""
    INSERT INTO delegations (jti, parent_jti, delegator_aid, delegatee_aid, scope, issued_at, expires_at)
    SELECT md5('delegation-' || n)::uuid, md5('tct-' || n)::uuid, 'aid-2', 'aid-3',
           (ARRAY['null', '[]', '["x"]']::jsonb[])[1 + n % 3], {_MOMENT}, {_MOMENT} + interval '1 hour'
    FROM generate_series(1, {TOKENS}) AS n
    """,
    f"""
    INSERT INTO revocation_entries (jti, revoked_at, reason)
    SELECT CASE WHEN n % 10 > 0 THEN gen_random_uuid() ELSE md5('old-' || n)::uuid END, {_MOMENT},
           CASE WHEN n % 2 = 0 THEN 'compromised' END
    FROM generate_series(1, {REVOKED}) AS n
    """,
    f"""
    INSERT INTO admin_audit_log (id, action, actor_id, target_id, details, request_id, created_at)
    SELECT gen_random_uuid(), 'webhook.update', 'admin', 't-' || n, '{{"n": 1}}', NULL, {_MOMENT}
    FROM generate_series(1, 400) AS n
    """,
    """
    INSERT INTO trust_anchors (id, namespace, issuer_url, jwks_url, jwks_cache, label, added_by)
    SELECT gen_random_uuid(), 'tenant-' || n % 3, 'http://127.0.0.1:9/' || n, NULL, '{"keys": []}', 'label', 'admin'
    FROM generate_series(1, 30) AS n
    """,
    """
    INSERT INTO pinned_keys (namespace, aid, pubkey, label, added_by)
    SELECT 'tenant-' || n % 3, 'aid:pubkey:' || lpad(n::text, 43, 'A'), lpad(n::text, 43, 'A'), NULL, 'admin'
    FROM generate_series(1, 30) AS n
    """,
    """
    INSERT INTO idempotency_keys (scope, key, response_status, response_body)
    SELECT 'webhooks.create', 'key-' || n, 201, '{"id": "x"}' FROM generate_series(1, 50) AS n
    """,
    """
    INSERT INTO enrollment_jtis (jti, expires_at)
    SELECT 'jti-' || n, now() + interval '5 minutes' FROM generate_series(1, 20) AS n
    """,
)

# Of ten: six delivered, one failed, one new, one from before bodies were kept, one that waits for its next attempt.
_DELIVERIES = f"""
INSERT INTO webhook_deliveries (id, webhook_id, event_type, payload, body, signature, status, attempts, status_code,
                                error, delivered_at, next_retry_at, created_at)
SELECT id, (ARRAY[$1, $2, $3]::uuid[])[1 + n % 3], 'handshake.failed',
       jsonb_build_object('n', n, 'b', 1, 'a', '\u00e9'),
       CASE WHEN n % 10 <> 8
            THEN '{{ "deliveryId": "' || id || '",  "eventType":"handshake.failed", "n":' || n || '}}' END,
       CASE WHEN n % 10 <> 8 THEN md5(n::text) || md5('-' || n) END,
       CASE WHEN n % 10 < 6 THEN 'delivered' WHEN n % 10 = 6 THEN 'failed' ELSE 'pending' END,
       CASE n % 10 WHEN 6 THEN 6 WHEN 7 THEN 0 ELSE 1 END, CASE WHEN n % 10 < 6 THEN 204 END,
       CASE WHEN n % 10 = 6 THEN 'non-2xx (500)' END, CASE WHEN n % 10 < 6 THEN {_MOMENT} END,
       CASE n % 10 WHEN 8 THEN now() - interval '1 minute' WHEN 9 THEN now() + interval '1 hour' END, {_MOMENT}
FROM (SELECT n, md5('delivery-' || n)::uuid AS id FROM generate_series(1, {DELIVERIES}) AS n) AS numbered
"""

_ONE_EVENT = """
INSERT INTO audit_events (id, type, ts, aid_a, session_id, grants, payload, source)
VALUES (gen_random_uuid(), 'handshake.failed', now(), 'aid-1', 's-1', NULL, '{}', 'playground')
RETURNING id::text
"""
_ONE_DELIVERY = """
INSERT INTO webhook_deliveries (id, webhook_id, event_type, payload, body, signature, status, attempts)
VALUES (gen_random_uuid(), $1, 'handshake.failed', '{}', $2, md5('a') || md5('b'), 'pending', 0)
RETURNING id::text
"""
_ONE_AGENT = """
INSERT INTO agents (aid, display_name, handshake_endpoint, offered_caps, manifest_json, manifest_expires_at)
VALUES ($1, 'An agent of the old version', 'https://agent.example/', '[]', $2, now() + interval '1 day')
"""
DUE = """
SELECT id::text FROM webhook_deliveries
WHERE status = 'pending' AND (next_retry_at <= now() OR next_retry_at IS NULL)
"""


async def fill(conn: asyncpg.Connection, receiver: str) -> None:
    """Everything of a long life; webhooks lead to `receiver`."""
    await conn.execute(_WEBHOOKS, ALL, FAILURES, INACTIVE, SLOW, receiver, SECRET)
    for statement in _FILL:
        await conn.execute(statement)
    await conn.execute(_DELIVERIES, ALL, FAILURES, INACTIVE)


async def report(conn: asyncpg.Connection) -> str:
    """An event, as the old version goes on storing them; its id."""
    id: str = await conn.fetchval(_ONE_EVENT)
    return id


async def enqueue(conn: asyncpg.Connection, webhook: UUID, body: str) -> str:
    """A delivery, as the old version goes on making them; its id."""
    id: str = await conn.fetchval(_ONE_DELIVERY, webhook, body)
    return id


async def register(conn: asyncpg.Connection) -> tuple[str, str]:
    """An agent with a manifest of its own, as the old version goes on registering them."""
    agent = new_agent()
    manifest = sdk_manifest(agent).decode()
    await conn.execute(_ONE_AGENT, agent.aid, manifest)
    return agent.aid, manifest
