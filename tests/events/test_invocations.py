"""Invocations counted by ten minutes: whatever the job and the sweep have done, a range shows what the log holds."""

import asyncio
import json
import random
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from aitp_cp.clock import now
from aitp_cp.events import invocations, service
from aitp_cp.events.jobs import JOBS, count_invocations
from aitp_cp.events.model import CapabilityCount, Invocations, NewEvent
from aitp_cp.runtime import Runtime
from tests.events.support import append, append_numbers, connected, runtime

pytestmark = pytest.mark.anyio

TRUTH = """
SELECT coalesce(payload ->> 'capability', '') AS capability, count(*) AS count FROM audit_events
WHERE type = 'capability.invoked' AND ts >= $1 GROUP BY 1 ORDER BY 2 DESC, 1
"""
LEGACY = """
INSERT INTO audit_events (id, type, ts, grants, payload)
SELECT gen_random_uuid(), 'capability.invoked', $1, 'null', '{"capability": "legacy"}'
"""


def invoked(ts: datetime, capability: Any = "cap.read") -> NewEvent:
    return NewEvent(uuid4(), "capability.invoked", ts, json.dumps({"capability": capability}))


async def shown(rt: Runtime, start: datetime) -> Invocations:
    async with rt.db.connection() as conn:
        return await service.invocations(conn, start, 10)


async def count(rt: Runtime, limit: int = 100) -> int:
    async with rt.db.connection() as conn:
        return await service.count_invocations(conn, limit)


async def counted(rt: Runtime) -> int:
    """What the job has counted and no sweep has taken back."""
    async with rt.db.connection() as conn:
        return int(await conn.fetchval("SELECT coalesce(sum(count), 0)::int FROM invocation_counts"))


async def sweep(rt: Runtime, before: datetime, limit: int = 100) -> int:
    async with rt.db.transaction() as conn:
        return await service.forget(conn, before, limit)


async def in_the_log(rt: Runtime, start: datetime) -> Invocations:
    async with rt.db.connection() as conn:
        rows = await conn.fetch(TRUTH, start)
    named = [CapabilityCount(row["capability"], row["count"]) for row in rows if row["capability"]]
    return Invocations(sum(row["count"] for row in rows), named[:10])


@pytest.mark.parametrize("seed", range(4))
async def test_in_any_order_of_reports_counts_and_sweeps_the_figures_are_those_of_the_log(
    database_url: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(invocations, "NEARLY", 50_000 if seed % 2 else 0)
    newest = now()

    def some_time() -> datetime:
        return newest - timedelta(minutes=rng.choice([0, 5, 10, 60, 1440, 43_000, 80_000]), seconds=rng.random() * 600)

    async with runtime(database_url) as rt, connected(database_url) as conn:

        async def reports() -> None:
            names = [rng.choice(["a", "b", "c", None]) for _ in range(rng.randint(1, 9))]
            await append(rt, *(invoked(some_time(), name) for name in names), NewEvent(uuid4(), "other", newest, "{}"))

        async def legacy() -> None:
            await conn.execute(LEGACY, some_time())

        async def counts() -> None:
            await count(rt, rng.randint(1, 12))

        async def sweeps() -> None:
            await sweep(rt, newest + timedelta(hours=1), 3)

        async def numbers() -> None:
            async with rt.db.transaction() as numbering:
                await service.adopt(numbering, 2)

        for _ in range(60):
            await rng.choice([reports, reports, legacy, counts, counts, sweeps, numbers])()
            start = some_time() if rng.random() < 0.7 else newest - timedelta(days=30)
            if start >= newest - timedelta(days=30):
                assert await shown(rt, start) == await in_the_log(rt, start)
        assert await counted(rt) > 0


async def test_a_range_begins_to_the_microsecond_inside_ten_minutes_that_are_counted(database_url: str) -> None:
    moment, tick = now() - timedelta(hours=1), timedelta(microseconds=1)
    async with runtime(database_url) as rt:
        await append(rt, invoked(moment - tick), invoked(moment), invoked(moment + tick))
        assert await count(rt) == 3
        assert [(await shown(rt, moment + step * tick)).total for step in (-2, -1, 0, 1, 2)] == [3, 3, 2, 1, 0]


async def test_what_is_counted_is_not_read_again(database_url: str) -> None:
    async with runtime(database_url) as rt, connected(database_url) as conn:
        await append(rt, *(invoked(now() - timedelta(hours=2)) for _ in range(5)))
        await count(rt)
        await conn.execute("DELETE FROM audit_events")
        assert (await shown(rt, now() - timedelta(days=1))).total == 5


async def test_replicas_together_count_each_event_once(database_url: str) -> None:
    async with runtime(database_url) as one, runtime(database_url) as two:
        for _ in range(10):
            await append(one, *(invoked(now() - timedelta(hours=2)) for _ in range(7)))
        await asyncio.gather(*(count(rt, 9) for rt in (one, two) for _ in range(12)))
        await count_invocations(two)
        assert await counted(one) == 70


async def test_a_sweep_and_the_job_at_once_leave_no_count_behind(database_url: str) -> None:
    past = now() - timedelta(days=2)
    async with runtime(database_url) as one, runtime(database_url) as two:
        await append(one, *(invoked(past) for _ in range(200)))
        while (await asyncio.gather(sweep(one, now(), 7), count(two, 5)))[0]:
            pass
        await count_invocations(two)
        assert await counted(one) == 0
        assert (await shown(two, past)).total == 0


@pytest.mark.parametrize("capability", ["long" * 50_000, {"name": "é" * 9000}, "nul-free \\u0001 'quoted'", "", None])
async def test_no_name_stops_the_job(database_url: str, capability: Any) -> None:
    async with runtime(database_url) as rt:
        await append(rt, invoked(now() - timedelta(hours=2), capability))
        before = await shown(rt, now() - timedelta(days=1))
        assert await count(rt) == 1
        assert await shown(rt, now() - timedelta(days=1)) == before
        assert before.total == 1
        assert all(0 < len(named.capability) <= 500 for named in before.top)


async def test_a_row_without_end_stops_nothing(database_url: str) -> None:
    async with runtime(database_url) as rt, connected(database_url) as conn:
        await append(rt, *(invoked(now() - timedelta(hours=2)) for _ in range(2)))
        await conn.execute("UPDATE audit_events SET ts = 'infinity' WHERE seq = 1")
        assert await count(rt) == 2
        assert await counted(rt) == 1


async def test_what_no_range_reaches_is_dropped(database_url: str) -> None:
    async with runtime(database_url) as rt, connected(database_url) as conn:
        await append(rt, invoked(now() - timedelta(days=40)), invoked(now() - timedelta(days=29)))
        await conn.execute("INSERT INTO invocation_counts VALUES (now() - interval '33 days', 'old', 4)")
        await count(rt)
        assert await counted(rt) == 1


async def test_after_a_reset_all_is_counted_again(database_url: str) -> None:
    """What docs/operations.md tells to do after events were deleted by hand."""
    async with runtime(database_url) as rt, connected(database_url) as conn:
        await append(rt, *(invoked(now() - timedelta(hours=2)) for _ in range(5)))
        await count(rt)
        await conn.execute("DELETE FROM audit_events WHERE seq <= 2")
        async with conn.transaction():
            await conn.execute("UPDATE invocation_progress SET counted_through = 0")
            await conn.execute("DELETE FROM invocation_counts")
        for _ in range(2):
            assert (await shown(rt, now() - timedelta(days=1))).total == 3
            await count(rt)


async def test_the_job_is_scheduled_and_quiet_when_there_is_nothing_new(database_url: str) -> None:
    job = next(job for job in JOBS if job.name == "events.count_invocations")
    assert job.every_secs == 5
    async with runtime(database_url) as rt, connected(database_url) as conn:
        await append_numbers(rt, range(3), type="capability.invoked")
        await job.run(rt)
        assert await counted(rt) == 3
        async with conn.transaction():
            await conn.execute(invocations.HOLD_PROGRESS)
            async with asyncio.timeout(2):
                await job.run(rt)


async def test_the_job_waits_for_a_sweep_and_then_goes_on(database_url: str) -> None:
    async with runtime(database_url) as rt, connected(database_url) as conn:
        await append_numbers(rt, range(3), type="capability.invoked")
        async with conn.transaction():
            await conn.execute(invocations.HOLD_PROGRESS)
            waiting = asyncio.create_task(count_invocations(rt))
            await asyncio.sleep(0.1)
            assert not waiting.done()
        await waiting
        assert await counted(rt) == 3
