"""Where in the log a time lies."""

from datetime import datetime

from aitp_cp.db import Connection

ENDS = """
SELECT coalesce((SELECT min(seq) FROM audit_events), 1) AS oldest,
       coalesce((SELECT max(seq) FROM audit_events), 0) AS newest
"""

NEXT = "SELECT seq, created_at FROM audit_events WHERE seq >= $1 ORDER BY seq LIMIT 1"


async def before(conn: Connection, moment: datetime) -> int:
    """Return the position before the first event received at or after a time; some thirty look-ups in an index.

    Times of receipt follow `seq`, but for what the clocks of replicas differ.
    """
    ends = await conn.fetchrow(ENDS)
    assert ends is not None
    low, high = ends["oldest"] - 1, ends["newest"]
    while low < high:
        middle = (low + high + 1) // 2
        event = await conn.fetchrow(NEXT, middle)
        if event is None or event["created_at"] >= moment:
            high = middle - 1
        else:
            low = event["seq"]
    return int(low)
