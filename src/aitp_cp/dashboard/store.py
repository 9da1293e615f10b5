"""Statements behind the dashboard."""

from collections import Counter
from datetime import datetime, timedelta

from aitp_cp.clock import iso, iso_or_none
from aitp_cp.dashboard.model import AgentActivity, HandshakeCounts, Totals
from aitp_cp.db import Connection
from aitp_cp.sessions.store import HAPPENED_AT

TOTALS = """
SELECT (SELECT count(*) FROM agents
        WHERE status = 'active' AND (manifest_expires_at IS NULL OR manifest_expires_at > $1)) AS agents,
       (SELECT count(*) FROM handshake_sessions) AS handshakes,
       (SELECT count(*) FROM handshake_sessions WHERE status = 'started') AS under_way,
       (SELECT count(*) FROM webhook_deliveries WHERE status NOT IN ('delivered', 'failed')) AS pending_deliveries
"""

# The first condition is what the index serves; the second follows from it but for reports that came in late.
HANDSHAKES = f"""
SELECT status, boundary, date_bin($2, LEAST({HAPPENED_AT}, '9999-12-31'), 'epoch'::timestamptz) AS bucket,
       count(*) AS count
FROM handshake_sessions
WHERE created_at >= $1 AND {HAPPENED_AT} >= $1
GROUP BY 1, 2, 3
"""

AGENTS = """
SELECT aid, display_name,
       CASE WHEN status = 'active' AND manifest_expires_at <= $1 THEN 'expired' ELSE status END AS status,
       registered_at, last_seen_at,
       (SELECT count(*) FROM handshake_sessions WHERE aid_a = aid) AS initiated,
       (SELECT count(*) FROM handshake_sessions WHERE aid_b = aid) AS answered,
       (SELECT count(*) FROM audit_events WHERE aid_a = aid AND type = 'capability.invoked') AS invocations
FROM agents
ORDER BY registered_at, aid
LIMIT $2
"""

MOST_AGENTS = 1000


async def totals(conn: Connection, now: datetime) -> Totals:
    row = await conn.fetchrow(TOTALS, now)
    assert row is not None
    return Totals(row["agents"], row["handshakes"], row["under_way"], row["pending_deliveries"])


async def handshakes(conn: Connection, since: datetime, width: timedelta) -> HandshakeCounts:
    """Sessions that took place since then, by status, boundary and bucket of that width."""
    counts = HandshakeCounts(Counter(), Counter(), Counter())
    for status, boundary, bucket, count in await conn.fetch(HANDSHAKES, since, width):
        counts.by_status[status] += count
        counts.by_boundary[boundary] += count
        counts.by_bucket[bucket] += count
    return counts


async def agents(conn: Connection, now: datetime) -> list[AgentActivity]:
    rows = await conn.fetch(AGENTS, now, MOST_AGENTS)
    return [
        AgentActivity(
            aid=row["aid"],
            display_name=row["display_name"],
            status=row["status"],
            registered_at=iso(row["registered_at"]),
            last_seen_at=iso_or_none(row["last_seen_at"]),
            handshakes_as_initiator=row["initiated"],
            handshakes_as_responder=row["answered"],
            capability_invocations=row["invocations"],
        )
        for row in rows
    ]
