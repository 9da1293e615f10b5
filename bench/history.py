"""A past of any length, loaded by COPY: events with sessions, tokens, delegations and deliveries in proportion."""

import tempfile
from typing import Any

import asyncpg

LOADING = {"synchronous_commit": "off", "maintenance_work_mem": "512MB", "timezone": "UTC"}
TIMEOUT_SECS = 900

# What reads alone need; built afterwards it costs a third. COPY has less to do then.
READING_INDEXES = """
SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition
FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
WHERE relname = ANY($1) AND NOT indisunique AND NOT indisprimary
"""

# From the first event's number to the last one's; the newest is a moment old, and a million make a month.
# Per ten events one session with two tokens, and per hundred one delegation and one delivery.
SOURCES = {
    "audit_events": """
        SELECT gen_random_uuid() AS id,
               CASE n % 10 WHEN 0 THEN 'handshake.started' WHEN 1 THEN 'handshake.complete'
                           WHEN 2 THEN 'handshake.complete' ELSE 'capability.invoked' END AS type,
               now() - ({last} - n) * interval '2.5 seconds' AS ts,
               {one} AS aid_a, {other} AS aid_b,
               'session-' || n / 10 AS session_id, 'run-' || n / 1000 AS run_id,
               CASE n % 10 WHEN 1 THEN '["cap.read"]'::jsonb END AS grants,
               jsonb_build_object('capability', 'demo.' || n % 10, 'boundary', 'same-org', 'input',
                                  jsonb_build_object('text', 'something said by an agent', 'n', n)) AS payload,
               'playground' AS source, now() AS created_at, nextval('audit_events_seq') AS seq
        FROM (SELECT generate_series({first}, {last}) AS n) AS numbers, fleet ORDER BY n""",
    "handshake_sessions": """
        SELECT 'session-' || n AS session_id,
               {one} AS aid_a, {other} AS aid_b,
               CASE n % 20 WHEN 0 THEN 'failed' WHEN 1 THEN 'started' ELSE 'complete' END AS status,
               '["cap.read"]'::jsonb AS grants, 'run-' || n / 100 AS run_id,
               CASE n % 3 WHEN 0 THEN 'same-org' WHEN 1 THEN 'cross-org' END AS boundary,
               now() - ({last} / 10 - n) * interval '25 seconds' AS started_at,
               now() - ({last} / 10 - n) * interval '25 seconds' AS completed_at,
               now() - ({last} / 10 - n) * interval '25 seconds' AS created_at,
               now() - ({last} / 10 - n) * interval '25 seconds' AS updated_at
        FROM (SELECT generate_series({first} / 10, {last} / 10 - 1) AS n) AS numbers, fleet""",
    "issued_tcts": """
        SELECT gen_random_uuid() AS jti, {one} AS issuer_aid, {other} AS subject_aid, {other} AS audience_aid,
               jsonb_build_array('cap.read', 'cap.' || n % 30) AS grants,
               now() - ({last} / 5 - n) * interval '12.5 seconds' AS issued_at,
               now() + interval '1 hour' - ({last} / 5 - n) * interval '12.5 seconds' AS expires_at,
               'session-' || n / 2 AS session_id, n % 100 = 0 AS revoked
        FROM (SELECT generate_series({first} / 5, {last} / 5 - 1) AS n) AS numbers, fleet""",
    "delegations": """
        SELECT gen_random_uuid() AS jti, gen_random_uuid() AS parent_jti,
               {one} AS delegator_aid, {other} AS delegatee_aid, '["cap.read"]'::jsonb AS scope,
               now() - ({last} / 100 - n) * interval '250 seconds' AS issued_at,
               now() + interval '1 hour' AS expires_at, n % 100 = 0 AS revoked
        FROM (SELECT generate_series({first} / 100, {last} / 100 - 1) AS n) AS numbers, fleet""",
    "webhook_deliveries": """
        SELECT gen_random_uuid() AS id, '{webhook}'::uuid AS webhook_id, 'handshake.complete' AS event_type,
               '{{}}'::jsonb AS payload, '{{}}' AS body,
               CASE n % 50 WHEN 1 THEN 'failed' ELSE 'delivered' END AS status,
               1 AS attempts, 200 AS status_code, now() AS delivered_at,
               now() - ({last} / 100 - n) * interval '250 seconds' AS created_at
        FROM (SELECT generate_series({first} / 100, {last} / 100 - 1) AS n) AS numbers, fleet""",
}
# The handshake that row n of a table belongs to.
HANDSHAKE = {"audit_events": "n / 10", "handshake_sessions": "n", "issued_tcts": "n / 2", "delegations": "n * 10"}
# The oldest of them are among a few agents, so that a page about one of these is full whatever the size.
SIDE = "aids[1 + ({number}) % CASE WHEN {handshake} < 1000 THEN 6 ELSE cardinality(aids) END]"
FLEET = "WITH fleet AS MATERIALIZED (SELECT array_agg(aid ORDER BY aid) AS aids FROM agents)"

WEBHOOK = "00000000-0000-4000-8000-000000000001"
ADD_WEBHOOK = """
INSERT INTO webhooks (id, url, secret, active) VALUES ($1, 'https://hook.example/', 's', false) ON CONFLICT DO NOTHING
"""
CLEAR = "TRUNCATE revocation_entries"
REVOKE = """
INSERT INTO revocation_entries (jti, revoked_at)
SELECT gen_random_uuid(), now() - n * interval '1 minute' FROM generate_series(1, $1) AS n
"""


async def load(dsn: str, first: int, last: int) -> None:
    """Add the events `first` to `last` and what belongs to them; no server may follow the log meanwhile."""
    conn = await asyncpg.connect(dsn, server_settings=LOADING, command_timeout=TIMEOUT_SECS)
    try:
        await conn.execute(ADD_WEBHOOK, WEBHOOK)
        indexes = await conn.fetch(READING_INDEXES, list(SOURCES))
        await conn.execute("; ".join(f"DROP INDEX {index['name']}" for index in indexes))
        for table, source in SOURCES.items():
            parts = {"first": first, "last": last, "webhook": WEBHOOK, **_sides(HANDSHAKE.get(table, ""))}
            await _copy(conn, table, FLEET + source.format(**parts))
        await conn.execute("; ".join(index["definition"] for index in indexes))
        await conn.execute("VACUUM ANALYZE")
        await conn.execute("CHECKPOINT")
    finally:
        await conn.close()


def _sides(handshake: str) -> dict[str, str]:
    """The two agents of a handshake, as SQL."""
    numbers = {"one": handshake, "other": f"{handshake} * 7 + 1"}
    return {side: SIDE.format(number=number, handshake=handshake) for side, number in numbers.items()}


async def revoke(dsn: str, count: int) -> None:
    """Leave so many revocations and none from before; a running server would go on showing those."""
    conn = await asyncpg.connect(dsn)
    try:
        await conn.execute(CLEAR)
        await conn.execute(REVOKE, count)
    finally:
        await conn.close()


async def _copy(conn: Any, table: str, source: str) -> None:
    columns = await conn.prepare(source)
    names = [attribute.name for attribute in columns.get_attributes()]
    with tempfile.TemporaryFile() as file:
        await conn.copy_from_query(source, output=file, format="binary")
        file.seek(0)
        await conn.copy_to_table(table, source=file, columns=names, format="binary")
