"""Statements behind the dashboard."""

from datetime import datetime

from aitp_cp.clock import iso, iso_or_none
from aitp_cp.dashboard.model import AgentActivity, CapabilityCount, HandshakeCounts, Totals, Unit
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
SELECT status, boundary, bucket, count(*) AS count,
       GROUPING(status, boundary, bucket) AS grouping
FROM (SELECT status, boundary, date_trunc($2, {HAPPENED_AT}, 'UTC') AS bucket
      FROM handshake_sessions WHERE created_at >= $1 AND {HAPPENED_AT} >= $1) AS recent
GROUP BY GROUPING SETS ((status), (boundary), (bucket))
"""

# Reporters differ in where they say which capability it was: in the payload, or only among the grants used.
CAPABILITY = """
coalesce(payload #>> '{capability,name}', payload ->> 'capability', payload ->> 'capability_name',
         payload ->> 'capabilityName', payload ->> 'cap', payload ->> 'grant', grants ->> 0)
"""

INVOCATIONS = f"""
SELECT {CAPABILITY} AS capability, count(*) AS count
FROM audit_events
WHERE type = 'capability.invoked' AND ts >= $1
GROUP BY 1
ORDER BY 2 DESC, 1
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

BY_STATUS, BY_BOUNDARY, BY_BUCKET = 0b011, 0b101, 0b110
MOST_AGENTS = 1000


async def totals(conn: Connection, now: datetime) -> Totals:
    row = await conn.fetchrow(TOTALS, now)
    assert row is not None
    return Totals(row["agents"], row["handshakes"], row["under_way"], row["pending_deliveries"])


async def handshakes(conn: Connection, since: datetime, unit: Unit) -> HandshakeCounts:
    """Sessions that took place since then, by status, boundary and bucket."""
    rows = await conn.fetch(HANDSHAKES, since, unit)
    return HandshakeCounts(
        {row["status"]: row["count"] for row in rows if row["grouping"] == BY_STATUS},
        {row["boundary"]: row["count"] for row in rows if row["grouping"] == BY_BOUNDARY},
        {row["bucket"]: row["count"] for row in rows if row["grouping"] == BY_BUCKET},
    )


async def invocations(conn: Connection, since: datetime) -> list[CapabilityCount]:
    """Reported invocations by capability, most first; those that name none under the empty name."""
    rows = await conn.fetch(INVOCATIONS, since)
    return [CapabilityCount(row["capability"] or "", row["count"]) for row in rows]


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
