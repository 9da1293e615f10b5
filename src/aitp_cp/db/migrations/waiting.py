"""Report what a migration waits for, from a second connection."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import asyncpg

from aitp_cp.db.connect import connect, ending
from aitp_cp.db.locks import MIGRATION

Report = Callable[[str], None]

LOOK_EVERY_SECS = 1.0
REPORT_AFTER_SECS = 2.0
AGAIN_AFTER_SECS = 30.0

# An index build waits for the transactions of others: their virtual transaction ids are locks too.
_BLOCKERS = """
SELECT blocker AS pid, a.application_name, a.usename::text, a.state, coalesce(a.xact_start, a.backend_start) AS since,
       (SELECT coalesce(min(relation::regclass::text), '') FROM pg_locks
        WHERE pid = me.pid AND NOT granted AND relation IS NOT NULL) AS relation
FROM pg_stat_activity AS me, unnest(pg_blocking_pids(me.pid)) AS blocker
LEFT JOIN pg_stat_activity AS a ON a.pid = blocker
WHERE me.pid = $1 AND clock_timestamp() - me.query_start > $2::float8 * interval '1 second'
"""
# The holder of the migration lock, which is polled and never waited for in the server.
_HOLDER = """
SELECT l.pid, a.application_name, a.usename::text, a.state, a.backend_start AS since, '' AS relation
FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
AND l.classid::bigint << 32 | l.objid::bigint = $1
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@asynccontextmanager
async def watched(dsn: str, pid: int, report: Report) -> AsyncIterator[None]:
    """Report within a few seconds whatever blocks the session `pid` while the block runs."""
    task = asyncio.create_task(_watch(dsn, pid, report), name="migration-watch")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await task


async def other_migration(conn: asyncpg.Connection) -> str:
    """Return a sentence that names the session with the migration lock."""
    row = await conn.fetchrow(_HOLDER, MIGRATION.key)
    return f"waiting for another migration: {_session(row)}" if row else "waiting for another migration"


async def _watch(dsn: str, pid: int, report: Report) -> None:
    reported_at: dict[str, float] = {}
    with ending(await connect(dsn, application_name="aitp-cp migrate watch", command_timeout=10)) as conn:
        while True:
            now = asyncio.get_running_loop().time()
            blockers = await conn.fetch(_BLOCKERS, pid, REPORT_AFTER_SECS)
            sentences = [f"waiting for {_session(row)}{_holding(row)}" for row in blockers]
            due = [text for text in sentences if now - reported_at.get(text, float("-inf")) > AGAIN_AFTER_SECS]
            reported_at |= dict.fromkeys(due, now)
            for sentence in due:
                report(sentence)
            await asyncio.sleep(LOOK_EVERY_SECS)


def _session(row: asyncpg.Record) -> str:
    if not row["pid"]:
        return "a prepared transaction (see pg_prepared_xacts)"
    since = f"{row['since']:%Y-%m-%d %H:%M:%S} UTC" if row["since"] else "unknown"
    state = f", {row['state']}" if row["state"] else ""
    return (
        f"process {row['pid']} (application {row['application_name'] or 'unnamed'}, role {row['usename'] or 'unknown'}"
        f"{state}, since {since})"
    )


def _holding(row: asyncpg.Record) -> str:
    return f", which holds {row['relation']}" if row["relation"] else ", whose transaction is still open"
