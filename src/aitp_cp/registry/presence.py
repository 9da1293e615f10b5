"""When an agent was last heard of."""

from collections.abc import Collection
from datetime import datetime

from aitp_cp.db import Connection

# Locked in key order, like every multi-row write; a row moved within the last second is left alone.
SEEN = """
UPDATE agents SET last_seen_at = $2
FROM (
    SELECT aid FROM agents
    WHERE aid = ANY($1::text[]) AND (last_seen_at IS NULL OR last_seen_at < $2::timestamptz - interval '1 second')
    ORDER BY aid
    FOR NO KEY UPDATE
) AS heard
WHERE agents.aid = heard.aid
"""


async def seen(conn: Connection, aids: Collection[str], now: datetime) -> None:
    """Note that reports by or about these agents came in at `now`."""
    if aids:
        await conn.execute(SEEN, list(aids), now)
