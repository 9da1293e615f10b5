"""How often each capability was invoked (decision 18).

Triggers count the events of the log by ten minutes into `capability_counts`, in the transaction that appends or deletes
them (revision 0018). What has no position yet, and the ten minutes that a range only touches, is read off the log.
"""

from datetime import datetime, timedelta

from aitp_cp.clock import EPOCH
from aitp_cp.db import Connection
from aitp_cp.events.model import CapabilityCount, Invocations

BUCKET = timedelta(minutes=10)

SINCE = """
WITH counted AS (
    SELECT capability, count FROM capability_counts WHERE bucket >= $3
    UNION ALL
    SELECT invoked_capability(payload, grants), count(*) FROM audit_events
    WHERE type = 'capability.invoked' AND ts >= $1 AND ts < $3 GROUP BY 1
    UNION ALL
    SELECT invoked_capability(payload, grants), count(*) FROM audit_events
    WHERE type = 'capability.invoked' AND ts >= $3 AND seq IS NULL GROUP BY 1
), summed AS (
    SELECT capability, sum(count)::bigint AS count FROM counted GROUP BY 1
)
SELECT capability, count FROM (
    SELECT NULL AS capability, coalesce(sum(count), 0)::bigint AS count FROM summed
    UNION ALL
    (SELECT capability, count FROM summed WHERE capability <> '' ORDER BY count DESC, capability LIMIT $2)
) AS total_and_top
ORDER BY capability IS NOT NULL, count DESC, capability
"""


async def invocations(conn: Connection, since: datetime, top: int) -> Invocations:
    """Return all invocations with `ts` at or after `since`, and the `top` most used capabilities that have a name."""
    first_whole_bucket = since + (EPOCH - since) % BUCKET
    total, *named = await conn.fetch(SINCE, since, top, first_whole_bucket)
    return Invocations(total["count"], [CapabilityCount(row["capability"], row["count"]) for row in named])
