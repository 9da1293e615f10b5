"""Statements about whom agents met."""

from aitp_cp.db import Connection
from aitp_cp.sessions.model import LastSession, Peer
from aitp_cp.sessions.store import HAPPENED_AT

# Of each agent by itself: two look-ups in an index.
NEWEST_OF = f"""
SELECT DISTINCT ON (aid) aid, CASE WHEN aid_a = aid THEN aid_b ELSE aid_a END AS peer, status, happened_at
FROM unnest($1::text[]) AS of (aid), LATERAL (
    (SELECT aid_a, aid_b, status, created_at, {HAPPENED_AT} AS happened_at FROM handshake_sessions
     WHERE aid_a = aid ORDER BY created_at DESC LIMIT 1)
    UNION ALL
    (SELECT aid_a, aid_b, status, created_at, {HAPPENED_AT} FROM handshake_sessions
     WHERE aid_b = aid ORDER BY created_at DESC LIMIT 1)
) AS either
ORDER BY aid, created_at DESC
"""

# Among the newest sessions of either side: a busy agent has millions.
PEERS = f"""
SELECT peer AS aid, max(happened_at) AS last_at, count(*) FILTER (WHERE status = 'complete') AS complete,
       count(*) FILTER (WHERE status = 'failed') AS failed
FROM (
    (SELECT aid_b AS peer, status, {HAPPENED_AT} AS happened_at FROM handshake_sessions
     WHERE aid_a = $1 ORDER BY created_at DESC LIMIT $2)
    UNION ALL
    (SELECT aid_a, status, {HAPPENED_AT} FROM handshake_sessions
     WHERE aid_b = $1 ORDER BY created_at DESC LIMIT $2)
) AS newest
WHERE peer IS NOT NULL AND peer <> $1
GROUP BY peer
ORDER BY last_at DESC, peer
LIMIT $3
"""


async def newest_of(conn: Connection, aids: list[str]) -> dict[str, LastSession]:
    """Return each agent's newest session."""
    return {row["aid"]: LastSession(*row[1:]) for row in await conn.fetch(NEWEST_OF, aids)}


async def peers(conn: Connection, aid: str, sessions: int, limit: int) -> list[Peer]:
    """Return whom an agent met in its newest `sessions` of either side, the last one first."""
    return [Peer(**row) for row in await conn.fetch(PEERS, aid, sessions, limit)]
