"""Statements on activity_counts and activity_changes, which triggers fill (revision 0017): the sum of both is exact."""

from aitp_cp.dashboard.model import Activity
from aitp_cp.db import Connection

SESSIONS = """
SELECT coalesce(sum(count), 0)::bigint AS handshakes,
       coalesce(sum(count) FILTER (WHERE name = 'started'), 0)::bigint AS under_way
FROM (
    SELECT name, count FROM activity_counts WHERE kind = 'session'
    UNION ALL
    SELECT name, change FROM activity_changes WHERE kind = 'session'
) AS counted
"""

OF_AGENTS = """
SELECT name, coalesce(sum(count) FILTER (WHERE kind = 'initiator'), 0)::bigint AS initiated,
       coalesce(sum(count) FILTER (WHERE kind = 'responder'), 0)::bigint AS answered,
       coalesce(sum(count) FILTER (WHERE kind = 'invocation'), 0)::bigint AS invoked
FROM (
    SELECT folded.kind, folded.name, folded.count
    FROM unnest($1::text[]) AS page (aid)
    CROSS JOIN (VALUES ('initiator'), ('responder'), ('invocation')) AS kinds (kind)
    JOIN activity_counts AS folded ON folded.kind = kinds.kind AND folded.name = page.aid
    UNION ALL
    SELECT kind, name, change FROM activity_changes
    WHERE kind IN ('initiator', 'responder', 'invocation') AND name = ANY($1::text[])
) AS counted
GROUP BY name
"""

# A reader meanwhile sees each change once, here or there.
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


async def sessions(conn: Connection) -> tuple[int, int]:
    """Return how many handshakes there are, and how many of them are under way."""
    handshakes, under_way = await conn.fetchrow(SESSIONS) or (0, 0)
    return handshakes, under_way


async def of_agents(conn: Connection, aids: list[str]) -> dict[str, Activity]:
    """Return what each of these agents did; agents that did nothing are left out."""
    return {row["name"]: Activity(**row) for row in await conn.fetch(OF_AGENTS, aids)}


async def fold(conn: Connection, limit: int) -> int:
    """Add at most `limit` changes to the counts; return how many there were."""
    return int(await conn.fetchval(FOLD, limit))
