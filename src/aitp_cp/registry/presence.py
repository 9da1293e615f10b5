"""When an agent was last heard of."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from aitp_cp.db import Connection, Record

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
RETURNING agents.aid
"""

SEEN_UNSIGNED = """
UPDATE agents
SET last_seen_at = CASE WHEN last_seen_at IS NULL OR last_seen_at < $2::timestamptz - interval '1 second' THEN $2
                        ELSE last_seen_at END,
    unsigned_reports = unsigned_reports + unsigned,
    last_unsigned_report_at = CASE WHEN unsigned > 0 THEN $2 ELSE last_unsigned_report_at END
FROM (
    SELECT agents.aid, new.unsigned
    FROM agents JOIN unnest($1::text[], $3::bigint[]) AS new (aid, unsigned) ON new.aid = agents.aid
    WHERE new.unsigned > 0 OR last_seen_at IS NULL OR last_seen_at < $2::timestamptz - interval '1 second'
    ORDER BY agents.aid
    FOR NO KEY UPDATE OF agents
) AS heard
WHERE agents.aid = heard.aid
RETURNING agents.aid
"""


async def seen(conn: Connection, aids: Collection[str], now: datetime, unsigned: Mapping[str, int]) -> frozenset[str]:
    """Note that reports by or about these agents came in at `now`; `unsigned` counts those with a shared key.

    Return the agents whose rows have changed.
    """
    rows: Sequence[Record] = ()
    if unsigned:  # one statement for both: rows are locked in key order once
        everybody = sorted({*aids, *unsigned})
        rows = await conn.fetch(SEEN_UNSIGNED, everybody, now, [unsigned.get(aid, 0) for aid in everybody])
    elif aids:
        rows = await conn.fetch(SEEN, list(aids), now)
    return frozenset(row["aid"] for row in rows)
