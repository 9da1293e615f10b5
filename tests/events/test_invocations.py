"""Invocations counted by ten minutes: whoever wrote or deleted, a range shows what the log holds."""

import asyncio
import json
import random
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from aitp_cp.clock import now
from aitp_cp.events import service
from aitp_cp.events.model import CapabilityCount, Invocations, NewEvent
from aitp_cp.runtime import Runtime
from tests.events.support import append, connected, runtime

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


async def counted(rt: Runtime) -> int:
    async with rt.db.connection() as conn:
        return int(await conn.fetchval("SELECT coalesce(sum(count), 0)::int FROM capability_counts"))


async def sweep(rt: Runtime, before: datetime, limit: int = 100) -> int:
    async with rt.db.transaction() as conn:
        return await service.forget(conn, before, limit)


async def in_the_log(rt: Runtime, start: datetime) -> Invocations:
    async with rt.db.connection() as conn:
        rows = await conn.fetch(TRUTH, start)
    named = [CapabilityCount(row["capability"], row["count"]) for row in rows if row["capability"]]
    return Invocations(sum(row["count"] for row in rows), named[:10])


@pytest.mark.parametrize("seed", range(4))
async def test_in_any_order_of_reports_and_sweeps_the_figures_are_those_of_the_log(
    database_url: str, seed: int
) -> None:
    rng = random.Random(seed)
    newest = now()

    def some_time() -> datetime:
        return newest - timedelta(minutes=rng.choice([0, 5, 10, 60, 1440, 43_000, 80_000]), seconds=rng.random() * 600)

    async with runtime(database_url) as rt, connected(database_url) as conn:

        async def reports() -> None:
            names = [rng.choice(["a", "b", "c", None]) for _ in range(rng.randint(1, 9))]
            await append(rt, *(invoked(some_time(), name) for name in names), NewEvent(uuid4(), "other", newest, "{}"))

        async def legacy() -> None:
            await conn.execute(LEGACY, some_time())

        async def sweeps() -> None:
            await sweep(rt, newest + timedelta(hours=1), 3)

        async def by_hand() -> None:
            await conn.execute("DELETE FROM audit_events WHERE id IN (SELECT id FROM audit_events ORDER BY id LIMIT 2)")

        async def corrects() -> None:
            await conn.execute("UPDATE audit_events SET ts = ts - interval '1 hour' WHERE seq % 7 = 0")

        async def numbers() -> None:
            async with rt.db.transaction() as numbering:
                await service.adopt(numbering, 2)

        for _ in range(60):
            await rng.choice([reports, reports, reports, legacy, legacy, sweeps, numbers, by_hand, corrects])()
            start = some_time() if rng.random() < 0.7 else newest - timedelta(days=30)
            assert await shown(rt, start) == await in_the_log(rt, start)
        assert await counted(rt) > 0


async def test_a_range_begins_to_the_microsecond_inside_ten_minutes_that_are_counted(database_url: str) -> None:
    moment, tick = now() - timedelta(hours=1), timedelta(microseconds=1)
    async with runtime(database_url) as rt:
        await append(rt, invoked(moment - tick), invoked(moment), invoked(moment + tick))
        assert [(await shown(rt, moment + step * tick)).total for step in (-2, -1, 0, 1, 2)] == [3, 3, 2, 1, 0]


async def test_what_is_counted_is_not_read_again(database_url: str) -> None:
    async with runtime(database_url) as rt, connected(database_url) as conn:
        await append(rt, *(invoked(now() - timedelta(hours=2)) for _ in range(5)))
        await conn.execute("TRUNCATE audit_events")  # unlike a deletion, it tells no trigger
        assert (await shown(rt, now() - timedelta(days=1))).total == 5


async def test_a_rollback_takes_its_counts_with_it(database_url: str) -> None:
    async with runtime(database_url) as rt:
        with suppress(ZeroDivisionError):
            async with rt.db.transaction() as conn:
                await service.append(conn, [invoked(now() - timedelta(hours=2))], now())
                raise ZeroDivisionError
        await append(rt, invoked(now() - timedelta(hours=2)))
        assert await counted(rt) == 1


async def test_an_event_that_is_there_already_is_not_counted_again(database_url: str) -> None:
    event = invoked(now() - timedelta(hours=2))
    async with runtime(database_url) as rt:
        for _ in range(3):
            await append(rt, event, invoked(now()))
        assert await counted(rt) == 4


async def test_replicas_together_count_each_event_once(database_url: str) -> None:
    async with runtime(database_url) as one, runtime(database_url) as two:
        batches = [[invoked(now() - timedelta(hours=2), rng) for rng in "abcdefg"] for _ in range(20)]
        await asyncio.gather(*(append(rt, *batch) for batch in batches[::2] for rt in (one, two)))
        assert await counted(one) == 70


async def test_a_sweep_beside_reports_leaves_no_count_behind(database_url: str) -> None:
    past = now() - timedelta(days=2)
    async with runtime(database_url) as one, runtime(database_url) as two, connected(database_url) as conn:
        await append(one, *(invoked(past) for _ in range(200)))
        swept = 1
        while swept:
            swept, _ = await asyncio.gather(sweep(one, now(), 7), append(two, invoked(past, "late")))
        await conn.execute("DELETE FROM audit_events")
        assert await conn.fetch("SELECT * FROM capability_counts") == []
        assert (await shown(two, past)).total == 0


@pytest.mark.parametrize("capability", ["long" * 50_000, {"name": "é" * 9000}, "nul-free \\u0001 'quoted'", "", None])
async def test_no_name_stops_an_append(database_url: str, capability: Any) -> None:
    async with runtime(database_url) as rt, connected(database_url) as conn:
        await append(rt, invoked(now() - timedelta(hours=2), capability))
        by_counts = await shown(rt, now() - timedelta(days=1))
        assert await counted(rt) == by_counts.total == 1
        assert all(0 < len(named.capability) <= 500 for named in by_counts.top)
        await conn.execute("DELETE FROM audit_events")
        assert await counted(rt) == 0


@pytest.mark.parametrize("ts", ["infinity", "-infinity", "294276-12-31", "4713-01-01 BC"])
async def test_a_time_without_end_stops_nothing(database_url: str, ts: str) -> None:
    async with runtime(database_url) as rt, connected(database_url) as conn:
        await append(rt, *(invoked(now() - timedelta(hours=2)) for _ in range(2)))
        await conn.execute(f"UPDATE audit_events SET ts = '{ts}' WHERE seq = 1")
        assert (await shown(rt, now() - timedelta(days=1))).total == 1 + (ts in ("infinity", "294276-12-31"))
        await conn.execute("DELETE FROM audit_events")
        assert await counted(rt) == 0
