"""Rows of an older control plane get their place in the log, and streams see them."""

import asyncio

import pytest

from aitp_cp.events.jobs import BATCH, JOBS, adopt
from aitp_cp.runtime import Runtime
from tests.events.support import append_numbers, connected, replica, runtime

pytestmark = pytest.mark.anyio

LEGACY = """
INSERT INTO audit_events (id, type, ts, grants, payload)
SELECT gen_random_uuid(), 'legacy', now() - make_interval(days => 30) + make_interval(secs => number), 'null',
       jsonb_build_object('number', number)
FROM generate_series(1, $1) AS number
"""
NUMBERS = "SELECT array_agg((payload->>'number')::int ORDER BY seq) FROM audit_events WHERE type = 'legacy'"


async def test_legacy_rows_appear_in_the_stream_oldest_first(database_url: str) -> None:
    async with replica(database_url) as one, one.stream() as reader, connected(database_url) as conn:
        assert await append_numbers(one.rt, range(1)) == await reader.places(1)
        await conn.execute(LEGACY, 5)
        await adopt(one.rt)
        events = [await reader.event() for _ in range(5)]
        assert [event["payload"]["number"] for event in events] == [1, 2, 3, 4, 5]
        assert [event["seq"] for event in events] == [2, 3, 4, 5, 6]
        assert all(event["grants"] == [] for event in events)


async def test_replicas_together_give_each_row_one_place(database_url: str) -> None:
    count = 3 * BATCH + 7
    async with runtime(database_url) as one, runtime(database_url) as two, connected(database_url) as conn:
        await conn.execute(LEGACY, count)
        await asyncio.gather(adopt(one), adopt(two), append_numbers(one, range(3)), append_numbers(two, range(3)))
        await adopt(one)
        assert await conn.fetchval(NUMBERS) == list(range(1, count + 1))
        assert await conn.fetchval("SELECT count(DISTINCT seq) FROM audit_events") == count + 6


async def test_with_nothing_to_do_the_log_is_not_locked(database_url: str) -> None:
    async with runtime(database_url) as rt, connected(database_url) as conn, conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock(4694481020131148801)")
        async with asyncio.timeout(4):  # before the lock times out
            await adopt(rt)


async def test_the_job_is_scheduled(database_url: str) -> None:
    job = next(job for job in JOBS if job.name == "events.adopt")
    assert job.every_secs == 30

    async def unsequenced(rt: Runtime) -> bool:
        async with rt.db.connection() as conn:
            return bool(await conn.fetchval("SELECT EXISTS (SELECT 1 FROM audit_events WHERE seq IS NULL)"))

    async with runtime(database_url) as rt, connected(database_url) as conn:
        await conn.execute(LEGACY, 2)
        assert await unsequenced(rt)
        await job.run(rt)
        assert not await unsequenced(rt)
