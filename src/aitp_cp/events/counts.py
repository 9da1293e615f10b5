"""Bounded counts of the log, for gauges and the sweep."""

from datetime import datetime

from aitp_cp.db import Connection

COUNT_BY_TYPE = """
SELECT type, count(*)
FROM (SELECT type FROM audit_events WHERE seq <= $1 ORDER BY seq DESC LIMIT $2) AS newest
GROUP BY type
"""

# Of the first rows of the log, which the next sweep looks at.
COUNT_DUE = """
SELECT count(*) FROM (SELECT created_at FROM audit_events ORDER BY seq LIMIT $2) AS first WHERE created_at < $1
"""


async def count_by_type(conn: Connection, through: int, limit: int) -> dict[str, int]:
    """Count the newest `limit` events up to the position `through` by type."""
    return {row["type"]: row["count"] for row in await conn.fetch(COUNT_BY_TYPE, through, limit)}


async def count_due(conn: Connection, before: datetime, limit: int) -> int:
    """Return how many events the next sweep would delete, at most `limit`."""
    return int(await conn.fetchval(COUNT_DUE, before, limit))
