"""Bounded counts: each ends at a limit, so none grows with its table."""

from datetime import datetime

from aitp_cp.db import Connection

AGENTS = """
SELECT count(*) FILTER (WHERE status = 'active'), count(*) FILTER (WHERE status = 'expired')
FROM (SELECT status FROM agents LIMIT $1) AS sample
"""

SESSIONS = """
SELECT CASE WHEN reltuples < $1 THEN (SELECT count(*) FROM (SELECT 1 FROM handshake_sessions LIMIT $2) AS sample)
            ELSE reltuples END::bigint
FROM pg_class WHERE oid = 'handshake_sessions'::regclass
"""

DELIVERIES = """
SELECT wanted.status, (
    SELECT count(*) FROM (SELECT 1 FROM webhook_deliveries AS d WHERE d.status = wanted.status LIMIT $2) AS sample
)
FROM unnest($1::text[]) AS wanted (status)
"""

BREAKERS = "SELECT breaker_state, count(*) FROM webhooks WHERE deleted_at IS NULL GROUP BY breaker_state"

EVENTS = """
SELECT type, count(*)
FROM (SELECT type FROM audit_events WHERE seq <= $1 ORDER BY seq DESC LIMIT $2) AS newest
GROUP BY type
"""

CLOCK = "SELECT clock_timestamp()"

LIMIT = 100_000
STATUSES = ["pending", "in_flight", "delivered", "failed"]


async def agents(conn: Connection) -> tuple[int, int]:
    """Active and expired ones."""
    row = await conn.fetchrow(AGENTS, LIMIT)
    assert row is not None
    return row[0], row[1]


async def sessions(conn: Connection) -> int:
    """Exact for small tables, the planner's estimate for large ones."""
    return int(await conn.fetchval(SESSIONS, float(LIMIT), LIMIT))


async def deliveries(conn: Connection) -> dict[str, int]:
    """By status, each up to the limit."""
    return {row[0]: row[1] for row in await conn.fetch(DELIVERIES, STATUSES, LIMIT)}


async def breakers(conn: Connection) -> dict[str, int]:
    return {row[0]: row[1] for row in await conn.fetch(BREAKERS)}


async def events(conn: Connection, up_to: int) -> dict[str, int]:
    """The newest ones up to a position in the log, by type."""
    return {row[0]: row[1] for row in await conn.fetch(EVENTS, up_to, LIMIT)}


async def clock(conn: Connection) -> datetime:
    """What time the database has."""
    theirs: datetime = await conn.fetchval(CLOCK)
    return theirs
