"""How batches become groups: those that wait together are one, and a second group goes on while the first commits."""

import asyncio
from uuid import uuid4

import pytest

from aitp_cp.clock import now
from aitp_cp.db import Connection, Database
from aitp_cp.db.group_commit import GROUPS_AT_ONCE, SECOND_GROUP_SIZE
from aitp_cp.db.locks import GRAPH, LOG, lock, lock_agent
from aitp_cp.errors import ShuttingDown
from aitp_cp.ingest.model import Submission
from aitp_cp.ingest.writer import Writer
from tests.containment.support import claimed
from tests.ingest.support import store, submission
from tests.support.agents import new_agent
from tests.support.app import App

pytestmark = pytest.mark.anyio

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"


def events(count: int, **more: object) -> list[dict[str, object]]:
    return [{"type": "demo.event", "ts": now().isoformat(), "id": str(uuid4()), **more} for _ in range(count)]


def submitted(app: App, count: int) -> "asyncio.Task[int]":
    return asyncio.create_task(inserted(app, submission(*events(count))))


async def inserted(app: App, batch: Submission) -> int:
    counts = (await app.rt.get(Writer).submit(batch)).counts
    assert counts is not None
    return counts.inserted


async def waiting_groups(conn: Connection, count: int) -> None:
    """Until so many groups stand before the log."""
    async with asyncio.timeout(10):
        while await conn.fetchval(WAITING) != count:
            await asyncio.sleep(0.01)


async def stored(app: App) -> int:
    async with app.rt.db.connection() as conn:
        return int(await conn.fetchval("SELECT count(*) FROM audit_events"))


async def test_batches_that_come_together_share_a_transaction(app: App) -> None:
    before = app.rt.db.commits
    assert await asyncio.gather(*(submitted(app, 1) for _ in range(60))) == [1] * 60
    assert app.rt.db.commits - before < 10
    assert await stored(app) == 60


async def test_a_second_group_waits_at_the_log_and_the_third_gathers(app: App) -> None:
    async with app.rt.db.connection() as watching:
        async with app.rt.db.transaction() as holding:
            await lock(holding, LOG)
            first = submitted(app, 1)
            await waiting_groups(watching, 1)
            few = [submitted(app, 1) for _ in range(10)]
            await asyncio.sleep(0.05)
            assert await watching.fetchval(WAITING) == 1  # too few for a group of their own
            many = [submitted(app, SECOND_GROUP_SIZE) for _ in range(3)]
            await waiting_groups(watching, GROUPS_AT_ONCE)
            more = [submitted(app, SECOND_GROUP_SIZE) for _ in range(3)]
            await asyncio.sleep(0.05)
            assert await watching.fetchval(WAITING) == GROUPS_AT_ONCE
            assert not any(task.done() for task in (first, *few, *many, *more))
        responses = await asyncio.gather(first, *few, *many, *more)
    assert responses == [1] * 11 + [SECOND_GROUP_SIZE] * 6
    assert await stored(app) == sum(responses)


async def test_two_groups_with_the_same_events_store_them_once(app: App) -> None:
    same = submission(*events(SECOND_GROUP_SIZE, session_id="s"))
    async with app.rt.db.connection() as watching:
        async with app.rt.db.transaction() as holding:
            await lock(holding, LOG)
            one = asyncio.create_task(inserted(app, same))
            await waiting_groups(watching, 1)
            other = asyncio.create_task(inserted(app, same))
            await waiting_groups(watching, 2)
        assert sorted(await asyncio.gather(one, other)) == [0, SECOND_GROUP_SIZE]
    assert await stored(app) == SECOND_GROUP_SIZE


async def test_the_end_writes_what_is_waiting_and_takes_nothing_more(app: App) -> None:
    writer = app.rt.get(Writer)
    tasks = [submitted(app, 20) for _ in range(30)]
    await asyncio.sleep(0)
    await writer.stop()
    assert [task.result() for task in tasks] == [20] * 30
    assert await stored(app) == 600
    with pytest.raises(ShuttingDown):
        await writer.submit(submission(*events(1)))


async def test_a_group_that_the_server_ends_to_free_others_is_stored_all_the_same(db: Database) -> None:
    """A deadlock: the group holds its agents and waits for the graph, whose holder waits for one of them."""
    agent = new_agent().aid
    async with db.connection() as watching, db.connection() as conn:
        await conn.execute("SET deadlock_timeout = '60s'")  # so that the group is the one to end
        async with conn.transaction():
            await lock(conn, GRAPH)
            group = asyncio.create_task(store(db, claimed(agent, new_agent().aid)))
            await waiting_groups(watching, 1)
            await lock_agent(conn, agent)
    assert await group == 1
