"""Statements on replicas and job_runs."""

from collections.abc import Collection
from uuid import UUID

import msgspec

from aitp_cp.db import Connection, shown
from aitp_cp.db.views import View
from aitp_cp.ops.model import Beat, JobView, ReplicaView
from aitp_cp.telemetry.job_runs import JobRun

BEAT_SECS = 10
LIVE_SECS = 35  # three beats and a bit
KEPT_SECS = 3600  # a process that restarts again and again leaves 360 rows
RUNS_KEPT_DAYS = 30  # of a job that no version runs any more
MAX_ROWS = 1000

BEAT = """
INSERT INTO replicas (id, version, started_at, seen_at, position, lag_ms) VALUES ($1, $2, $3, now(), $4, $5)
ON CONFLICT (id) DO UPDATE SET seen_at = now(), position = excluded.position, lag_ms = excluded.lag_ms
"""
LEAVE = "DELETE FROM replicas WHERE id = $1"

# The parameters are the members of `JobRun`, in their order.
RECORD = """
INSERT INTO job_runs AS stored (name, ran_at, ms, replica, failed_at, error)
SELECT name, ran_at, ms, $6, failed_at, error
FROM unnest($1::text[], $2::timestamptz[], $3::integer[], $4::timestamptz[], $5::text[])
     AS new (name, ran_at, ms, failed_at, error)
ORDER BY name
ON CONFLICT (name) DO UPDATE
SET ran_at = greatest(stored.ran_at, excluded.ran_at),
    ms = CASE WHEN excluded.ran_at >= stored.ran_at THEN excluded.ms ELSE stored.ms END,
    replica = CASE WHEN excluded.ran_at >= stored.ran_at THEN excluded.replica ELSE stored.replica END,
    failed_at = greatest(stored.failed_at, excluded.failed_at),
    error = CASE WHEN excluded.failed_at >= coalesce(stored.failed_at, '-infinity') THEN excluded.error
                 ELSE stored.error END
"""

SWEEP = f"""
WITH gone AS (DELETE FROM replicas WHERE seen_at < now() - interval '{KEPT_SECS} seconds')
DELETE FROM job_runs WHERE ran_at < now() - interval '{RUNS_KEPT_DAYS} days'
"""

REPLICA = View(
    ReplicaView,
    {
        "started_at": shown("started_at"),
        "seen_at": shown("seen_at"),
        "live": f"seen_at > now() - interval '{LIVE_SECS} seconds'",
        "behind": "greatest(max(position) OVER () - position, 0)",
        "lag_secs": "lag_ms / 1000.0::float8",
    },
)
JOB = View(
    JobView,
    {
        "ran_at": shown("ran_at"),
        "failed_at": shown("failed_at"),
        "failing": "coalesce(failed_at >= ran_at, false)",
    },
)
REPLICAS = f"SELECT {REPLICA.sql} FROM replicas ORDER BY replicas.started_at, id LIMIT {MAX_ROWS}"
JOBS = f"SELECT {JOB.sql} FROM job_runs ORDER BY name LIMIT {MAX_ROWS}"


async def beat(conn: Connection, beat: Beat) -> None:
    """Write that this process lives, and where its tail is; the database's clock says when."""
    await conn.execute(BEAT, *msgspec.structs.astuple(beat))


async def leave(conn: Connection, id: UUID) -> None:
    await conn.execute(LEAVE, id)


async def record(conn: Connection, runs: Collection[JobRun], replica: UUID) -> None:
    """Write the latest runs; of two replicas' runs the later one stands, and so does the later failure."""
    columns = zip(*map(msgspec.structs.astuple, runs), strict=True)
    await conn.execute(RECORD, *map(list, columns), replica)


async def sweep(conn: Connection) -> None:
    """Delete processes that have long been silent, and jobs that have long not run."""
    await conn.execute(SWEEP)


async def replicas(conn: Connection) -> list[ReplicaView]:
    """Return the processes seen within the last hour, the one that runs longest first."""
    return [REPLICA.read(row) for row in await conn.fetch(REPLICAS)]


async def jobs(conn: Connection) -> list[JobView]:
    """Return the latest run of each job, by name."""
    return [JOB.read(row) for row in await conn.fetch(JOBS)]
