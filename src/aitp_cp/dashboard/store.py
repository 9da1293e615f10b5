"""Statements behind the dashboard."""

from collections import Counter
from datetime import datetime, timedelta

from aitp_cp.clock import iso, iso_or_none
from aitp_cp.dashboard.model import AgentActivity, HandshakeCounts, Totals
from aitp_cp.db import Connection
from aitp_cp.sessions.store import HAPPENED_AT

# Counted by triggers (revision 0017): what a job has folded, and the changes since.
COUNTED = """
SELECT name, sum(count)::bigint AS count FROM (
    SELECT name, count FROM activity_counts WHERE kind = 'session'
    UNION ALL
    SELECT name, change FROM activity_changes WHERE kind = 'session'
) AS counted
GROUP BY name
"""

TOTALS = f"""
SELECT (SELECT count(*) FROM agents
        WHERE status = 'active' AND (manifest_expires_at IS NULL OR manifest_expires_at > $1)) AS agents,
       (SELECT coalesce(sum(count), 0)::bigint FROM ({COUNTED}) AS sessions) AS handshakes,
       (SELECT coalesce(sum(count), 0)::bigint FROM ({COUNTED}) AS sessions WHERE name = 'started') AS under_way,
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
WITH page AS MATERIALIZED (
    SELECT aid, display_name,
           CASE WHEN status = 'active' AND manifest_expires_at <= $1 THEN 'expired' ELSE status END AS status,
           registered_at, last_seen_at
    FROM agents
    ORDER BY registered_at, aid
    LIMIT $2
), counted AS (
    SELECT kind, name AS aid, sum(count)::bigint AS count FROM (
        SELECT folded.kind, folded.name, folded.count
        FROM page CROSS JOIN (VALUES ('initiator'), ('responder'), ('invocation')) AS kinds (kind)
        JOIN activity_counts AS folded ON folded.kind = kinds.kind AND folded.name = page.aid
        UNION ALL
        SELECT kind, name, change FROM activity_changes WHERE kind IN ('initiator', 'responder', 'invocation')
    ) AS counts
    GROUP BY kind, name
)
SELECT page.*, coalesce(initiated.count, 0) AS initiated, coalesce(answered.count, 0) AS answered,
       coalesce(invoked.count, 0) AS invocations
FROM page
LEFT JOIN counted AS initiated ON initiated.aid = page.aid AND initiated.kind = 'initiator'
LEFT JOIN counted AS answered ON answered.aid = page.aid AND answered.kind = 'responder'
LEFT JOIN counted AS invoked ON invoked.aid = page.aid AND invoked.kind = 'invocation'
ORDER BY registered_at, page.aid
"""

# Whoever reads meanwhile sees each change once, here or there.
FOLD = """
WITH gone AS (
    DELETE FROM activity_changes WHERE ctid = ANY(ARRAY(SELECT ctid FROM activity_changes LIMIT $1))
    RETURNING kind, name, change
), folded AS (
    INSERT INTO activity_counts AS stored (kind, name, count)
    SELECT kind, name, sum(change) FROM gone GROUP BY kind, name ORDER BY kind, name
    ON CONFLICT (kind, name) DO UPDATE SET count = stored.count + excluded.count
)
SELECT count(*) FROM gone
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


async def fold(conn: Connection, limit: int) -> int:
    """Take at most `limit` changes into the counts; how many there were."""
    return int(await conn.fetchval(FOLD, limit))
