"""How often each capability was invoked: a job counts the log by ten minutes, the rest is counted when somebody asks.

`invocation_counts` holds what lies at or below `invocation_progress.counted_through`. What lies above it, what has no
place in the log yet, and what falls into the ten minutes that a range only touches is read from the log itself. So the
figures are exact at any moment, whether the job runs or not.
"""

from datetime import datetime, timedelta

from aitp_cp.clock import EPOCH
from aitp_cp.db import Connection
from aitp_cp.events.model import CapabilityCount, Invocations

BUCKET = timedelta(minutes=10)

# Reporters differ in where they say which capability it was: in the payload, or only among the grants used. No longer
# than an index takes; none is the empty name.
CAPABILITY = """
left(coalesce(payload -> 'capability' ->> 'name', payload ->> 'capability', payload ->> 'capability_name',
              payload ->> 'capabilityName', payload ->> 'cap', payload ->> 'grant', grants ->> 0, ''), 500)
"""

# What no range reaches is not counted, and dropped a day later; by the database's clock, like the sweeps. Nor is a row
# that somebody wrote by hand without a time one could name.
INVOKED_OF_LATE = "type = 'capability.invoked' AND ts >= now() - interval '31 days' AND isfinite(ts)"
BUCKET_OF_TS = f"date_bin('{BUCKET}', ts, 'epoch'::timestamptz)"

# In places of the log: nearly as many as there are events, and read off two indexes.
BEHIND = """
SELECT coalesce((SELECT max(seq) FROM audit_events), 0)
     - coalesce((SELECT max(counted_through) FROM invocation_progress), 0)
"""
HOLD_PROGRESS = "SELECT counted_through FROM invocation_progress FOR UPDATE"

COUNT_NEXT = f"""
WITH next AS MATERIALIZED (
    SELECT seq,
           CASE WHEN {INVOKED_OF_LATE} THEN {BUCKET_OF_TS} END AS bucket,
           CASE WHEN {INVOKED_OF_LATE} THEN {CAPABILITY} END AS capability
    FROM (SELECT seq, type, ts, payload, grants FROM audit_events WHERE seq > $1 ORDER BY seq LIMIT $2) AS rows
), counted AS (
    INSERT INTO invocation_counts AS stored (bucket, capability, count)
    SELECT bucket, capability, count(*) FROM next WHERE bucket IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (bucket, capability) DO UPDATE SET count = stored.count + excluded.count
), moved AS (
    UPDATE invocation_progress SET counted_through = (SELECT max(seq) FROM next) WHERE EXISTS (SELECT 1 FROM next)
), forgotten AS (
    DELETE FROM invocation_counts WHERE bucket < now() - interval '32 days'
)
SELECT count(*) FROM next
"""

# A log that ends before what was counted is another one, as after a restore: all of it is counted again.
RESTART_PAST_THE_END = """
WITH back AS (
    UPDATE invocation_progress SET counted_through = 0
    WHERE counted_through > greatest(
        (SELECT max(seq) FROM audit_events), (SELECT max(deleted_through) FROM log_horizon), 0
    )
    RETURNING 1
), gone AS (
    DELETE FROM invocation_counts WHERE EXISTS (SELECT 1 FROM back)
)
SELECT count(*) FROM back
"""

# A part of the sweep's statement: `gone` holds the events that it deletes.
UNCOUNT_GONE = f"""
    UPDATE invocation_counts AS stored SET count = stored.count - deleted.count
    FROM (
        SELECT {BUCKET_OF_TS} AS bucket, {CAPABILITY} AS capability, count(*) AS count
        FROM gone
        WHERE {INVOKED_OF_LATE} AND seq <= (SELECT counted_through FROM invocation_progress)
        GROUP BY 1, 2
    ) AS deleted
    WHERE stored.bucket = deleted.bucket AND stored.capability = deleted.capability
"""

TOP = """
SELECT capability, count FROM (
    SELECT NULL AS capability, coalesce(sum(count), 0)::bigint AS count FROM summed
    UNION ALL
    (SELECT capability, count FROM summed WHERE capability <> '' ORDER BY count DESC, capability LIMIT $2)
) AS total_and_top
ORDER BY capability IS NOT NULL, count DESC, capability
"""

# In one statement, for the job may move on between two. OFFSET 0 keeps the order, so that the index of `seq` serves
# what is left: the planner cannot know how little that is.
SINCE = f"""
WITH found AS (
    SELECT capability, count FROM invocation_counts WHERE bucket >= $3 AND count > 0
    UNION ALL
    SELECT {CAPABILITY}, count(*) FROM audit_events
    WHERE type = 'capability.invoked' AND ts >= $1 AND ts < $3 GROUP BY 1
    UNION ALL
    SELECT {CAPABILITY}, count(*) FROM (
        SELECT type, ts, payload, grants FROM audit_events
        WHERE seq > (SELECT coalesce(max(counted_through), 0) FROM invocation_progress)
        ORDER BY seq OFFSET 0
    ) AS uncounted WHERE type = 'capability.invoked' AND ts >= $3 GROUP BY 1
    UNION ALL
    SELECT {CAPABILITY}, count(*) FROM audit_events
    WHERE seq IS NULL AND type = 'capability.invoked' AND ts >= $3 GROUP BY 1
), summed AS (
    SELECT capability, sum(count)::bigint AS count FROM found GROUP BY 1
)
{TOP}
"""

# While much is left, as at the first start on an old log, the log alone is quicker.
SINCE_BY_THE_LOG = f"""
WITH summed AS (
    SELECT {CAPABILITY} AS capability, count(*) AS count FROM audit_events
    WHERE type = 'capability.invoked' AND ts >= $1 GROUP BY 1
)
{TOP}
"""
NEARLY = 50_000


async def behind(conn: Connection) -> int:
    """How many places of the log the job has still to count."""
    return int(await conn.fetchval(BEHIND))


async def count_next(conn: Connection, limit: int) -> int:
    """Count the next `limit` events of the log at most, in the caller's transaction; how many there were.

    Replicas, and the sweep, wait for each other.
    """
    through = await hold(conn)
    if through is None:
        return 0
    counted = int(await conn.fetchval(COUNT_NEXT, through, limit))
    if through and not counted:
        await conn.fetchval(RESTART_PAST_THE_END)
    return counted


async def hold(conn: Connection) -> int | None:
    """Keep others from counting to the end of the transaction, so that what is deleted was counted or never is.

    How far was counted; None without a row, when all is read from the log.
    """
    through: int | None = await conn.fetchval(HOLD_PROGRESS)
    return through


async def since(conn: Connection, start: datetime, top: int) -> Invocations:
    """All reported invocations with `ts` at or after `start`, and the `top` most used capabilities that are named."""
    if await behind(conn) <= NEARLY:
        first_whole_bucket = start + (EPOCH - start) % BUCKET
        rows = await conn.fetch(SINCE, start, top, first_whole_bucket)
    else:
        rows = await conn.fetch(SINCE_BY_THE_LOG, start, top)
    total, *named = rows
    return Invocations(total["count"], [CapabilityCount(row["capability"], row["count"]) for row in named])
