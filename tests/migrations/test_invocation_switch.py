"""The switch from the job that counted invocations to triggers counts every event once (decision 18)."""

import asyncio
import importlib
from datetime import timedelta

import asyncpg
import pytest

from aitp_cp.clock import now
from aitp_cp.db.migrations.run import upgrade
from aitp_cp.events.invocations import invocations
from tests.events.support import connected

pytestmark = pytest.mark.anyio

MIGRATION = importlib.import_module("aitp_cp.db.migrations.versions.0018_capability_counts")
DAY_AGO = now() - timedelta(days=1)

# The database as the version before left it: no triggers, and a job that has come some way.
BEFORE = (
    *(f"DROP TRIGGER count_capabilities_{event} ON audit_events" for event in MIGRATION.CHANGES),
    "DROP TABLE capability_counts",
    "INSERT INTO invocation_progress DEFAULT VALUES",
    "UPDATE aitp_cp_version SET version_num = '0017_activity_counts'",
)

# Statements of the version before, on which its append, its job and its dashboard rest.
OLD_APPEND = """
INSERT INTO audit_events (id, type, ts, grants, payload, seq)
SELECT gen_random_uuid(), 'capability.invoked', now() - interval '3 hours', NULL, '{"capability": "cap"}',
       nextval('audit_events_seq')
FROM generate_series(1, $1)
"""
OLD_JOB = """
WITH next AS MATERIALIZED (
    SELECT seq, date_bin('10 minutes', ts, 'epoch'::timestamptz) AS bucket, payload ->> 'capability' AS capability
    FROM audit_events WHERE seq > (SELECT counted_through FROM invocation_progress) ORDER BY seq LIMIT $1
), counted AS (
    INSERT INTO invocation_counts AS stored (bucket, capability, count)
    SELECT bucket, capability, count(*) FROM next GROUP BY 1, 2
    ON CONFLICT (bucket, capability) DO UPDATE SET count = stored.count + excluded.count
), moved AS (
    UPDATE invocation_progress SET counted_through = (SELECT max(seq) FROM next) WHERE EXISTS (SELECT 1 FROM next)
)
SELECT count(*) FROM next
"""
OLD_FIGURE = """
SELECT coalesce((SELECT sum(count) FROM invocation_counts WHERE bucket >= $1), 0)::int
     + (SELECT count(*) FROM audit_events
        WHERE seq > (SELECT coalesce(max(counted_through), 0) FROM invocation_progress) AND ts >= $1)::int
"""
OLD_SWEEP = "DELETE FROM audit_events WHERE id IN (SELECT id FROM audit_events ORDER BY seq LIMIT $1)"


async def figures(conn: asyncpg.Connection) -> tuple[int, int, int]:
    """What the log holds, what this version shows of it, and what the version before shows."""
    held = await conn.fetchval("SELECT count(*) FROM audit_events")
    shown = await invocations(conn, DAY_AGO, 10)
    return held, shown.total, await conn.fetchval(OLD_FIGURE, DAY_AGO)


async def test_what_the_job_has_and_has_not_counted_counts_once(database_url: str) -> None:
    async with connected(database_url) as conn:
        for statement in BEFORE:
            await conn.execute(statement)
        await conn.execute(OLD_APPEND, 100)
        assert await conn.fetchval(OLD_JOB, 40) == 40
        assert (await upgrade(database_url))[0] == "0018_capability_counts"
        assert await figures(conn) == (100, 100, 100)


async def test_the_version_before_may_run_on_beside_this_one(database_url: str) -> None:
    async with connected(database_url) as conn:
        for statement in BEFORE:
            await conn.execute(statement)
        await conn.execute(OLD_APPEND, 10)
        await upgrade(database_url)
        for _ in range(3):
            await conn.execute(OLD_APPEND, 10)
            assert await conn.fetchval(OLD_JOB, 100) == 0
            await conn.execute(OLD_SWEEP, 3)
        assert await figures(conn) == (31, 31, 31)


async def test_reports_during_the_switch_are_counted_once(database_url: str) -> None:
    async with connected(database_url) as writer, connected(database_url) as conn:
        for statement in BEFORE:
            await conn.execute(statement)
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute(OLD_APPEND, 10)
        migration = asyncio.create_task(upgrade(database_url))
        await asyncio.sleep(0.3)
        await writer.execute(OLD_APPEND, 10)
        await transaction.commit()
        while not migration.done():
            await writer.execute(OLD_APPEND, 1)
        await migration
        held, shown, old = await figures(conn)
        assert held == shown == old > 20


async def test_the_recount_can_be_repeated(database_url: str) -> None:
    async with connected(database_url) as conn:
        await conn.execute(OLD_APPEND, 10)
        for _ in range(2):
            await conn.execute(MIGRATION.recount())
        assert await figures(conn) == (10, 10, 10)
        await conn.execute("UPDATE capability_counts SET count = 3")
        await conn.execute(MIGRATION.recount())
        assert await figures(conn) == (10, 10, 10)
